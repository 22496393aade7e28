"""Draws the results of a benchmark as one SVG file: median and quartiles of every method."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

ROW, PANEL, LEFT, TOP = 22, 320, 190, 60
COLOURS = ("#b8c4d6", "#5b86c4", "#12396f")


def draw(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[Sequence[float]]]]],
    checkpoints: Sequence[int],
    title: str,
) -> str:
    """The SVG of ``results[panel][method]["regrets"][seed][checkpoint]`` on a logarithmic axis."""
    names = list(dict.fromkeys(name for panel in results.values() for name in panel))
    values = [
        v for panel in results.values() for m in panel.values() for r in m["regrets"] for v in r
    ]
    low = math.floor(math.log10(max(min(values), 1e-5)))
    high = math.ceil(math.log10(max(values)))
    width, height = LEFT + PANEL * len(results) + 20, TOP + ROW * len(names) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
    ]
    for k, name in enumerate(names):
        parts.append(f'<text x="10" y="{TOP + ROW * k + 16}">{escape(name)}</text>')
    for p, (panel, methods) in enumerate(results.items()):
        start = LEFT + PANEL * p

        def across(value: float, start: int = start) -> float:
            share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
            return start + share * (PANEL - 30)

        parts.append(f'<text x="{start}" y="{TOP - 8}" font-weight="bold">{escape(panel)}</text>')
        bottom = TOP + ROW * len(names)
        for power in range(low, high + 1):
            x = across(10.0**power)
            parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#ddd"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">1e{power}</text>'
            )
        for name, method in methods.items():
            y = TOP + ROW * names.index(name) + 12
            for i, column in enumerate(np.array(method["regrets"]).T):
                q1, median, q3 = (across(v) for v in np.quantile(column, (0.25, 0.5, 0.75)))
                colour, up = COLOURS[i % 3], y + 5 * (i - 1)
                parts.append(
                    f'<path d="M{q1:.1f} {up}H{q3:.1f}" stroke="{colour}" stroke-width="3"/>'
                    f'<circle cx="{median:.1f}" cy="{up}" r="3.5" fill="{colour}"/>'
                )
    legend = "".join(
        f'<tspan fill="{COLOURS[i % 3]}">● {n} evaluations  </tspan>'
        for i, n in enumerate(checkpoints)
    )
    parts.append(f'<text x="{LEFT}" y="{height - 12}">{legend}(median, quartiles)</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    path = Path(sys.argv[1])
    title = "NAS-Bench-201: hypervolume regret"
    path.with_suffix(".svg").write_text(draw(json.loads(path.read_text()), (100, 200, 500), title))


if __name__ == "__main__":
    main()
