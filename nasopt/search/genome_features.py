"""A candidate as numbers that its accuracy may be read from, whatever its depth.

Layers are aligned by the two reductions: what comes before the first, the first, what is between, the
second, what comes after. A stretch of normal layers is summed up by its count, its width and its reach.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nasopt.genome import ACTIVATIONS, ConvLayer
from nasopt.records import Candidate
from nasopt.space import SearchSpace

Array = NDArray[np.float64]

_CODES = {name: [float(name == other) for other in ACTIVATIONS] for name in ACTIVATIONS}
_N = len(ACTIVATIONS)
# The group of every feature: those of one group share a length scale in the model of accuracy.
_SIZES = [0] * 2  # log parameters, log MACs
_REACH = [1] * 2  # log receptive field, pixels at the end
_WIDTHS = [
    2
] * 7  # log filters of three stretches and two reductions, at the narrowest and at the end
_DEPTHS = [3] * 3
_KERNELS = [4] * 5
_ACTIVATIONS = [5] * (2 * _N) + [6] * _N  # of the reductions, and how many of each in all
_FINAL = [7] * _N
_RECIPE = [8, 9]
GROUPS = tuple(_SIZES + _REACH + _WIDTHS + _DEPTHS + _KERNELS + _ACTIVATIONS + _FINAL + _RECIPE)


def make_features(space: SearchSpace) -> Callable[[Candidate], Array]:
    """The function from candidates of ``space`` to features, shape ``(len(GROUPS),)``."""
    pixels = min(space.image.height, space.image.width)

    def features(candidate: Candidate) -> Array:
        layers = candidate.genome.layers
        first, second = (i for i, layer in enumerate(layers) if layer.kind == "RC")
        stretches = (layers[:first], layers[first + 1 : second], layers[second + 1 :])
        n_params, macs, reach, jump, size = 0, 0, 1, 1, pixels
        n_in = space.image.channels
        for layer in layers:
            size = layer.output_size(size)
            weights = n_in * layer.filters * layer.kernel**2
            n_params += weights + layer.filters
            macs += weights * size * size
            reach += (layer.kernel - 1) * jump
            jump *= layer.stride
            n_in = layer.filters
        counts = [0.0] * _N
        for layer in layers:
            counts[ACTIVATIONS.index(layer.activation)] += 1 / len(layers)
        reductions = layers[first], layers[second]
        return np.array(
            [
                math.log(n_params),
                math.log(macs),
                math.log(min(reach, pixels)),
                math.log(size),
                *(_mean_log_filters(stretch, n_in) for stretch in stretches),
                *(math.log(layer.filters) for layer in reductions),
                math.log(min(layer.filters for layer in layers)),
                math.log(n_in),
                *(len(stretch) for stretch in stretches),
                *(float(sum(layer.kernel - 1 for layer in stretch)) for stretch in stretches),
                *(float(layer.kernel) for layer in reductions),
                *_CODES[reductions[0].activation],
                *_CODES[reductions[1].activation],
                *counts,
                *_CODES[candidate.genome.final_activation],
                math.log(candidate.lr),
                math.log(candidate.lr_decay),
            ]
        )

    return features


def _mean_log_filters(layers: tuple[ConvLayer, ...], n_filters: int) -> float:
    """Of no layers it is what the network ends with, a neutral value."""
    if not layers:
        return math.log(n_filters)
    return sum(math.log(layer.filters) for layer in layers) / len(layers)
