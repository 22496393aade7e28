from itertools import combinations, product

import pytest

from nasopt.enumeration import (
    assign_activations,
    describe_activations,
    enumerate_genomes,
    join_activations,
    split_activations,
)
from nasopt.errors import GenomeError
from nasopt.genome import ConvLayer, Genome, ImageShape
from nasopt.space import SearchSpace

SPACE = SearchSpace(ImageShape(1, 28, 28), 10, depth=(2, 3), filters=(1, 3), kernel=(1, 3))


def by_brute_force(space, below, max_depth, activations):
    found = set()
    for depth in range(space.depth[0], max_depth + 1):
        filters = range(space.filters[0], space.filters[1] + 1)
        kernels = range(space.kernel[0], space.kernel[1] + 1)
        for reductions in combinations(range(depth), 2):
            kinds = ["RC" if i in reductions else "NC" for i in range(depth)]
            for shape in product(product(filters, kernels), repeat=depth):
                for a in activations:
                    layers = tuple(ConvLayer(k, *s, a) for k, s in zip(kinds, shape, strict=True))
                    genome = Genome(layers, a)
                    try:
                        genome.feature_maps(space.image)
                    except GenomeError:
                        continue
                    if space.n_params(genome) < below and space.why_too_large(genome) is None:
                        found.add(genome)
    return found


@pytest.mark.parametrize(
    "space",
    [
        SPACE,
        SearchSpace(ImageShape(3, 9, 7), 4, depth=(2, 3), filters=(2, 4), kernel=(2, 3)),
        SearchSpace(ImageShape(1, 28, 28), 10, depth=(2, 3), filters=(1, 3), max_macs=4000),
    ],
)
def test_what_is_enumerated_is_all_there_is_each_once(space):
    for below in (700, 800, 860, 950, 1100):
        found = list(enumerate_genomes(space, below, 3, ("swish",)))
        expected = by_brute_force(space, below, 3, ("swish",))
        assert len(set(found)) == len(found)
        assert set(found) == expected
    assert expected


def test_limits_are_kept():
    two = list(enumerate_genomes(SPACE, 860, 2, ("relu", "gelu")))
    assert {len(g.layers) for g in two} == {2}
    assert {g.final_activation for g in two} == {"relu", "gelu"}
    assert all({layer.activation for layer in g.layers} == {g.final_activation} for g in two)
    assert list(enumerate_genomes(SPACE, 782, 3, ("relu",))) == []


@pytest.mark.parametrize(
    ("activations", "depth", "expected", "words"),
    [
        ("swish", 3, ["swish swish swish / swish"], "swish in all layers"),
        ("swish/swish", 2, ["swish swish / swish"], "swish in all layers"),
        (
            "tanh/gelu",
            3,
            ["tanh tanh tanh / gelu"],
            "tanh in the convolutions and gelu in the final layers",
        ),
        (
            "tanh/swish/gelu",
            3,
            ["tanh swish swish / gelu", "tanh tanh swish / gelu"],
            "tanh, then swish in the convolutions and gelu in the final layers",
        ),
        (
            "tanh/swish/tanh/relu",
            4,
            [
                "tanh swish tanh tanh / relu",
                "tanh swish swish tanh / relu",
                "tanh tanh swish tanh / relu",
            ],
            "tanh, then swish, then tanh in the convolutions and relu in the final layers",
        ),
        (
            "tanh/swish/gelu",
            1,
            [],
            "tanh, then swish in the convolutions and gelu in the final layers",
        ),
    ],
)
def test_activations_change_in_their_order_and_at_every_place(activations, depth, expected, words):
    assigned = [
        f"{' '.join(names)} / {final}" for names, final in assign_activations(activations, depth)
    ]
    assert assigned == expected
    assert describe_activations(activations) == words


def test_what_says_the_same_is_written_once():
    assert [
        join_activations(*split_activations(text))
        for text in ("tanh", "tanh/tanh", "tanh/tanh/gelu", "tanh/gelu", "tanh/swish/swish/tanh")
    ] == ["tanh", "tanh", "tanh/gelu", "tanh/gelu", "tanh/swish/tanh"]


def test_every_mix_of_two_activations_is_enumerated_once():
    """What changes once at most, in either order, is all there is of two convolutions, and all but two of eight of three."""
    orders = ("tanh/gelu", "swish/gelu", "tanh/swish/gelu", "swish/tanh/gelu")
    plain = list(enumerate_genomes(SPACE, 900, 3, ("gelu",)))
    mixed = list(enumerate_genomes(SPACE, 900, 3, orders))
    assert len(set(mixed)) == len(mixed)
    assert len(mixed) == sum({2: 4, 3: 6}[len(g.layers)] for g in plain)
    assert {g.final_activation for g in mixed} == {"gelu"}
