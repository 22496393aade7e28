"""A card of one trial: its network drawn, the layer table, and the learning curve, in one SVG file."""

from collections.abc import Sequence
from textwrap import wrap

from nasopt.cost import Cost, count_cost
from nasopt.drawing.network import WIDTH, describe, layer_column
from nasopt.drawing.svg import dot, line, path_through, picture, text
from nasopt.genome import Genome, ImageShape
from nasopt.records import TrialRecord
from nasopt.wording import format_share, number_of

CARD_WIDTH = 860
LEFT, TOP = 16, 16
TABLE_X = WIDTH + 40
COLUMNS = (TABLE_X, TABLE_X + 262, TABLE_X + 352, CARD_WIDTH - LEFT)  # the last three end there
ROW_HEIGHT = 21
LINE_HEIGHT = 17
GENOME_LINE, OUTCOME_LINE = 100, 120  # characters
PLOT_LEFT, PLOT_HEIGHT = TABLE_X + 44, 150
CURVE = "var(--curve, #1f6fb2)"
THEME = (
    "<style>:root{color:#1f2328;background:#fff;--paper:#fff}"
    "@media(prefers-color-scheme:dark){:root{color:#e6e8ea;background:#16181b;--paper:#16181b;"
    "--map:#2f5f88;--reduction:#8a5426;--dense:#2f6b4b;--input:#4a4f55;--curve:#6fb1e8}}</style>"
)


def draw_card(record: TrialRecord, image: ImageShape, n_classes: int, bar: float) -> str:
    """One trial as an SVG file of its own, with a background, for light and dark viewers.

    Raises:
        GenomeError: if the trial's genome does not fit the image.
    """
    genome = record.candidate.genome
    cost = count_cost(genome, image, n_classes)
    header, top = _header(record)
    network, network_height = layer_column(genome, cost, image)
    table, bottom = _table(cost, image, top + 20)
    curve, bottom = _curve(record, bar, bottom + 34)
    height = max(top + network_height, bottom) + TOP
    content = (
        THEME
        + f'<rect width="{CARD_WIDTH}" height="{height:g}" style="fill:var(--paper)"/>'
        + header
        + f'<g transform="translate({LEFT - 8} {top:g})">{network}</g>'
        + table
        + curve
    )
    title = f"Trial {record.number}, {cost.n_params:,} parameters: {genome}"
    description = f"{describe(cost, image)} {_outcome(record)}"
    return picture((CARD_WIDTH, height), f"trial-{record.number}", title, description, content)


def _header(record: TrialRecord) -> tuple[str, float]:
    parts = [
        text(
            LEFT,
            TOP + 14,
            f"Trial {record.number}: {record.n_params:,} parameters",
            size=18,
            bold=True,
        )
    ]
    y = TOP + 36.0
    for part in _wrap(record.candidate.genome):
        parts.append(f'<g font-family="ui-monospace, monospace">{text(LEFT, y, part)}</g>')
        y += LINE_HEIGHT
    candidate = record.candidate
    recipe = f"lr {candidate.lr:.4g}, lr_decay {candidate.lr_decay:.4g}. {_outcome(record)}"
    for part in wrap(recipe, OUTCOME_LINE):
        parts.append(text(LEFT, y, part))
        y += LINE_HEIGHT
    return "".join(parts), y - LINE_HEIGHT + 8


def _wrap(genome: Genome) -> list[str]:
    """The genome in lines, cut between its parts."""
    lines = [""]
    for part in str(genome).split(";")[:-1]:
        if len(lines[-1]) + len(part) >= GENOME_LINE:
            lines.append("")
        lines[-1] += f"{part};"
    return lines


def _outcome(record: TrialRecord) -> str:
    if record.evaluation is None:
        outcome = "Failed" if record.state == "failed" else "Not trained"
        return f"{outcome}: {record.reason or record.state}."
    accuracy, n_epochs = record.evaluation.val_accuracy, len(record.evaluation.curve)
    if record.evaluation.stopped:
        return f"Stopped after epoch {n_epochs}, at {accuracy:.2%} in validation."
    dead = "; it is dead: one class for every image" if record.evaluation.dead else ""
    return f"{accuracy:.2%} in validation after {number_of(n_epochs, 'epoch')}{dead}."


def _table(cost: Cost, image: ImageShape, top: float) -> tuple[str, float]:
    rows: list[Sequence[str]] = [
        ("layer", "output", "parameters", "MACs"),
        ("input", str(image), "", ""),
    ]
    rows += [
        (row.name, str(row.output), f"{row.n_params:,}", f"{row.macs:,}") for row in cost.layers
    ]
    rows.append(("total", "", f"{cost.n_params:,}", f"{cost.macs:,}"))
    parts = []
    y = top
    for i, cells in enumerate(rows):
        bold = i in (0, len(rows) - 1)
        parts.append(text(COLUMNS[0], y, cells[0], bold=bold))
        for x, cell in zip(COLUMNS[1:], cells[1:], strict=True):
            parts.append(text(x, y, cell, bold=bold, anchor="end") if cell else "")
        parts.append(line(COLUMNS[0], y + 6, COLUMNS[-1], y + 6, faint=not bold))
        y += ROW_HEIGHT
    return "".join(parts), y - ROW_HEIGHT + 6


def _curve(record: TrialRecord, bar: float, top: float) -> tuple[str, float]:
    """Validation accuracy by epoch, with the bar; nothing if the network was not trained."""
    curve = record.evaluation.curve if record.evaluation else ()
    if not curve:
        return "", top
    low, high = min(*curve, bar) - 0.02, max(*curve, bar) + 0.02
    right, bottom = COLUMNS[-1], top + PLOT_HEIGHT

    def x(epoch: int) -> float:
        return PLOT_LEFT + (right - PLOT_LEFT) * (epoch - 0.5) / len(curve)

    def y(accuracy: float) -> float:
        return bottom - PLOT_HEIGHT * (accuracy - low) / (high - low)

    parts = [
        text(TABLE_X, top - 10, "validation accuracy (%) after every epoch", bold=True),
        line(PLOT_LEFT, top, PLOT_LEFT, bottom),
        line(PLOT_LEFT, bottom, right, bottom),
        line(PLOT_LEFT, y(bar), right, y(bar), dash="5 4"),
        text(PLOT_LEFT + 6, y(bar) - 5, f"bar {format_share(bar)}", size=11),
    ]
    for accuracy in sorted({min(curve), max(curve)}):
        parts.append(
            text(PLOT_LEFT - 6, y(accuracy) + 4, f"{100 * accuracy:.1f}", size=11, anchor="end")
        )
        parts.append(line(PLOT_LEFT - 3, y(accuracy), PLOT_LEFT, y(accuracy)))
    points = [(x(epoch), y(accuracy)) for epoch, accuracy in enumerate(curve, start=1)]
    parts.append(path_through(points, CURVE))
    parts += [dot(*point, CURVE) for point in points]
    every = 1 + len(curve) // 20
    parts += [
        text(x(epoch), bottom + 14, str(epoch), size=11, anchor="middle")
        for epoch in range(1, len(curve) + 1, every)
    ]
    return "".join(parts), bottom + 20
