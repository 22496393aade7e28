"""The studies of early stopping: replays, what was stopped trained to the end, whole searches that are played."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import ablate_stopping
import numpy as np
import pytest
import replay_stopping
import retrain_lost
import train_stopped

from nasopt.candidates import pareto_front
from nasopt.records import Evaluation, StopRule
from nasopt.search import stopping
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.study import open_study, read_records
from tests.conftest import make_record
from tests.table_search import TableEvaluator
from tests.trained import SPACE, make_trained_table, sample


@pytest.fixture(scope="module")
def table():
    return make_trained_table()


def replayed(rule_of, truth):
    """Eight trials of two epochs on a front, the largest the best; trial 0 is the control."""
    accuracies = np.linspace(0.5, 0.85, 8).tolist()
    records = [
        make_record(i, 1000 + i, a, evaluation=Evaluation(a, a, (0.3, a), False, 2.0))
        for i, a in enumerate(accuracies)
    ]
    worth = {r.candidate: truth(r.val_accuracy) for r in records}
    return replay_stopping.play(records, rule_of(records), 0, worth)


def test_a_replay_counts_what_stopping_saved_and_lost():
    whole = replayed(replay_stopping.prophet, lambda accuracy: accuracy)
    assert (whole.n_stopped, whole.n_lost, whole.saved_s, whole.volume_lost) == (0, 0, 0, 0)
    everything = replayed(lambda _: lambda *_: StopRule((0.4,)), lambda accuracy: accuracy)
    assert (everything.n_front, everything.n_stopped, everything.n_lost) == (8, 7, 7)
    assert (everything.spent_s, everything.saved_s, everything.n_not_luck) == (16, 7, 7)
    assert everything.volume_lost > 0
    luck = replayed(lambda _: lambda *_: StopRule((0.4,)), lambda _: 0.6)
    assert (luck.n_lost, luck.n_not_luck, luck.volume_lost) == (7, 0, 0)


def test_what_was_stopped_is_trained_to_the_end_and_replayed_as_it_was(plan, tmp_path):
    plan = replace(plan, stop_confidence=0.95, sampler="random", generation_size=4)
    evaluator = TableEvaluator()
    study = open_study(plan, tmp_path / "study.db", create=True)
    with ThreadPoolExecutor(2) as executor:
        SearchDriver(study, plan, evaluator, executor, 2).run(Limits(trials=100), Event())
        records = read_records(study, plan.space)
        rows = train_stopped.train_to_the_end(records, evaluator, executor)
        cut = [
            replace(r, evaluation=replace(r.evaluation, curve=(0.0,)))
            for r in records
            if r.state == "pruned"
        ]
        with pytest.raises(SystemExit, match="took another course"):
            train_stopped.train_to_the_end(cut, evaluator, executor)
    trained = [r for r in records if r.duplicate_of is None]
    assert [row[0] for row in rows] == [r.number for r in trained]
    assert {len(row[-3]) for row in rows} == {3}

    whole = list(map(replay_stopping.from_stopped, json.loads(json.dumps(rows))))
    truth = {r.candidate: r.val_accuracy for r in whole}
    outcome = replay_stopping.play(whole, lambda _known, r: r.rule, 0, truth)
    stopped = [r for r in trained if r.state == "pruned"]
    assert outcome.n_stopped == len(stopped) > 5
    kept = {s.candidate for s in pareto_front(records)}
    front = {s.candidate for s in pareto_front(whole)}
    assert outcome.n_lost == len(front - kept)


def test_a_played_training_has_a_real_curve_and_is_stopped_by_its_rule(table):
    curves = ablate_stopping.Curves()
    candidate = next(c for c in sample(20) if table.train(c, 1) > 0.2)
    accuracy = table.train(candidate, 1)
    whole = curves.draw(candidate, accuracy, 1)
    assert whole == curves.draw(candidate, accuracy, 1)
    assert len(whole) == 10
    assert whole[-1] == pytest.approx(accuracy)
    assert len({curves.draw(candidate, accuracy, seed) for seed in range(20)}) > 1

    played = ablate_stopping.Played(table, curves, 1.5 * table.seconds(candidate))
    stopped = played(candidate, 1, StopRule((0.0, whole[1] + 0.01)))
    assert stopped.stopped
    assert stopped.curve == whole[:2]
    assert played.spent_s == pytest.approx(0.2 * table.seconds(candidate))
    assert not played.full.is_set()
    to_the_end = played(candidate, 1, StopRule())
    assert (to_the_end.curve, to_the_end.stopped) == (whole, False)
    played(candidate, 2, StopRule())
    assert played.full.is_set()


def test_whole_searches_are_judged_by_what_a_user_has_of_them(table, monkeypatch):
    monkeypatch.setattr(stopping, "CONTROL_EVERY", 16)
    curves = ablate_stopping.Curves()
    volumes, smallest, n_trained, n_stopped = ablate_stopping.search(
        "0.9/4", 0, table, curves, 250
    )
    assert stopping.CONTROL_EVERY == 4
    assert 0 < min(volumes) <= max(volumes) < 1
    assert len(smallest) == 3
    assert n_trained > n_stopped > 0
    assert ablate_stopping.search("none", 0, table, curves, 100)[3] == 0
    assert stopping.CONTROL_EVERY == 16


def test_the_smallest_that_passes_is_one_that_would_be_raced(table):
    candidates = sample(30)
    sizes = np.array([SPACE.n_params(c.genome) for c in candidates])
    passes = table.truth(candidates).pass_rates >= 0.8
    assert 0 < passes.sum() < 30

    def records(accuracy):
        return [
            make_record(i, int(n), accuracy, candidate=c)
            for i, (c, n) in enumerate(zip(candidates, sizes, strict=True))
        ]

    assert ablate_stopping.judge(records(0.99), table)[1] == sizes[passes].min()
    assert ablate_stopping.judge(records(0.5), table)[1] == 3000


def make_front():
    """Three trials of two epochs on a front, numbered 0, 1 and 32."""
    records = [
        make_record(i, 1000 + i, a, evaluation=Evaluation(a, a, (0.3, a), False, 2.0))
        for i, a in enumerate((0.5, 0.6, 0.7))
    ]
    return [replace(r, number=n) for n, r in zip((0, 1, 32), records, strict=True)]


def test_a_replay_leaves_the_curve_up_to_where_its_rule_stops_and_the_controls():
    rule = StopRule((2.0,))
    seen = replay_stopping.replay(make_front(), lambda *_: rule, 0)
    assert [r.state for r in seen] == ["complete", "pruned", "complete"]  # 0 and 32 are controls
    assert (seen[1].evaluation.curve, seen[1].evaluation.duration_s) == ((0.3,), 1.0)
    lost, left = retrain_lost.lost_and_left(make_front(), 0.9)  # too few curves to stop any
    assert (lost, [s.n_params for s in left]) == ([], [1000, 1001, 1002])


def test_a_lost_member_is_judged_by_other_seeds_than_its_rival_was_chosen_by():
    small, middle, large = pareto_front(make_front())
    known = {
        (0, small.candidate): [0.9, 0.9, 0.71, 0.73],
        (0, middle.candidate): [0.1, 0.1, 0.72, 0.74],
        (0, large.candidate): [0.99, 0.99, 0.9, 0.9],
    }
    assert retrain_lost.rival(middle, [small, large], known, 0, 2) == small  # large is larger
    verdict = retrain_lost.judge(middle, small, known, 0, 2)
    assert verdict == (pytest.approx(0.01), pytest.approx(0.01 * np.sqrt(2)))
    assert (verdict.is_lost, verdict.is_surely_lost) == (True, False)
    assert retrain_lost.Verdict(0.03, 0.01).is_surely_lost
    assert not retrain_lost.judge(small, middle, known, 0, 2).is_lost
    assert retrain_lost.rival(small, [middle, large], known, 0, 2) is None
    assert retrain_lost.judge(small, None, known, 0, 2).is_surely_lost


def test_only_seeds_that_are_missing_are_trained():
    candidate = make_front()[0].candidate
    trained = []

    def train(of, seeds):
        assert of == candidate
        trained.extend(seeds)
        return [0.5] * len(seeds)

    known = {}
    assert retrain_lost.complete(known, 0, candidate, 2, train)
    assert retrain_lost.complete(known, 0, candidate, 3, train)
    assert not retrain_lost.complete(known, 0, candidate, 3, train)
    assert known == {(0, candidate): [0.5] * 3}
    assert len(set(trained)) == 3


@pytest.mark.parametrize(
    ("study", "counted"),
    [
        ("", "126 members, 19 stopped; 13 better than what is left, 5 surely"),
        pytest.param(
            "-long",
            "52 members, 9 stopped; 5 better than what is left, 0 surely",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_published_count_of_what_is_lost_is_that_of_its_table(
    capsys, monkeypatch, study, counted
):
    searches, table = (
        replay_stopping.RESULTS / f"fashion-mnist-{name}{study}.json"
        for name in ("stopped", "lost")
    )
    words = ["retrain_lost.py", "--searches", str(searches), "--table", str(table)]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(retrain_lost, "complete", lambda *_: False)  # all is there
    retrain_lost.main()
    assert capsys.readouterr().out.endswith(f"{counted}\n")
