"""The sampler in real Optuna studies: its own contract, and Optuna's where it applies."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase

from nasopt.genome import ACTIVATIONS, Genome, ImageShape
from nasopt.records import Candidate
from nasopt.search.accuracy_model import AccuracyModel
from nasopt.search.genome_features import GROUPS, make_features
from nasopt.search.genome_sampler import (
    Encoding,
    GenomeNSGAIISampler,
    accuracy_of,
    union_of_distributions,
)
from nasopt.search.proposer import Problem, Strategy
from nasopt.search.samplers import make_sampler
from nasopt.space import SearchSpace

SPACE = SearchSpace(ImageShape(1, 28, 28), 10, depth=(2, 4), filters=(1, 8))
QUICK = Strategy(n_start=6, n_children=20)
DIRECTIONS = ["maximize", "minimize"]


def make_study(space=SPACE, seed=3, storage=None, **options):
    options = {"strategy": QUICK, "generation_size": 4} | options
    sampler = GenomeNSGAIISampler.for_space(space, seed=seed, **options)
    return optuna.create_study(
        directions=DIRECTIONS,
        sampler=sampler,
        storage=storage,
        study_name="s",
        load_if_exists=True,
    )


def accuracy(candidate):
    filters = [layer.filters for layer in candidate.genome.layers]
    return 0.9 - 0.5 / sum(filters) - 0.1 * abs(np.log(candidate.lr / 0.02))


def tell(study, trial, candidate, space=SPACE):
    study.tell(trial, [accuracy(candidate), space.n_params(candidate.genome)])


def search(n_trials, n_workers=1, order=None, **options):
    """Asks and tells as nasopt's driver does: a trial waits for generations two before its own."""
    study = make_study(**options)
    size = options.get("generation_size", 4)
    running, chosen = {}, []
    rng = np.random.default_rng(order)
    for n in range(n_trials):
        first_needed = (n // size - 1) * size
        while len(running) >= n_workers or any(m < first_needed for m in running):
            late = [m for m in running if m < first_needed] or list(running)
            m = late[0] if order is None else int(rng.choice(late))
            tell(study, *running.pop(m), options.get("space", SPACE))
        trial = study.ask()
        candidate = options.get("space", SPACE).suggest(trial)
        running[n] = trial, candidate
        chosen.append(candidate)
    for trial, candidate in running.values():
        tell(study, trial, candidate)
    return study, chosen


def test_candidates_are_new_and_real_conditional_parameters():
    study, chosen = search(40)
    assert len(set(chosen)) == 40
    for trial, candidate in zip(study.trials, chosen, strict=True):
        assert trial.params == SPACE.to_params(candidate)
        assert f"filters_{trial.params['depth']}" not in trial.params


@pytest.mark.parametrize(("n_workers", "order"), [(2, None), (4, 0), (7, 1), (8, 2)])
def test_the_trajectory_does_not_depend_on_workers_or_on_who_ends_first(n_workers, order):
    _, alone = search(40)
    _, together = search(40, n_workers=n_workers, order=order)
    assert together == alone


def test_a_study_goes_on_as_if_it_had_never_stopped():
    _, whole = search(30)
    storage = optuna.storages.InMemoryStorage()
    chosen = []
    for n_trials in (1, 7, 8, 14):
        study = make_study(storage=storage)  # a new process has a new sampler
        for _ in range(n_trials):
            trial = study.ask()
            chosen.append(SPACE.suggest(trial))
            tell(study, trial, chosen[-1])
    assert chosen == whole


def test_a_trial_that_was_killed_while_it_chose_chooses_the_same_again():
    _, whole = search(20)
    study, _ = search(19)
    trial = study.ask()
    trial.suggest_int("depth", *SPACE.depth)
    again = optuna.trial.Trial(study, trial._trial_id)
    assert SPACE.suggest(again) == whole[19]


def test_other_seeds_search_elsewhere():
    assert search(5, seed=1)[1] != search(5, seed=2)[1]


def test_it_learns():
    _, chosen = search(120, generation_size=1)
    _, at_random = search(120, generation_size=1, strategy=Strategy(n_start=500))

    def gains(candidates):
        return np.mean([accuracy(c) for c in candidates[60:]])

    assert gains(chosen) > gains(at_random) + 0.02


def test_networks_above_the_cap_are_never_chosen():
    space = replace(SPACE, max_params=1200)
    _, chosen = search(30, space=space)
    assert max(space.n_params(c.genome) for c in chosen) <= 1200


def test_failed_and_stopped_trials_count_for_what_they_told():
    study = make_study()
    states = optuna.trial.TrialState
    for state in (states.FAIL, states.PRUNED, states.PRUNED, states.COMPLETE):
        trial = study.ask()
        SPACE.suggest(trial)
        if len(study.trials) == 2:
            trial.set_user_attr("expected_accuracy", 0.4)
        study.tell(trial, [0.7, 900] if state == states.COMPLETE else None, state)
    assert [accuracy_of(t) for t in study.trials] == [None, 0.4, None, 0.7]
    for _ in range(20):
        trial = study.ask()
        tell(study, trial, SPACE.suggest(trial))
    assert len({str(sorted(t.params.items())) for t in study.trials}) == 24


@pytest.mark.parametrize(("bar", "aim"), [(0.75, 0.755), (0.995, 0.9975)])
def test_a_study_asks_for_half_the_margin_more_or_half_of_what_there_is(plan, bar, aim):
    sampler = make_sampler(replace(plan, sampler="nsga2", bar=bar, margin=0.01))
    assert sampler._problem.bar == pytest.approx(aim)
    model = AccuracyModel(None, center=0.0, scale=1.0)
    assert model.accuracies(np.array([model.target(aim)])) == pytest.approx(
        aim
    )  # it is told apart


def test_a_space_that_is_used_up_repeats_at_random():
    tiny = SearchSpace(
        ImageShape(1, 28, 28), 10, depth=(2, 2), filters=(1, 1), kernel=(1, 1),
        activations=("relu",), lr=(0.01, 0.01), lr_decay=(0.1, 0.1),
    )  # fmt: skip
    _, chosen = search(8, space=tiny)
    assert len(set(chosen[:5])) == 5


def test_trials_of_another_make_are_left_out():
    study = make_study()
    study.add_trial(
        optuna.create_trial(
            values=[0.5, 900], params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}
        )
    )
    for _ in range(12):
        trial = study.ask()
        tell(study, trial, SPACE.suggest(trial))
    assert len(study.trials) == 13


