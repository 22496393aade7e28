"""A network drawn from top to bottom: every layer a pile of feature maps, with its numbers beside it."""

import math

from nasopt.cost import Cost, LayerCost, count_cost
from nasopt.drawing.svg import INK, group, picture, rect, text
from nasopt.genome import ConvLayer, Genome, ImageShape

WIDTH = 360
CENTRE = 50  # of the piles
TEXT_X = 108
GAP = 16  # between two layers, for the arrow
MAX_SIDE = 40.0  # of the input's feature map
MIN_SIDE = 6.0
SHEET_OFFSET = 2.5
MAX_SHEETS = 9
FLAT_HEIGHT = 14.0  # of a layer without feature maps
MAX_FLAT_WIDTH = 84.0
MIN_ROW = 34.0  # room for two lines of text
MARGIN = 8.0

MAP, REDUCTION, DENSE = "var(--map, #7fb2dc)", "var(--reduction, #e9a46a)", "var(--dense, #8fc7a9)"


def draw_network(
    genome: Genome, image: ImageShape, n_classes: int, *, ident: str = "network"
) -> str:
    """The network of ``genome`` as an SVG element, 360 pixels wide.

    Args:
        genome: the architecture.
        image: the shape of one image.
        n_classes: the number of classes.
        ident: makes the ids in it unique, where a page holds several.

    Raises:
        GenomeError: if the genome does not fit the image.
    """
    cost = count_cost(genome, image, n_classes)
    content, height = layer_column(genome, cost, image)
    title = f"Network with {cost.n_params:,} parameters: {genome}"
    return picture((WIDTH, height), ident, title, describe(cost, image), content)


def layer_column(genome: Genome, cost: Cost, image: ImageShape) -> tuple[str, float]:
    """All layers below each other, and the height in pixels that they take."""
    parts = []
    top = MARGIN
    rows = [_input_row(image), *_conv_rows(genome, cost, image), *_head_rows(genome, cost)]
    for i, (glyph, glyph_height, title, lines) in enumerate(rows):
        height = max(glyph_height, MIN_ROW)
        middle = top + height / 2
        labels = text(TEXT_X, middle - 3, lines[0], size=13, bold=True)
        labels += text(TEXT_X, middle + 14, lines[1])
        shifted = f'<g transform="translate(0 {middle - glyph_height / 2:g})">{glyph}</g>'
        parts.append(group(title, shifted + labels))
        top += height
        if i < len(rows) - 1:
            parts.append(_arrow(top + 2, top + GAP - 2))
            top += GAP
    return "".join(parts), top + MARGIN


def describe(cost: Cost, image: ImageShape) -> str:
    """The network in a sentence, for those who cannot see the drawing."""
    steps = (f"{row.name}, output {row.output}, {_count(row.n_params)}" for row in cost.layers)
    return f"From top to bottom: input {image}; " + "; ".join(steps) + "."


Row = tuple[str, float, str, tuple[str, str]]  # the glyph, its height, its name, two lines of text


def _input_row(image: ImageShape) -> Row:
    glyph, height = _pile(image, image, "var(--input, #c8ccd1)")
    return glyph, height, "input", ("input", str(image))


def _conv_rows(genome: Genome, cost: Cost, image: ImageShape) -> list[Row]:
    rows = []
    for layer, row in zip(genome.layers, cost.layers, strict=False):
        glyph, height = _pile(row.output, image, MAP if layer.kind == "NC" else REDUCTION)
        lines = (in_words(layer), f"{row.output} · {_count(row.n_params)}")
        rows.append((glyph, height, str(layer), lines))
    return rows


def _head_rows(genome: Genome, cost: Cost) -> list[Row]:
    rows = []
    for row in cost.layers[len(genome.layers) :]:
        lines = (row.name, _head_numbers(row))
        rows.append((_flat(row.output.channels), FLAT_HEIGHT, row.name, lines))
    return rows


def _head_numbers(row: LayerCost) -> str:
    values = f"{row.output.channels} value{'s' if row.output.channels > 1 else ''}"
    return f"{values} · {_count(row.n_params)}" if row.n_params else values


def in_words(layer: ConvLayer) -> str:
    """A convolution in words: ``RC · 4 filters 3x3 · swish``."""
    plural = "s" if layer.filters > 1 else ""
    return f"{layer.kind} · {layer.filters} filter{plural} {layer.kernel}x{layer.kernel} · {layer.activation}"


def _pile(shape: ImageShape, image: ImageShape, fill: str) -> tuple[str, float]:
    """Feature maps in scale with the input's, more sheets for more channels; and the height of the pile."""
    largest = max(image.height, image.width)
    width, height = (
        MIN_SIDE + (MAX_SIDE - MIN_SIDE) * min(1.0, size / largest)
        for size in (shape.width, shape.height)
    )
    n_sheets = min(MAX_SHEETS, 1 + round(2 * math.log2(shape.channels)))
    spread = (n_sheets - 1) * SHEET_OFFSET
    left = CENTRE - (width + spread) / 2
    sheets = (
        rect(left + i * SHEET_OFFSET, spread - i * SHEET_OFFSET, width, height, fill)
        for i in range(n_sheets - 1, -1, -1)
    )
    return "".join(sheets), height + spread


def _flat(n_values: int) -> str:
    width = min(MAX_FLAT_WIDTH, 8 + 1.2 * n_values)
    return rect(CENTRE - width / 2, 0, width, FLAT_HEIGHT, DENSE)


def _arrow(top: float, bottom: float) -> str:
    return (
        f'<path d="M{CENTRE} {top:g}V{bottom:g}m-3 -4l3 4l3 -4" fill="none" stroke="{INK}" '
        'stroke-opacity="0.6"/>'
    )


def _count(n_params: int) -> str:
    return f"{n_params:,} parameter{'' if n_params == 1 else 's'}"
