import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from nasopt.data import DataSource, load_test
from nasopt.errors import DivergedError
from nasopt.evaluation import TrainingEvaluator, evaluate
from nasopt.genome import Genome
from nasopt.racing import RaceRule
from nasopt.records import (
    TO_THE_END,
    Candidate,
    Evaluation,
    Race,
    StopRule,
    Verification,
    trial_seed,
)
from nasopt.reference import judge, summarize_seeds, train_reference
from nasopt.selection import SelectionRule
from nasopt.training import Recipe, train
from nasopt.verification import FinalTraining, final_data, run_race, verify

CANDIDATE = Candidate(Genome.parse("RC 4 3 relu;RC 6 3 gelu;FL swish"), 0.03, 0.1)
RECIPE = Recipe(epochs=2, patience=None)


def test_an_evaluation_is_the_training_of_the_candidate(small, small_npz):
    evaluation = evaluate(CANDIDATE, 3, TO_THE_END, small, RECIPE)
    result = train(CANDIDATE.genome, replace(RECIPE, lr=0.03, lr_decay=0.1), 3, small)
    assert evaluation.val_accuracy == result.last.accuracy
    assert evaluation.curve == tuple(epoch.accuracy for epoch in result.epochs)
    assert evaluation.train_accuracy == result.last.train_accuracy
    stopped = evaluate(CANDIDATE, 3, StopRule((1.0,)), small, RECIPE)
    assert stopped.curve == evaluation.curve[:1]
    assert (stopped.stopped, evaluation.stopped) == (True, False)
    again = TrainingEvaluator(DataSource(small_npz), RECIPE)(CANDIDATE, 3)
    assert replace(again, duration_s=0) == replace(evaluation, duration_s=0)


def test_final_data_are_all_training_images_and_the_test_images(small_npz):
    data = final_data(DataSource(small_npz))
    assert len(data.train) == 2400
    assert np.array_equal(data.val.images, load_test(DataSource(small_npz)).split.images)


@pytest.fixture
def start():
    return Verification(4, CANDIDATE, 1000, 0.2, ())


def test_final_data_are_made_once_for_all_threads(small_npz, tmp_path):
    source = DataSource(shutil.copy(small_npz, tmp_path / "own.npz"))
    with ThreadPoolExecutor(8) as executor:
        made = list(executor.map(final_data, [source] * 8))
    assert all(data is made[0] for data in made)


def test_seeds_other_than_the_searchs_are_trained_and_judged_on_test(small_npz, start):
    source = DataSource(small_npz)
    seen = []
    with ThreadPoolExecutor(1) as executor:
        done = verify(
            start,
            SelectionRule(bar=0.2, n_seeds=3),
            9,
            FinalTraining(source, RECIPE),
            executor,
            lambda verification, replicate, result: seen.append(
                (len(verification.seeds), replicate, result)
            ),
        )
    assert [s.replicate for s in done.seeds] == [1, 2, 3]
    assert [s.seed for s in done.seeds] == [
        trial_seed(9, CANDIDATE.genome, r, "final") for r in (1, 2, 3)
    ]
    assert trial_seed(9, CANDIDATE.genome) not in [s.seed for s in done.seeds]
    assert sorted(n for n, _, _ in seen) == [1, 2, 3]
    recipe = replace(RECIPE, lr=0.03, lr_decay=0.1)
    expected = train(CANDIDATE.genome, recipe, done.seeds[1].seed, final_data(source))
    assert done.seeds[1].test_accuracy == expected.last.accuracy
    assert done.seeds[1].best_test_accuracy == expected.best.accuracy


def test_the_engine_that_is_asked_for_trains(small_npz, monkeypatch):
    asked = []

    def note(*_args, engine="auto", **_options):
        asked.append(engine)
        raise DivergedError("enough")

    for module, work in (("evaluation", TrainingEvaluator), ("verification", FinalTraining)):
        monkeypatch.setattr(f"nasopt.{module}.train", note)
        with pytest.raises(DivergedError, match="enough"):
            work(DataSource(small_npz), RECIPE, "torch")(CANDIDATE, 1)
    assert asked == ["torch", "torch"]


