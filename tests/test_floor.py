from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from nasopt.errors import (
    DivergedError,
    OutputError,
    StudyError,
    TooLargeError,
    WorkerDiedError,
    WorkerLostError,
)
from nasopt.floor import Floor, FloorWork, describe_floor, race_floor, train_floor
from nasopt.floor_log import FloorEntry, FloorLimits, FloorLog, read_limits
from nasopt.genome import Genome
from nasopt.racing import RaceRule
from nasopt.records import TO_THE_END, Evaluation, StopRule

LIMITS = FloorLimits(900, 2, 2, (1, 8), (1, 5), 100_000, ("relu", "swish"), 0.03, 0.1)
RULE = StopRule((0.5,))
STUDY = {"bar": 0.75, "seed": 1}
RACE = RaceRule(0.75, n_seeds=8)
GENOMES = [
    Genome.parse(f"RC 1 {k} {a};RC 1 1 {a};FL {a};") for k in (1, 2, 3) for a in LIMITS.activations
]
GATE = 0.74
BEST, NEAR = GENOMES[-1], GENOMES[1]


class Evaluator:
    """The last genome is good from every seed, the second near the bar, the first diverges, the others are hopeless."""

    def __init__(self):
        self.trained = []

    def __call__(self, candidate, seed, rule):
        self.trained.append((str(candidate.genome), seed))
        if candidate.genome == GENOMES[0]:
            raise DivergedError("the loss became nan")
        if candidate.genome == BEST:
            accuracy = 0.77 + seed % 5 / 1000
            return Evaluation(accuracy, accuracy, (0.6, accuracy), dead=False, duration_s=0.1)
        if candidate.genome == NEAR:
            accuracy = 0.744 + seed % 5 / 1000
            return Evaluation(accuracy, accuracy, (0.6, accuracy), dead=False, duration_s=0.1)
        assert rule == RULE
        return Evaluation(0.3, 0.3, (0.3,), dead=False, duration_s=0.1, stopped=True)


@pytest.fixture
def evaluator():
    return Evaluator()


def run(path, evaluator, *, races=True):
    log = FloorLog(path, LIMITS, STUDY, RULE)
    with ThreadPoolExecutor(2) as executor:
        work = FloorWork(evaluator, executor, 2, 1, lambda genome: len(str(genome)))
        list(train_floor(GENOMES, log, work))
        floor = Floor(LIMITS, RACE.bar, GATE, len(GENOMES), tuple(log.entries))
        return replace(floor, races=race_floor(floor, log, RACE, work)) if races else floor


def test_all_are_trained_once_and_what_ends_above_the_gate_is_raced(tmp_path, evaluator):
    floor = run(tmp_path / "floor.jsonl", evaluator)
    assert {e.genome for e in floor.entries} == {str(g) for g in GENOMES}
    assert sum(e.stopped for e in floor.entries) == len(GENOMES) - 3
    assert [e.genome for e in floor.best] == [str(BEST), str(NEAR), str(GENOMES[0])]
    assert {str(r.candidate.genome): v for r, v in floor.races} == {
        str(NEAR): "dropped",
        str(BEST): "accepted",
    }
    assert floor.is_complete
    text = "\n".join(describe_floor(floor))
    assert "2 convolutions, filters 1 to 8, kernels 1 to 5, at most 100,000 MACs" in text
    assert (
        "6 trained from one seed, 3 of them stopped early as hopeless, 2 above 74.0% and so raced"
        in text
    )
    assert "1 of them cleared 75.0%" in text
    assert [race["verdict"] for race in floor.to_json()["races"]] == ["dropped", "accepted"]


def test_wherever_it_was_killed_it_goes_on_and_comes_to_the_same(tmp_path, evaluator):
    whole = run(tmp_path / "whole.jsonl", evaluator)
    text = (tmp_path / "whole.jsonl").read_text()
    n_trainings = len(evaluator.trained)
    head = text.index("\n") + 1
    for cut in range(head, len(text), 37):
        path = tmp_path / f"cut-{cut}.jsonl"
        path.write_text(text[:cut])
        evaluator.trained.clear()
        resumed = run(path, evaluator)
        assert sorted(resumed.entries, key=str) == sorted(whole.entries, key=str)
        assert resumed.races == whole.races
        assert len(evaluator.trained) == n_trainings - text[head:cut].count("\n")
        assert sorted(path.read_text().splitlines()) == sorted(text.splitlines())


def test_races_share_the_error_in_the_order_of_size(tmp_path, evaluator, monkeypatch):
    places = []

    def note(start, rule, *_args):
        places.append((start.number, rule.position, rule.n_candidates))
        return start

    monkeypatch.setattr("nasopt.floor.run_race", note)
    run(tmp_path / "floor.jsonl", evaluator)
    assert places == [(1, 1, 2), (2, 2, 2)]


