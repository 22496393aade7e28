"""Draws the results of benchmarks as SVG files: median and quartiles of every method."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

ROW, PANEL, LEFT, TOP = 22, 320, 190, 60
COLOURS = ("#b8c4d6", "#5b86c4", "#12396f")
LINE_COLOURS = (
    "#12396f", "#d95f02", "#1b9e77", "#e7298a", "#7570b3", "#66a61e",
    "#a6761d", "#e6ab02", "#666666", "#1f9fd0", "#b2182b", "#000000",
)  # fmt: skip
WIDTH, HEIGHT, MARGIN = 460, 320, 60


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


@dataclass(frozen=True, slots=True)
class Panel:
    """A diagram: for every method, runs of shape ``(n_seeds, n)`` at the ``n`` places in ``x``."""

    title: str
    x_label: str
    x: Sequence[float]
    runs: Mapping[str, Sequence[Sequence[float]]]


def draw_lines(panels: Sequence[Panel], title: str) -> str:
    """The SVG of ``panels`` side by side: medians as lines, quartiles as bands.

    A method may have runs shorter than ``x``.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.runs))
    n_rows = -(-len(names) // 4)
    width, height = len(panels) * (WIDTH + 20), HEIGHT + 40 + 18 * n_rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
    ]
    for k, panel in enumerate(panels):
        parts += [
            f'<g transform="translate({k * (WIDTH + 20)} 20)">',
            *_panel(panel, names),
            "</g>",
        ]
    for k, name in enumerate(names):
        x, y = 20 + k % 4 * (width - 40) / 4, HEIGHT + 40 + 18 * (k // 4)
        colour = LINE_COLOURS[k % len(LINE_COLOURS)]
        parts.append(
            f'<path d="M{x:.0f} {y - 4}h18" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{x + 24:.0f}" y="{y}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, names: Sequence[str]) -> list[str]:
    bands = {
        name: np.quantile(np.array(runs, dtype=float), (0.25, 0.5, 0.75), axis=0)
        for name, runs in panel.runs.items()
    }
    low = min(band.min() for band in bands.values())
    high = max(band.max() for band in bands.values())
    high += (high == low) * max(abs(high), 1.0) * 0.1
    left, right, top, bottom = MARGIN, WIDTH - 10, 30, HEIGHT - 40
    x_low, x_high = panel.x[0], panel.x[-1]

    def place(x: float, y: float) -> str:
        across = left + (x - x_low) / ((x_high - x_low) or 1) * (right - left)
        return f"{across:.1f} {bottom - (y - low) / (high - low) * (bottom - top):.1f}"

    parts = [f'<text x="{left}" y="18" font-weight="bold">{escape(panel.title)}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, x = low + share * (high - low), x_low + share * (x_high - x_low)
        parts += [
            f'<path d="M{place(x_low, y)}L{place(x_high, y)}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{place(x_low, y).split()[1]}" text-anchor="end">{y:.4g}</text>',
            f'<text x="{place(x, low).split()[0]}" y="{bottom + 16}" text-anchor="middle">{x:.0f}</text>',
        ]
    parts.append(
        f'<text x="{(left + right) / 2}" y="{bottom + 34}" text-anchor="middle">'
        f"{escape(panel.x_label)}</text>"
    )
    for name, (first, median, third) in bands.items():
        colour = LINE_COLOURS[names.index(name) % len(LINE_COLOURS)]
        there = [place(x, y) for x, y in zip(panel.x, third, strict=False)]
        back = [place(x, y) for x, y in zip(panel.x, first, strict=False)][::-1]
        middle = "L".join(place(x, y) for x, y in zip(panel.x, median, strict=False))
        parts.append(
            f'<path d="M{"L".join(there + back)}Z" fill="{colour}" opacity="0.12"/>'
            f'<path d="M{middle}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
    return parts


def main() -> None:
    path = Path(sys.argv[1])
    title = "NAS-Bench-201: hypervolume regret"
    path.with_suffix(".svg").write_text(draw(json.loads(path.read_text()), (100, 200, 500), title))


if __name__ == "__main__":
    main()
