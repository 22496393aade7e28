"""Mutation and crossover of candidates: pure functions of ``(parents, space, rng)``.

Every operator writes down the child that it wishes for, legal or not, and the nearest legal one is
taken: a kernel that does not fit shrinks, a third reduction becomes a normal layer. So children are in bounds by
construction, but for the caps on parameters and MACs.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from nasopt.genome import N_REDUCTIONS, ConvLayer, Genome
from nasopt.records import Candidate
from nasopt.space import SearchSpace

MAX_ATTEMPTS = 20
MUTATED_CROSSOVERS = 0.5  # the share of children of two parents that are mutated as well
ONE_MORE_MUTATION = 0.3  # the chance that another mutation follows a mutation
LR_SD = 0.4  # standard deviation of the change of log lr
LR_DECAY_SD = 0.8
STEPS = (-2, -1, -1, 1, 1, 2)

# Layers are values, and a space has some hundreds of them: each is made and checked once.
_layer = lru_cache(maxsize=1 << 14)(ConvLayer)


@dataclass(slots=True)
class _Wish:
    """What a child should be; layers may be changed, and may be illegal as a whole."""

    layers: list[ConvLayer]
    final_activation: str
    lr: float
    lr_decay: float

    @classmethod
    def of(cls, parent: Candidate) -> "_Wish":
        genome = parent.genome
        return cls(list(genome.layers), genome.final_activation, parent.lr, parent.lr_decay)


T = TypeVar("T")
Operator = Callable[[_Wish, SearchSpace, np.random.Generator], None]


def vary(parents: Sequence[Candidate], space: SearchSpace, rng: np.random.Generator) -> Candidate:
    """A child of one parent, by mutation, or of two, by crossover and perhaps mutation."""
    if len(parents) == 1:
        return mutate(parents[0], space, rng)
    child = cross(parents[0], parents[1], space, rng)
    return mutate(child, space, rng) if rng.random() < MUTATED_CROSSOVERS else child


def mutate(
    parent: Candidate,
    space: SearchSpace,
    rng: np.random.Generator,
    operators: Sequence[Operator] | None = None,
) -> Candidate:
    """A child that differs from ``parent`` by one or more operators, each drawn from ``operators``.

    It is the parent itself where none of 20 operators finds anything to change.
    """
    chosen = OPERATORS if operators is None else operators
    wish = _Wish.of(parent)
    for _ in range(MAX_ATTEMPTS):
        chosen[int(rng.integers(len(chosen)))](wish, space, rng)
        if rng.random() < ONE_MORE_MUTATION:
            continue
        child = _nearest(wish, space)
        if child != parent:
            return child
    return _nearest(wish, space)


def cross(
    left: Candidate, right: Candidate, space: SearchSpace, rng: np.random.Generator
) -> Candidate:
    """The first layers of ``left`` and the last of ``right``, cut where as many reductions came before.

    The learning rate and its decay come from one parent, the final activation from ``right``, whose
    last layers it was made for.
    """
    met, n_right = _reductions_before(right), len(right.genome.layers)
    fewest, most = space.depth
    cuts = [
        (i, j)
        for i, seen in enumerate(_reductions_before(left))
        for j in range(max(0, i + n_right - most), min(n_right, i + n_right - fewest) + 1)
        if seen == met[j]
    ]
    i, j = cuts[int(rng.integers(len(cuts)))]  # (0, 0) at least
    recipe = left if rng.random() < 0.5 else right
    layers = [*left.genome.layers[:i], *right.genome.layers[j:]]
    return _nearest(
        _Wish(layers, right.genome.final_activation, recipe.lr, recipe.lr_decay), space
    )


def _reductions_before(candidate: Candidate) -> list[int]:
    kinds = [layer.kind == "RC" for layer in candidate.genome.layers]
    return list(itertools.accumulate(kinds, initial=0))


def add_layer(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:
    """Inserts a normal layer, as wide as its neighbour, anywhere."""
    if len(wish.layers) < space.depth[1]:
        position = int(rng.integers(len(wish.layers) + 1))
        neighbour = wish.layers[max(position - 1, 0)]
        kernel = int(rng.integers(space.kernel[0], space.kernel[1] + 1))
        layer = _layer("NC", neighbour.filters, kernel, neighbour.activation)
        wish.layers.insert(position, layer)


def remove_layer(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:
    """Removes a normal layer."""
    normal = _positions(wish, "NC")
    if normal and len(wish.layers) > space.depth[0]:
        del wish.layers[_one(normal, rng)]


def split_layer(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:
    """Puts two layers of smaller kernels, which see as much together, in place of one."""
    if len(wish.layers) < space.depth[1]:
        position = int(rng.integers(len(wish.layers)))
        layer = wish.layers[position]
        first = int(rng.integers(1, layer.kernel + 1))
        wish.layers[position : position + 1] = [
            _layer("NC", layer.filters, first, layer.activation),
            _layer(layer.kind, layer.filters, layer.kernel - first + 1, layer.activation),
        ]


def move_layer(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """Takes a normal layer out and puts it back elsewhere."""
    _move(wish, "NC", rng)


def move_reduction(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """Takes a reduction out and puts it back elsewhere."""
    _move(wish, "RC", rng)


def step_filters(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """One or two filters more or fewer in one layer."""
    position = int(rng.integers(len(wish.layers)))
    _set_filters(wish, position, wish.layers[position].filters + _one(STEPS, rng))


def scale_filters(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """From half to twice as many filters in one layer."""
    position = int(rng.integers(len(wish.layers)))
    factor = 2.0 ** rng.uniform(-1, 1)
    _set_filters(wish, position, round(wish.layers[position].filters * factor))


def shift_filters(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """A filter or two from one layer to another: a trade at nearly the same size."""
    step = int(rng.integers(1, 3))
    for position, change in zip(rng.permutation(len(wish.layers))[:2], (step, -step), strict=True):
        _set_filters(wish, int(position), wish.layers[int(position)].filters + change)


def change_kernel(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:
    """Another kernel in one layer, one larger or smaller in two of three cases."""
    position = int(rng.integers(len(wish.layers)))
    layer = wish.layers[position]
    kernel = layer.kernel + (1 if rng.random() < 0.5 else -1)
    if rng.random() < 1 / 3:
        kernel = int(rng.integers(space.kernel[0], space.kernel[1] + 1))
    kernel = min(max(kernel, space.kernel[0]), space.kernel[1])
    wish.layers[position] = _layer(layer.kind, layer.filters, kernel, layer.activation)


def change_activation(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:
    """Another activation in one layer."""
    position = int(rng.integers(len(wish.layers)))
    layer = wish.layers[position]
    activation = _one(space.activations, rng)
    wish.layers[position] = _layer(layer.kind, layer.filters, layer.kernel, activation)


def change_final_activation(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:
    """Another activation of the final layers."""
    wish.final_activation = _one(space.final_activations, rng)


def change_lr(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """A learning rate that is log-normal around the parent's."""
    wish.lr *= float(np.exp(rng.normal(0, LR_SD)))


