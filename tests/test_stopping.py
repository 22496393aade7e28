import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from nasopt.candidates import pareto_front
from nasopt.records import TO_THE_END, Evaluation, StopRule
from nasopt.search import stopping
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.stopping import TeachingCurves, is_control, judge_stopping
from nasopt.search.study import open_study, read_records, working_copy
from tests.conftest import make_record
from tests.table_search import run


def trained(number, n_params, curve, **changes):
    evaluation = Evaluation(curve[-1], curve[-1], tuple(curve), dead=False, duration_s=1.0)
    return make_record(number, n_params, 0, **({"evaluation": evaluation} | changes))


def halving(number, final, n_params=1000, **changes):
    """A curve whose error halves from the first epoch to the last, in three epochs."""
    error = 1 - final
    return trained(number, n_params, (1 - 2 * error, 1 - 1.5 * error, final), **changes)


def learn_stop_rules(records, confidence):
    return TeachingCurves(records).rules(pareto_front(records), confidence)


def test_a_rule_ends_a_training_below_its_minimum():
    rule = StopRule((0.3, 0.5))
    assert [rule.should_stop(1, a) for a in (0.29, 0.3)] == [True, False]
    assert rule.should_stop(2, 0.49)
    assert not rule.should_stop(3, 0.0)
    assert not TO_THE_END.should_stop(1, 0.0)


def test_what_an_error_may_still_lose_is_learned_from_curves():
    records = [halving(i, 0.7 + 0.001 * i) for i in range(30)]
    shares = learn_stop_rules(records, 0.95).shares
    assert shares == pytest.approx([0.5, 2 / 3, 1.0])
    assert learn_stop_rules(records[:19], 0.95).shares is None


def test_curves_that_a_rule_could_have_ended_and_dead_ones_teach_nothing():
    records = [halving(i, 0.7) for i in range(30)]
    flat = (0.1, 0.1, 0.1)
    dead = Evaluation(0.1, 0.1, flat, dead=True, duration_s=1.0)
    survivors = [
        trained(100 + i, 1000, (0.6, 0.65, 0.7), rule=StopRule((0.5,))) for i in range(99)
    ]
    others = [trained(200 + i, 1000, flat, evaluation=dead) for i in range(99)]
    assert learn_stop_rules(records + survivors + others, 0.95).shares == pytest.approx(
        [0.5, 2 / 3, 1.0]
    )
    controls = [replace(r, control=True) for r in survivors]
    assert learn_stop_rules(records + controls, 0.5).shares[0] == pytest.approx(0.75)


def test_the_least_accuracy_is_what_could_still_beat_the_best_of_at_most_that_size():
    records = [halving(i, 0.8, n_params=1000 + i) for i in range(30)]
    rule = learn_stop_rules(records, 0.95).rule(2000)
    # The best rival has an error of 0.2; errors halve at most, so after one epoch 0.6 is needed.
    assert rule.minimum == pytest.approx((0.6, 0.7))
    assert learn_stop_rules(records, 0.95).rule(999) == TO_THE_END
    assert learn_stop_rules([], 0.95).rule(2000) == TO_THE_END


def test_a_bolder_confidence_stops_more():
    rng = np.random.default_rng(0)
    records = [
        trained(i, 1000, (1 - f * 0.3, 0.7)) for i, f in enumerate(rng.uniform(1, 3, size=200))
    ]
    minimum = [learn_stop_rules(records, c).rule(1000).minimum[0] for c in (0.99, 0.95, 0.7)]
    assert minimum == sorted(minimum)
    assert minimum[0] < minimum[-1]


@pytest.mark.parametrize(("n_curves", "confidence"), [(99, 0.99), (200, 0.95), (60, 0.9)])
def test_a_rule_to_reach_an_accuracy_seldom_stops_what_would_reach_it(n_curves, confidence):
    rng = np.random.default_rng(0)

    def records(n):
        """Curves whose errors fall from epoch to epoch by noisy steps, to an end that varies."""
        steps = rng.normal(0.15, 0.08, (n, 10)).cumsum(axis=1)
        errors = 0.26 * np.exp(steps - steps[:, -1:])[:, ::-1] * rng.uniform(0.9, 1.1, (n, 1))
        return [trained(i, 1000, tuple(1 - e)) for i, e in enumerate(errors)]

    stopped = []
    for _ in range(40):
        further = [r.evaluation.curve for r in records(100)]
        curves = TeachingCurves(records(n_curves))
        for curve in further:
            rule = curves.rule_to_reach(curve[-1], confidence)
            stopped.append(any(rule.should_stop(i, a) for i, a in enumerate(curve, start=1)))
    assert 0 < np.mean(stopped) < 1.5 * (1 - confidence)
    assert TeachingCurves(records(8)).rule_to_reach(0.75, 0.9) == TO_THE_END


