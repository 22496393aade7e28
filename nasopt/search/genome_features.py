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
_INDEX = {name: i for i, name in enumerate(ACTIVATIONS)}
_N = len(ACTIVATIONS)
# The group of every feature: those of one group share a length scale in the model of accuracy.
_SIZES = [0] * 2  # log parameters and log MACs of the convolutions, on square maps
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
        n_params, macs, reach, jump, size = 0, 0, 1, 1, pixels
        n_in = space.image.channels
        lengths, kernels, widths, stretch = [0, 0, 0], [0, 0, 0], [0.0, 0.0, 0.0], 0
        reductions: list[ConvLayer] = []
        counts, share = [0.0] * _N, 1 / len(layers)
        for layer in layers:
            filters, kernel = layer.filters, layer.kernel
            weights = n_in * filters * kernel * kernel
            n_params += weights + filters
            reach += (kernel - 1) * jump
            counts[_INDEX[layer.activation]] += share
            if layer.kind == "RC":
                size = layer.output_size(size)
                jump *= 2
                reductions.append(layer)
                stretch += 1
            else:
                lengths[stretch] += 1
                kernels[stretch] += kernel - 1
                widths[stretch] += math.log(filters)
            macs += weights * size * size
            n_in = filters
        first, second = reductions
        at_the_end = math.log(n_in)
        # A stretch of no layers is as wide as the network's end, a neutral value.
        mean_widths = [w / n if n else at_the_end for w, n in zip(widths, lengths, strict=True)]
        return np.array(
            [
                math.log(n_params),
                math.log(macs),
                math.log(min(reach, pixels)),
                math.log(size),
                *mean_widths,
                math.log(first.filters),
                math.log(second.filters),
                math.log(min([layer.filters for layer in layers])),
                at_the_end,
                *lengths,
                *kernels,
                first.kernel,
                second.kernel,
                *_CODES[first.activation],
                *_CODES[second.activation],
                *counts,
                *_CODES[candidate.genome.final_activation],
                math.log(candidate.lr),
                math.log(candidate.lr_decay),
            ],
            dtype=float,
        )

    return features