def test_a_study_of_other_objectives_is_refused():
    for directions in (["minimize"], ["minimize", "maximize"]):
        study = optuna.create_study(directions=directions, sampler=make_study().sampler)
        with pytest.raises(ValueError, match=r"directions \['maximize', 'minimize'\] for"):
            study.ask().suggest_int("depth", 2, 4)
    with pytest.raises(ValueError, match="generation_size must be at least 1, not 0"):
        GenomeNSGAIISampler.for_space(SPACE, seed=1, generation_size=0)


@pytest.mark.parametrize(("generation_size", "n_children"), [(1, 200), (8, 200), (40, 1000)])
def test_a_large_generation_chooses_among_more_children(plan, generation_size, n_children):
    sampler = make_sampler(replace(plan, generation_size=generation_size))
    assert sampler._proposer.strategy == Strategy(
        pool_size=plan.population_size, n_children=n_children
    )


@pytest.mark.parametrize(
    "space", [SPACE, SearchSpace(ImageShape(1, 7, 7), 2, kernel=(3, 7), lr=(0.1, 0.1))]
)
def test_the_union_holds_every_parameter_compatibly(space):
    union = union_of_distributions(space)
    rng = np.random.default_rng(0)
    for _ in range(50):
        trial = optuna.create_study(directions=DIRECTIONS).ask()
        space.suggest(trial)
        for name, distribution in trial.distributions.items():
            optuna.distributions.check_distribution_compatibility(union[name], distribution)
        assert space.to_params(space.sample(rng)).keys() <= union.keys()


def test_the_features_of_one_candidate():
    genome = Genome.parse("NC 2 3 relu;RC 4 5 swish;RC 8 3 tanh;NC 3 1 gelu;FL relu;")
    # Maps of 28x28, 12x12, 5x5 and 5x5 pixels; a pixel is two of the image wide after the first reduction.
    n_params = 2 * 10 + 4 * 51 + 8 * 37 + 3 * 9
    macs = 784 * 18 + 144 * 200 + 25 * 288 + 25 * 24
    reach = 1 + 2 + 4 + 2 * 2
    relu, swish, tanh, gelu = (
        np.array(ACTIVATIONS) == n for n in ("relu", "swish", "tanh", "gelu")
    )
    expected = [
        *np.log([n_params, macs, reach, 5]),
        *np.log([2, 3, 3]),  # of the three stretches; one without layers is as wide as the end
        *np.log([4, 8, 2, 3]),  # the reductions, the narrowest, the end
        *(1, 0, 1),
        *(2, 0, 0, 5, 3),
        *swish,
        *tanh,
        *(relu + swish + tanh + gelu) / 4,
        *relu,
        *np.log([0.01, 0.1]),
    ]
    found = make_features(SPACE)(Candidate(genome, 0.01, 0.1))
    np.testing.assert_allclose(found, np.array(expected, dtype=float))


def test_features_are_finite_and_vary():
    features = make_features(SPACE)
    rng = np.random.default_rng(0)
    table = np.stack([features(SPACE.sample(rng)) for _ in range(200)])
    assert table.shape[1] == len(GROUPS)
    assert np.isfinite(table).all()
    assert (table.std(axis=0) > 0).all()


