from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt.cost import count_macs
from nasopt.errors import GenomeError, SettingsError
from nasopt.genome import Genome, ImageShape
from nasopt.records import Candidate
from nasopt.space import SearchSpace

FASHION = ImageShape(1, 28, 28)
SPACES = (
    SearchSpace(FASHION, 10),
    SearchSpace(FASHION, 10, depth=(3, 3), kernel=(3, 3), final_activations=("swish",)),
    SearchSpace(ImageShape(3, 8, 9), 4, depth=(2, 8), kernel=(1, 7), lr=(1e-3, 1e-3)),
    SearchSpace(ImageShape(1, 7, 7), 2, kernel=(3, 7)),
)


@given(st.sampled_from(SPACES), st.integers(0, 2**32))
def test_samples_are_legal_in_bounds_and_come_back_from_their_parameters(space, seed):
    candidate = space.sample(np.random.default_rng(seed))
    genome = candidate.genome
    genome.feature_maps(space.image)
    assert space.depth[0] <= len(genome.layers) <= space.depth[1]
    for layer in genome.layers:
        assert space.filters[0] <= layer.filters <= space.filters[1]
        assert space.kernel[0] <= layer.kernel <= space.kernel[1]
    assert space.lr[0] <= candidate.lr <= space.lr[1]
    params = space.to_params(candidate)
    assert space.from_params(params) == candidate


@given(st.sampled_from(SPACES), st.integers(0, 2**32))
def test_optuna_sees_the_same_candidate_under_the_same_parameters(space, seed):
    candidate = space.sample(np.random.default_rng(seed))
    params = space.to_params(candidate)
    trial = optuna.trial.FixedTrial(params)
    assert space.suggest(trial) == candidate
    assert trial.params == params


def test_parameters_exist_only_where_there_is_a_choice():
    space = SPACES[1]
    genome = Genome.parse("RC 2 3 relu;RC 2 3 relu;NC 2 3 relu;FL swish")
    params = space.to_params(Candidate(genome, 0.01, 0.05))
    assert params.keys() == {
        "type_0", "type_1", "lr", "lr_decay",
        *(f"{name}_{i}" for name in ("filters", "activation") for i in range(3)),
    }  # fmt: skip


def test_every_kind_of_layer_is_sampled_everywhere():
    space = SearchSpace(FASHION, 10, depth=(4, 4))
    rng = np.random.default_rng(0)
    kinds = [tuple(layer.kind for layer in space.sample(rng).genome.layers) for _ in range(300)]
    assert len(set(kinds)) == 6