def test_known_seeds_are_not_trained_again_and_a_lost_cause_ends_early(small_npz, start):
    calls = []

    def training(candidate, seed):
        calls.append(seed)
        raise DivergedError("the loss became nan")

    with ThreadPoolExecutor(1) as executor:
        rule = SelectionRule(bar=0.2, n_seeds=6, min_pass_rate=0.5)
        lost = verify(start, rule, 9, training, executor, lambda *_: None)
        assert 4 <= len(lost.seeds) <= 6  # the fourth failure decides
        assert {(s.test_accuracy, s.dead) for s in lost.seeds} == {(0.0, True)}
        n_calls = len(calls)
        assert verify(lost, rule, 9, training, executor, lambda *_: None) == lost
        assert len(calls) == n_calls


@pytest.mark.parametrize("n_workers", [1, 4])
def test_what_counts_of_a_lost_cause_does_not_depend_on_the_workers(start, n_workers):
    def training(_candidate, seed):
        if seed % 2:
            raise DivergedError("the loss became nan")
        time.sleep(0.02)
        raise DivergedError("later")

    rule = SelectionRule(bar=0.2, n_seeds=10, min_pass_rate=0.5)
    with ThreadPoolExecutor(n_workers) as executor:
        lost = verify(start, rule, 9, training, executor, lambda *_: None)
    assert rule.is_decided(lost)
    assert [s.replicate for s in rule.counted(lost).seeds] == [1, 2, 3, 4, 5, 6]


def test_the_reference_function_returns_what_the_task_says(small_npz, monkeypatch):
    source = DataSource(small_npz)
    result = train_reference(CANDIDATE.genome, Recipe(lr=0.03, epochs=3), 1, source)
    by_hand = train(CANDIDATE.genome, Recipe(lr=0.03, epochs=3), 1, final_data(source))
    assert result.epochs == by_hand.epochs
    monkeypatch.setattr("nasopt.reference.DataSource.parse", lambda _text: source)
    best, train_accuracy, n_params = judge(str(CANDIDATE.genome), lr=0.03, seed=1)
    assert n_params == result.n_params
    full = train_reference(CANDIDATE.genome, Recipe(lr=0.03), 1, source)
    assert (best, train_accuracy) == (full.best.accuracy, full.best.train_accuracy)


def test_several_seeds_are_summarized(small_npz):
    source = DataSource(small_npz)
    results = [
        (s, train_reference(CANDIDATE.genome, Recipe(lr=0.03, epochs=2), s, source))
        for s in (0, 1)
    ]
    summary = summarize_seeds(results, bar=0.2)
    accuracies = [r.last.accuracy for _, r in results]
    assert summary["test_accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert summary["test_accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert summary["pass_rate"] == np.mean([a > 0.2 for a in accuracies])
    assert len(summary["seeds"][0]["curve"]) == 2


def test_a_race_is_the_same_with_any_number_of_workers_and_after_an_interruption():
    def evaluator(candidate, seed, rule):
        assert rule == TO_THE_END
        if seed % 11 == 0:
            raise DivergedError("the loss became nan")
        accuracy = 0.76 + seed % 7 / 1000
        return Evaluation(accuracy, accuracy, (accuracy,), dead=False, duration_s=0.0)

    rule = RaceRule(0.75, n_seeds=16)
    nothing = Race(4, CANDIDATE, 1000)
    races = []
    for n_workers in (1, 4):
        told = []
        with ThreadPoolExecutor(n_workers) as executor:
            race = run_race(nothing, rule, 4, evaluator, executor, told.append)
        assert [len(r.accuracies) for r in told] == list(range(1, len(race.accuracies) + 1))
        races.append(race)
        with ThreadPoolExecutor(n_workers) as executor:
            assert run_race(told[5], rule, 4, evaluator, executor, lambda _: None) == race
    assert races[0] == races[1]
    assert 0.0 in races[0].accuracies  # one of its seeds diverged
    assert rule.judge(races[0].accuracies) != "open"
    seeds = [trial_seed(4, CANDIDATE.genome, i, "race") for i in range(16)]
    for others in ("search", "final"):  # fresh: neither the search nor the test knows them
        assert not set(seeds) & {trial_seed(4, CANDIDATE.genome, i, others) for i in range(60)}
    expected = [0.0 if s % 11 == 0 else 0.76 + s % 7 / 1000 for s in seeds]
    assert races[0].accuracies == tuple(expected[: len(races[0].accuracies)])