def test_a_table_is_searched_with_variation_and_encoding_of_its_own():
    problem = Problem(
        sample=lambda rng: int(rng.integers(50)),
        vary=lambda parents, rng: int(np.clip(parents[0] + rng.integers(-3, 4), 0, 49)),
        size=lambda x: 1.0 + x,
        features=lambda x: np.array([x / 50]),
    )
    encoding = Encoding(
        {"x": IntDistribution(0, 49)}, lambda x: {"x": x}, lambda params: params.get("x")
    )
    sampler = GenomeNSGAIISampler(problem, encoding, seed=1, strategy=QUICK)
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    study.optimize(lambda t: (t.suggest_int("x", 0, 49) ** 0.5 / 10, 1), n_trials=30)
    assert len({t.params["x"] for t in study.trials}) == 30


class TestBasic(BasicSamplerTestCase):
    """Optuna's contract for parameters that are drawn one by one.

    The rest of Optuna's basic tests optimise one objective, which this sampler refuses; those that
    make sense in two follow below. Its tests of relative samplers hand over search spaces of their own,
    but this sampler's is static.
    """

    @pytest.fixture
    def sampler(self):
        return lambda: GenomeNSGAIISampler.for_space(SPACE, seed=1)

    test_nan_objective_value = None
    test_partial_fixed_sampling = None
    test_sample_single_distribution = None
    test_single_parameter_objective = None
    test_conditional_parameter_objective = None
    test_combination_of_different_distributions_objective = None
    test_dynamic_range_objective = None


class TestMultiObjective(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: GenomeNSGAIISampler.for_space(SPACE, seed=1)


def test_not_a_number_fails_the_trial_and_the_search_goes_on():
    study = make_study()

    def objective(trial):
        candidate = SPACE.suggest(trial)
        return accuracy(candidate) if trial.number % 3 else float("nan"), 900

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study.optimize(objective, n_trials=20)
    assert [t.state.name for t in study.trials[:4]] == ["FAIL", "COMPLETE", "COMPLETE", "FAIL"]


def test_fixed_parameters_are_kept():
    study = make_study()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.PartialFixedSampler({"depth": 3}, study.sampler)
    for _ in range(10):
        trial = study.ask()
        tell(study, trial, SPACE.suggest(trial))
    assert {t.params["depth"] for t in study.trials} == {3}


def test_parameters_that_it_does_not_know_are_drawn():
    study = make_study()

    def objective(trial):
        x = trial.suggest_categorical("x", [True, False])
        y = trial.suggest_float("y", 0, 1) if x else trial.suggest_int("z", 1, 100, log=True)
        low = 5 if trial.number > 5 else 0
        return trial.suggest_int("dynamic", low, low + 5) / 10, y

    study.optimize(objective, n_trials=12)
    assert len(study.trials) == 12
    fixed = {"a": CategoricalDistribution([1]), "b": IntDistribution(1, 1, log=True)}
    assert study.ask(fixed_distributions=fixed).params == {"a": 1, "b": 1}


def test_optuna_may_optimize_with_several_threads(plan):
    sampler = GenomeNSGAIISampler.for_space(plan.space, seed=1, generation_size=1)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    def objective(trial):
        candidate = plan.space.suggest(trial)
        return 0.5 + 0.01 * len(candidate.genome.layers), plan.space.n_params(candidate.genome)

    study.optimize(objective, n_trials=60, n_jobs=4)
    assert len(study.trials) == 60


def test_threads_that_ask_at_once_get_what_one_alone_gets(plan):
    """Without its lock the sampler fails this in most repetitions."""
    rng, distributions = np.random.default_rng(0), union_of_distributions(plan.space)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for _ in range(100):
        candidate = plan.space.sample(rng)
        params = plan.space.to_params(candidate)
        known = {name: distributions[name] for name in params}
        values = [rng.uniform(0.5, 0.8), plan.space.n_params(candidate.genome)]
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=known, values=values)
        )
    study.ask()
    trial = study.get_trials()[-1]

    def sampler():
        return GenomeNSGAIISampler.for_space(plan.space, seed=1, generation_size=1)

    alone = sampler().sample_relative(study, trial, distributions)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(4):
            shared, start = sampler(), threading.Barrier(4)

            def ask(shared=shared, start=start):
                start.wait()
                return shared.sample_relative(study, trial, distributions)

            with ThreadPoolExecutor(4) as executor:
                asked = [executor.submit(ask) for _ in range(4)]
            assert [future.result() for future in asked] == [alone] * 4
            assert (
                len(shared._proposer._ledger.history) == 99
            )  # generations of one: all but the last
    finally:
        sys.setswitchinterval(interval)