def test_candidates_outside_are_refused():
    space = SearchSpace(FASHION, 10, filters=(1, 4))
    genome = Genome.parse("RC 5 1 relu;RC 1 1 relu;FL relu")
    with pytest.raises(GenomeError, match=r"filters_0 is 5, outside of the space's 1 to 4"):
        space.to_params(Candidate(genome, 0.01, 0.05))
    with pytest.raises(GenomeError, match="the parameter depth is missing"):
        space.from_params({})


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"depth": (3, 3)}, "depth 2, but space.depth is fixed at 3; widen space.depth"),
        ({"filters": (4, 4)}, "filters 5, but space.filters is fixed at 4; widen"),
        ({"kernel": (3, 3)}, "kernel 1, but space.kernel is fixed at 3; widen"),
        ({"activations": ("tanh",)}, "activations relu, but space.activations is fixed at tanh"),
        ({"final_activations": ("tanh",)}, "final_activations relu, but space.final_activations"),
        ({"lr": (0.02, 0.02)}, "lr 0.01, but space.lr is fixed at 0.02; leave it out, or widen"),
        ({"lr_decay": (0.1, 0.1)}, "lr_decay 0.05, but space.lr_decay is fixed at 0.1; leave it"),
    ],
)
def test_what_differs_from_a_fixed_value_is_named(fixed, message):
    candidate = Candidate(Genome.parse("RC 5 1 relu;RC 4 1 relu;FL relu"), 0.01, 0.05)
    SearchSpace(FASHION, 10).to_params(candidate)
    with pytest.raises(GenomeError, match=message):
        SearchSpace(FASHION, 10, **fixed).to_params(candidate)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": (1, 4)}, r"space.depth is \[1, 4\], but a genome has exactly two RC"),
        ({"depth": (5, 3)}, r"space.depth is reversed: 5 is above 3; write \[3, 5\]"),
        ({"kernel": (5, 3)}, r"space.kernel is reversed"),
        ({"kernel": (1, 9)}, r"space.kernel ends at 9; the largest kernel is 7"),
        ({"kernel": (0, 3)}, r"the smallest kernel is 1x1"),
        ({"filters": (0, 3)}, r"at least one filter"),
        ({"lr": (0.0, 0.1)}, r"space.lr must be above 0"),
        ({"activations": ()}, r"space.activations must be distinct names"),
        ({"activations": ("relu", "elu")}, r"space.activations must be distinct names of relu"),
        ({"final_activations": ("relu", "relu")}, r"distinct"),
        (
            {"max_params": 700},
            r"smallest network .* 782 parameters are more than space.max_params = 700; raise",
        ),
        ({"max_macs": 800}, r"949 MACs are more than space.max_macs = 800"),
        (
            {"image": ImageShape(1, 4, 4), "kernel": (3, 5)},
            r"no room for two reductions of a 1x4x4 image",
        ),
    ],
)
def test_impossible_spaces_are_refused(changes, message):
    values = {"image": FASHION, "n_classes": 10} | changes
    with pytest.raises(SettingsError, match=message):
        SearchSpace(**values)


def test_the_fewest_macs_may_be_those_of_larger_kernels():
    values = {"depth": (6, 6), "filters": (16, 16), "kernel": (1, 7)}
    small = partial(SearchSpace, ImageShape(1, 8, 8), 10, **values)
    genome = Genome.parse("RC 16 7 relu;RC 16 1 relu;" + "NC 16 1 relu;" * 4 + "FL relu")
    macs = count_macs(genome, ImageShape(1, 8, 8), 10)
    assert small(max_macs=macs).why_too_large(genome) is None
    with pytest.raises(SettingsError, match=f"no network takes fewer than {macs} MACs; raise"):
        small(max_macs=macs - 1)


@given(st.integers(1, 4), st.integers(5, 9), st.integers(2, 3), st.integers(1, 4))
def test_a_cap_on_macs_is_refused_only_where_nothing_is_below_it(low, size, depth, filters):
    image = ImageShape(1, size, size)
    try:
        space = SearchSpace(
            image, 10, depth=(depth, depth), filters=(filters, filters), kernel=(low, 5)
        )
    except SettingsError:
        return  # no room for two reductions
    layers = [("NC", k) for k in range(low, 6)] + [("RC", k) for k in range(low, 6)]
    costs = []
    for chosen in product(layers, repeat=depth):
        if [kind for kind, _ in chosen].count("RC") == 2:
            words = "".join(f"{kind} {filters} {kernel} relu;" for kind, kernel in chosen)
            with suppress(GenomeError):
                costs.append(count_macs(Genome.parse(words + "FL relu"), image, 10))
    replace(space, max_macs=min(costs))
    with pytest.raises(SettingsError, match="smallest network"):
        replace(space, max_macs=min(costs) - 1)


def test_a_candidate_that_does_not_fit_is_told_why():
    small = SearchSpace(ImageShape(1, 8, 8), 10)
    candidate = Candidate(Genome.parse("RC 1 7 relu;RC 1 2 relu;FL relu;"), 0.01, 0.05)
    with pytest.raises(GenomeError, match="the kernel 2 of this RC exceeds its input"):
        small.to_params(candidate)
