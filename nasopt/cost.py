"""What a network costs, counted from its genome alone: parameters, MACs, activation memory.

MACs count one multiply-accumulate per weight and output position, padding included, as is usual;
biases, activations and pooling are not counted. Activations are float32, for one image.
"""

import itertools
from dataclasses import dataclass

from nasopt.genome import Genome, ImageShape

HIDDEN_UNITS = 64
BYTES_PER_VALUE = 4
# What a network is given at once when nothing is learned, at most: images, and pixels of one of their channels.
BATCH = 1000
BATCH_PIXELS = BATCH * 28 * 28


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One row of the layer table: the layer, the shape of its output, and its costs."""

    name: str
    output: ImageShape
    n_params: int
    macs: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a whole network.

    ``peak_bytes`` is the largest sum, over layers, of a layer's input and output: the activation
    memory that inference on one image needs when every layer writes to a buffer of its own.
    """

    n_params: int
    macs: int
    peak_bytes: int
    layers: tuple[LayerCost, ...]


def count_params(genome: Genome, n_channels: int, n_classes: int) -> int:
    """The number of trainable parameters, for images of ``n_channels`` channels."""
    total = 0
    for layer in genome.layers:
        total += count_conv_params(n_channels, layer.filters, layer.kernel)
        n_channels = layer.filters
    return total + count_head_params(n_channels, n_classes)


def count_macs(genome: Genome, image: ImageShape, n_classes: int) -> int:
    """The multiply-accumulates for one image, as :func:`count_cost` counts them, without its table of layers.

    Raises:
        GenomeError: if the genome does not fit the image.
    """
    (n_channels, height, width), total = image, 0
    for layer in genome.layers:
        if layer.kind == "RC":
            height, width = layer.output_size(height), layer.output_size(width)
            if height < 1 or width < 1:
                genome.feature_maps(image)  # tells why
        total += n_channels * layer.filters * layer.kernel**2 * height * width
        n_channels = layer.filters
    return total + (n_channels + n_classes) * HIDDEN_UNITS


def images_at_once(height: int, width: int) -> int:
    """How many images of that size a network is given at once: fewer of large ones, whose feature maps fill the memory."""
    return max(1, min(BATCH, BATCH_PIXELS // (height * width)))


def count_conv_params(n_in: int, n_out: int, kernel: int) -> int:
    """The trainable parameters of a convolution from ``n_in`` to ``n_out`` channels."""
    return n_out * (n_in * kernel**2 + 1)


def count_head_params(n_channels: int, n_classes: int) -> int:
    """The trainable parameters of the dense layers behind ``n_channels`` pooled channels."""
    return _dense_params(n_channels, HIDDEN_UNITS) + _dense_params(HIDDEN_UNITS, n_classes)


def count_cost(genome: Genome, image: ImageShape, n_classes: int) -> Cost:
    """The cost of ``genome`` on images of shape ``image``, layer by layer.

    Raises:
        GenomeError: if the genome does not fit the image.
    """
    rows: list[LayerCost] = []
    n_channels = image.channels
    for layer, shape in zip(genome.layers, genome.feature_maps(image), strict=True):
        weights = n_channels * layer.filters * layer.kernel**2
        rows.append(
            LayerCost(
                str(layer), shape, weights + layer.filters, weights * shape.height * shape.width
            )
        )
        n_channels = layer.filters
    rows.append(LayerCost("global average pooling", ImageShape(n_channels, 1, 1), 0, 0))
    for n_in, n_out in ((n_channels, HIDDEN_UNITS), (HIDDEN_UNITS, n_classes)):
        name = f"Dense {n_out} {genome.final_activation}"
        rows.append(
            LayerCost(name, ImageShape(n_out, 1, 1), _dense_params(n_in, n_out), n_in * n_out)
        )
    sizes = [image.n_values, *(row.output.n_values for row in rows)]
    return Cost(
        n_params=sum(row.n_params for row in rows),
        macs=sum(row.macs for row in rows),
        peak_bytes=BYTES_PER_VALUE * max(a + b for a, b in itertools.pairwise(sizes)),
        layers=tuple(rows),
    )


def _dense_params(n_in: int, n_out: int) -> int:
    return n_out * (n_in + 1)
