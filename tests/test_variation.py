"""Children are in the space, depend on the seed alone, and every operator does what it says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt import variation
from nasopt.genome import Genome, ImageShape
from nasopt.records import Candidate
from nasopt.space import SearchSpace
from nasopt.variation import OPERATORS, cross, mutate, vary

FASHION = ImageShape(1, 28, 28)
SPACES = (
    SearchSpace(FASHION, 10),
    SearchSpace(FASHION, 10, depth=(3, 3), kernel=(3, 3), final_activations=("swish",)),
    SearchSpace(ImageShape(3, 8, 9), 4, depth=(2, 8), kernel=(1, 7), lr=(1e-3, 1e-3)),
    SearchSpace(ImageShape(1, 7, 7), 2, kernel=(3, 7)),
    SearchSpace(FASHION, 10, depth=(2, 2), filters=(1, 1), kernel=(1, 1), activations=("relu",)),
)
PARENT = Candidate(
    Genome.parse("NC 4 3 relu;RC 6 3 tanh;NC 5 1 gelu;RC 8 4 relu;FL swish"), 0.01, 0.05
)
OTHER = Candidate(
    Genome.parse("RC 1 1 gelu;NC 2 2 gelu;NC 3 3 gelu;RC 4 4 gelu;FL tanh"), 0.1, 1.0
)


@given(st.sampled_from(SPACES), st.integers(0, 2**32), st.integers(1, 2))
def test_children_are_in_the_space_and_depend_on_the_seed_alone(space, seed, n_parents):
    rng = np.random.default_rng(seed)
    parents = [space.sample(rng) for _ in range(n_parents)]
    child = vary(parents, space, np.random.default_rng(seed))
    assert space.from_params(space.to_params(child)) == child
    assert vary(parents, space, np.random.default_rng(seed)) == child


@given(st.sampled_from(SPACES), st.integers(0, 2**32), st.sampled_from(OPERATORS))
def test_every_operator_stays_in_the_space(space, seed, operator):
    rng = np.random.default_rng(seed)
    space.to_params(mutate(space.sample(rng), space, rng, [operator]))


def children(operator, n=200):
    rng = np.random.default_rng(0)
    return [mutate(PARENT, SPACES[0], rng, [operator]) for _ in range(n)]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_every_operator_changes_something(operator):
    assert any(child != PARENT for child in children(operator))


def kinds(candidate):
    return "".join(layer.kind[0] for layer in candidate.genome.layers)


def test_layers_are_added_removed_and_moved():
    assert {len(kinds(c)) for c in children(variation.add_layer)} == {5, 6}
    assert {len(kinds(c)) for c in children(variation.remove_layer)} == {2, 3}
    assert {kinds(c) for c in children(variation.move_layer)} >= {"RNRN", "NNRR", "RNNR", "NRNR"}
    assert {kinds(c) for c in children(variation.move_reduction)} >= {"RNRN", "NNRR", "NRRN"}
    for child in children(variation.move_layer):
        assert sorted(map(str, child.genome.layers)) == sorted(map(str, PARENT.genome.layers))


def test_a_split_sees_as_much_as_the_layer_that_it_replaces():
    for child in children(variation.split_layer):
        before = sum(layer.kernel - 1 for layer in PARENT.genome.layers)
        assert sum(layer.kernel - 1 for layer in child.genome.layers) == before


def test_filters_change_by_steps_factors_and_trades():
    def changes(operator):
        return [
            tuple(
                a.filters - b.filters
                for a, b in zip(c.genome.layers, PARENT.genome.layers, strict=True)
            )
            for c in children(operator)
        ]

    assert {sum(change) for change in changes(variation.step_filters)} >= {-2, -1, 1, 2}
    assert {-3, 4, 8} <= {d for change in changes(variation.scale_filters) for d in change}
    assert any(sum(change) == 0 for change in changes(variation.shift_filters))


def test_recipes_change_log_normally():
    logs = [np.log(c.lr / PARENT.lr) for c in children(variation.change_lr)]
    assert 0.3 < np.std(logs) < 0.8
    assert all(c.genome == PARENT.genome for c in children(variation.change_lr_decay))


def test_a_parent_that_cannot_change_is_its_own_child():
    space = replace(SPACES[4], final_activations=("relu",), lr=(0.01, 0.01), lr_decay=(1.0, 1.0))
    only = space.sample(np.random.default_rng(0))
    assert mutate(only, space, np.random.default_rng(1)) == only
    assert cross(only, only, space, np.random.default_rng(1)) == only


def test_a_crossing_joins_the_head_of_one_and_the_tail_of_the_other():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        child = cross(PARENT, OTHER, SPACES[0], rng)
        layers = child.genome.layers
        n_left = next(
            i for i in range(5) if layers[:i] == PARENT.genome.layers[:i] and
            layers[i:] == OTHER.genome.layers[len(OTHER.genome.layers) - len(layers) + i:]
        )  # fmt: skip
        seen.add((n_left, len(layers)))
        assert child.genome.final_activation == OTHER.genome.final_activation
        assert (child.lr, child.lr_decay) in {(0.01, 0.05), (0.1, 1.0)}
    assert len(seen) > 6
