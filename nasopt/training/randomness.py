"""All randomness of a training, drawn by numpy and handed to whichever engine runs it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nasopt.cost import HIDDEN_UNITS
from nasopt.genome import Genome

Weights = list[NDArray[np.float32]]


def initial_weights(
    genome: Genome, n_channels: int, n_classes: int, rng: np.random.Generator
) -> Weights:
    """Glorot-uniform weights and zero biases, in PyTorch's order and layout.

    Convolutions have weights ``(filters, channels, kernel, kernel)``, dense layers ``(n_out, n_in)``.

    References:
        Glorot and Bengio (2010).
    """
    weights: Weights = []
    for layer in genome.layers:
        area = layer.kernel**2
        shape = (layer.filters, n_channels, layer.kernel, layer.kernel)
        weights += _glorot(rng, shape, fan_in=n_channels * area, fan_out=layer.filters * area)
        n_channels = layer.filters
    for n_in, n_out in ((n_channels, HIDDEN_UNITS), (HIDDEN_UNITS, n_classes)):
        weights += _glorot(rng, (n_out, n_in), fan_in=n_in, fan_out=n_out)
    return weights


def _glorot(
    rng: np.random.Generator, shape: tuple[int, ...], *, fan_in: int, fan_out: int
) -> Weights:
    limit = np.sqrt(6 / (fan_in + fan_out))
    weight = rng.uniform(-limit, limit, shape).astype(np.float32)
    return [weight, np.zeros(shape[0], dtype=np.float32)]


def epoch_orders(n_images: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """An endless sequence of permutations of the images, one an epoch."""
    while True:
        yield rng.permutation(n_images)


def training_rngs(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Two independent generators of a training's seed: for the weights and for the orders."""
    weights, orders = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(weights), np.random.default_rng(orders)