def change_lr_decay(wish: _Wish, space: SearchSpace, rng: np.random.Generator) -> None:  # noqa: ARG001
    """A learning rate decay that is log-normal around the parent's."""
    wish.lr_decay *= float(np.exp(rng.normal(0, LR_DECAY_SD)))


OPERATORS: tuple[Operator, ...] = (
    add_layer,
    remove_layer,
    split_layer,
    move_layer,
    move_reduction,
    step_filters,
    scale_filters,
    shift_filters,
    change_kernel,
    change_activation,
    change_final_activation,
    change_lr,
    change_lr_decay,
)


def _positions(wish: _Wish, kind: str) -> list[int]:
    return [i for i, layer in enumerate(wish.layers) if layer.kind == kind]


def _one(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _move(wish: _Wish, kind: str, rng: np.random.Generator) -> None:
    positions = _positions(wish, kind)
    if positions:
        layer = wish.layers.pop(_one(positions, rng))
        wish.layers.insert(int(rng.integers(len(wish.layers) + 1)), layer)


def _set_filters(wish: _Wish, position: int, filters: int) -> None:
    layer = wish.layers[position]
    wish.layers[position] = _layer(layer.kind, max(filters, 1), layer.kernel, layer.activation)


def _nearest(wish: _Wish, space: SearchSpace) -> Candidate:
    """The candidate of ``space`` that is nearest to the wish, chosen layer by layer as the space does.

    It could be written with ``space.suggest``; this takes a third of the time, and a search draws 200
    children a trial.
    """
    layers: list[ConvLayer] = []
    size, n_reductions_left = min(space.image.height, space.image.width), N_REDUCTIONS
    (fewest, most), (smallest, largest) = space.filters, space.kernel
    for n_left, layer in zip(range(len(wish.layers), 0, -1), wish.layers, strict=True):
        kind, filters, kernel = layer.kind, layer.filters, layer.kernel
        if not n_reductions_left:
            kind = "NC"
        elif n_reductions_left == n_left:
            kind = "RC"
        if not fewest <= filters <= most:
            filters = min(max(filters, fewest), most)
        if kind == "RC" or not smallest <= kernel <= largest:
            fitting = space.max_kernel(kind, size, n_reductions_left)
            kernel = min(max(kernel, smallest), fitting)
        same = (kind, filters, kernel) == (layer.kind, layer.filters, layer.kernel)
        layers.append(layer if same else _layer(kind, filters, kernel, layer.activation))
        if kind == "RC":
            size = layers[-1].output_size(size)
            n_reductions_left -= 1
    return Candidate(
        Genome(tuple(layers), wish.final_activation),
        lr=min(max(wish.lr, space.lr[0]), space.lr[1]),
        lr_decay=min(max(wish.lr_decay, space.lr_decay[0]), space.lr_decay[1]),
    )