@pytest.fixture
def searched(plan, table, tmp_path):
    plan = replace(plan, stop_confidence=0.95, sampler="random", generation_size=4)
    database = tmp_path / "study.db"
    stored = open_study(plan, database, create=True)
    with working_copy(stored, database) as study, ThreadPoolExecutor(2) as executor:
        driver = SearchDriver(study, plan, table, executor, 2)
        driver.run(Limits(trials=120), threading.Event())
    return stored, read_records(stored, plan.space), driver.progress


def test_a_search_stops_the_hopeless_and_loses_little(searched, table):
    study, records, progress = searched
    stopped = [r for r in records if r.state == "pruned"]
    assert progress.n_stopped == len(stopped) > 5
    lost = 0
    for record in stopped:
        assert record.reason.startswith(f"stopped after epoch {len(record.evaluation.curve)} at ")
        assert record.rule.should_stop(len(record.evaluation.curve), record.evaluation.curve[-1])
        assert not is_control(record.number)
        # Trained to the end after all, hardly one would have been on the front.
        full = table(record.candidate, record.seed, TO_THE_END).val_accuracy
        rivals = [r for r in records if r.state == "complete" and r.n_params <= record.n_params]
        lost += all(full > r.val_accuracy for r in rivals)
    assert lost <= 2
    assert study.trials[stopped[0].number].state.name == "PRUNED"

    verdict = judge_stopping(records)
    assert verdict.n_stopped == len([r for r in stopped if r.duplicate_of is None])
    assert verdict.epochs_saved == sum(
        3 - len(r.evaluation.curve) for r in stopped if r.duplicate_of is None
    )
    assert verdict.n_controls >= verdict.n_controls_hit >= verdict.n_lost

    controls = [r for r in records if r.control and r.rule.minimum and r.duplicate_of is None]
    assert controls
    assert {r.state for r in controls} == {"complete"}


def test_a_rule_to_reach_an_accuracy_judges_each_curve_by_the_others():
    rng = np.random.default_rng(3)
    errors = 0.25 * np.exp(np.cumsum(rng.normal(0.2, 0.1, (40, 3)), axis=1)[:, ::-1])
    curves = TeachingCurves([trained(i, 1000, tuple(1 - e)) for i, e in enumerate(errors)])
    logs = np.log(errors[:, -1:] / errors)
    lowest = []
    for i in range(40):
        others = np.delete(logs, i, axis=0)
        spread = others.std(axis=0)[:-1]
        lowest.append(np.min((logs[i] - others.mean(axis=0))[:-1] / spread))
    n_below = int(0.1 * 41)
    least = np.exp(logs.mean(axis=0) + min(0, sorted(lowest)[n_below - 1]) * logs.std(axis=0))
    rule = curves.rule_to_reach(0.75, 0.9)
    assert rule.minimum == pytest.approx(tuple(1 - 0.25 / least[:-1]))


def test_what_a_stopped_training_would_have_come_to_is_the_middling_case():
    rules = learn_stop_rules([halving(i, 0.7 + 0.001 * i) for i in range(30)], 0.95)
    assert rules.expected((0.4,)) == pytest.approx(1 - 0.6 / 2)
    assert rules.expected((0.4, 0.7)) == pytest.approx(1 - 0.3 * 2 / 3)
    assert learn_stop_rules([], 0.95).expected((0.4,)) == 0.4


def test_what_was_lost_is_told_by_the_controls():
    rule = StopRule((0.5,))
    records = [
        trained(
            8, 1000, (0.4, 0.8), rule=rule, control=True
        ),  # would have been stopped, and is on the front
        trained(16, 1100, (0.4, 0.7), rule=rule, control=True),  # would have been stopped, rightly
        trained(24, 1200, (0.6, 0.9), rule=rule, control=True),
        trained(25, 1300, (0.4,), rule=rule, state="pruned"),
    ]
    verdict = judge_stopping(records)
    assert (verdict.n_controls, verdict.n_controls_hit, verdict.n_lost) == (3, 2, 1)
    assert (verdict.n_stopped, verdict.epochs_trained, verdict.epochs_saved) == (1, 7, 1)


def test_a_growing_confidence_lets_less_be_stopped_wrongly_the_longer_a_study_is():
    asked = [stopping.confidence_after(n, "growing") for n in (0, 100, 250, 500, 1000, 5000)]
    assert asked == pytest.approx([0.8, 0.8, 0.8, 0.9, 0.95, 0.99])
    assert stopping.confidence_after(5000, 0.9) == 0.9


def test_a_search_asks_for_the_confidence_of_what_a_trial_may_know(plan, database, monkeypatch):
    asked = []

    def note(n_trials, confidence):
        asked.append((n_trials, confidence))
        return 0.9

    monkeypatch.setattr("nasopt.search.driver.confidence_after", note)
    run(replace(plan, stop_confidence="growing", generation_size=4), database, 20)
    assert asked == [(n, "growing") for n in (0, 4, 8, 12)]