def test_limits_and_rule_are_those_it_was_begun_with(tmp_path):
    path = tmp_path / "floor.jsonl"
    assert read_limits(path) is None
    FloorLog(path, LIMITS, STUDY, RULE).add_entry(FloorEntry("g", 800, 0.3, 1, stopped=True))
    again = FloorLog(path, LIMITS, STUDY, TO_THE_END)
    assert (again.rule, read_limits(path)) == (RULE, LIMITS)
    assert again.entries == [FloorEntry("g", 800, 0.3, 1, stopped=True)]
    with pytest.raises(
        StudyError, match="holds a floor within other limits .* move the file away"
    ):
        FloorLog(path, replace(LIMITS, lr=0.1), STUDY, RULE)
    with pytest.raises(
        StudyError, match=r"of another study \(bar was 0.75, is 0.8 now\); move the file away"
    ):
        FloorLog(path, LIMITS, STUDY | {"bar": 0.8}, RULE)
    with path.open("a") as file:
        file.write('{"foo": 1}\n')
    with pytest.raises(StudyError, match="not a floor of this version .* move the file away"):
        FloorLog(path, LIMITS, STUDY, RULE)
    path.write_text('{"limits": {"below": 900}, "stop_below": []}\n')
    with pytest.raises(StudyError, match="not a floor of this version .* move the file away"):
        read_limits(path)
    path.write_text("no JSON\n")
    with pytest.raises(StudyError, match="cannot read the floor in .*; move the file away"):
        read_limits(path)


def test_a_training_without_a_result_stops_nothing_but_a_dead_worker_does(tmp_path):
    class Failing(Evaluator):
        error = TooLargeError("it needs 3 GB")

        def __call__(self, candidate, seed, rule):
            if candidate.genome == GENOMES[2]:
                raise self.error
            return super().__call__(candidate, seed, rule)

    floor = run(tmp_path / "floor.jsonl", Failing())
    assert (
        FloorEntry(str(GENOMES[2]), len(str(GENOMES[2])), 0.0, 0, stopped=False) in floor.entries
    )
    assert floor.is_complete
    Failing.error = WorkerDiedError("killed")
    with pytest.raises(WorkerDiedError):
        run(tmp_path / "other.jsonl", Failing())


@pytest.mark.parametrize("lost", [WorkerDiedError("killed"), WorkerLostError("the cluster")])
def test_what_ended_beside_a_worker_that_died_is_kept(tmp_path, lost):
    class Ended(Executor):
        """All that is asked for has ended before it is waited for."""

        def submit(self, fn, *args):
            future = Future()
            try:
                future.set_result(fn(*args))
            except Exception as error:
                future.set_exception(error)
            return future

    class Dying(Evaluator):
        def __call__(self, candidate, seed, rule):
            if candidate.genome == GENOMES[2]:
                raise lost
            return super().__call__(candidate, seed, rule)

    log = FloorLog(tmp_path / "floor.jsonl", LIMITS, STUDY, RULE)
    work = FloorWork(Dying(), Ended(), 6, 1, lambda genome: len(str(genome)))
    with pytest.raises(type(lost)):
        list(train_floor(GENOMES, log, work))
    assert {e.genome for e in log.entries} == {str(g) for g in GENOMES if g != GENOMES[2]}


def test_a_full_disk_is_said(tmp_path):
    log = FloorLog(tmp_path / "floor.jsonl", LIMITS, STUDY, RULE)
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(OutputError, match="cannot write .*; free some space or mend"):
        log.add_seed("g", 0.7)


def test_a_floor_that_is_not_complete_says_so(tmp_path, evaluator):
    floor = run(tmp_path / "floor.jsonl", evaluator, races=False)
    assert not floor.is_complete
    lines = describe_floor(floor)
    assert lines[1].endswith("2 above 74.0% and so to be raced")
    assert lines[-1] == "not complete; run the same command again to go on"


def test_no_more_are_trained_than_are_asked_for(tmp_path, evaluator):
    path = tmp_path / "floor.jsonl"
    for n_before in (0, 2, 4):
        log = FloorLog(path, LIMITS, STUDY, RULE)
        with ThreadPoolExecutor(4) as executor:
            work = FloorWork(evaluator, executor, 4, 1, lambda genome: len(str(genome)))
            assert len(list(train_floor(GENOMES, log, work, 2))) == 2
        assert len(FloorLog(path, LIMITS, STUDY, RULE).entries) == n_before + 2
        assert len(evaluator.trained) == n_before + 2
