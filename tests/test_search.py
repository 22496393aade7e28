"""The search on a table: real Optuna, real SQLite, no training."""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace

import numpy as np
import optuna
import pytest

from nasopt.candidates import CandidateTable, pareto_front
from nasopt.errors import DataError, SearchStoppedError, StudyError, WorkerLostError
from nasopt.records import SeedResult, Verification
from nasopt.search.archive import open_connection, read_trials
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.progress import Progress, add_record, summarize
from nasopt.search.samplers import SAMPLERS
from nasopt.search.storage import storage_url
from nasopt.search.study import (
    open_study,
    read_database,
    read_records,
    read_verification,
    working_copy,
    write_verification,
)
from tests.conftest import make_record
from tests.table_search import TableEvaluator, run, table_of


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_fills_a_study_that_optuna_and_its_dashboard_understand(plan, database, sampler):
    plan = replace(plan, sampler=sampler)
    study, progress, cause = run(plan, database, 30)
    assert cause == "trials"
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["val_accuracy", "n_params"]
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE"] * 30
    for trial in trials:
        attrs = trial.user_attrs
        assert {
            "genome",
            "macs",
            "seed",
            "curve",
            "dead",
            "duration_s",
            "elapsed_s",
        } <= attrs.keys()
        feasible = trial.values[0] >= plan.bar
        assert all(c <= 0 for c in trial.constraints.values()) == feasible
        assert len(trial.constraints) == 1
        assert f"filters_{trial.params['depth'] - 1}" in trial.params
        assert f"filters_{trial.params['depth']}" not in trial.params
    best = {t.number for t in study.best_trials}
    assert best <= {
        r.number for r in read_records(study, plan.space) if r.val_accuracy >= plan.bar
    }
    assert progress.smallest.n_params == min(
        t.values[1] for t in trials if t.values[0] >= plan.bar
    )
    assert [r.number for r in progress.front] == [
        r.number for r in pareto_front(read_records(study, plan.space))
    ]


def test_what_the_driver_writes_is_what_optuna_reads(plan, database):
    study, _, _ = run(replace(plan, stop_confidence=0.95), database, 60)
    by_optuna = [asdict(r) for r in read_records(study, plan.space)]
    assert [asdict(r) for r in read_database(database, plan.space)] == by_optuna
    with closing(open_connection(database)) as connection:
        mine = read_trials(connection)
    for ours, theirs in zip(mine, study.get_trials(), strict=True):
        assert ours == theirs


def test_another_process_reads_while_the_driver_writes(plan, database):
    program = (
        "import optuna; optuna.logging.set_verbosity(optuna.logging.ERROR); "
        f"print(len(optuna.load_study(study_name='table', storage={storage_url(database)!r}).trials))"
    )
    seen = []

    def read(progress):
        if progress.n_trials >= 5 and not seen:  # two trials may end at once
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program],
                capture_output=True,
                text=True,
                check=True,
            )
            seen.append((int(done.stdout), progress.n_trials))

    run(plan, database, 8, on_progress=read)
    ((n_read, n_asked),) = seen
    assert 1 <= n_read <= n_asked
    with closing(open_connection(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_begins_with_the_networks_it_is_given(plan, database, sampler):
    rng = np.random.default_rng(3)
    start = tuple(plan.space.sample(rng) for _ in range(5))
    begun = replace(plan, sampler=sampler, start=start, replicate_share=0.5)
    study, _, _ = run(begun, database, 3)
    study, _, _ = run(begun, database, 12)
    records = read_records(study, plan.space)
    assert tuple(r.candidate for r in records[:5]) == start
    assert [r.number for r in records] == list(range(12))
    if sampler == "nsga2":
        whole, _, _ = run(begun, database.with_name("whole.db"), 12, n_workers=1)
        assert table_of(whole, plan.space) == table_of(study, plan.space)


def test_a_known_candidate_is_never_trained_again(plan, database):
    trained = []

    class Counting(TableEvaluator):
        def __call__(self, candidate, seed, rule):
            trained.append(candidate)
            return super().__call__(candidate, seed, rule)

    tiny = replace(
        plan.space, depth=(2, 2), filters=(1, 1), kernel=(1, 1), activations=("relu", "tanh")
    )
    plan = replace(plan, space=tiny, sampler="random")
    study, progress, _ = run(plan, database, 60, Counting(), n_workers=4)
    assert (
        len(trained) == len(set(trained)) == progress.n_trained <= 20
    )  # 2 * 2 activations, 5 final ones
    assert progress.n_trained + progress.n_duplicates == 60
    records = {r.number: r for r in read_records(study, plan.space)}
    for record in records.values():
        if record.duplicate_of is not None:
            assert record.val_accuracy == records[record.duplicate_of].val_accuracy
            assert record.candidate == records[record.duplicate_of].candidate


def test_a_space_that_is_used_up_ends_the_search(plan, database, monkeypatch):
    monkeypatch.setattr("nasopt.search.driver.MAX_REPEATS_IN_A_ROW", 50)
    tiny = replace(plan.space, depth=(2, 2), filters=(1, 1), kernel=(1, 1), activations=("relu",))
    _, progress, cause = run(replace(plan, space=tiny, sampler="random"), database, 500)
    assert cause == "exhausted"
    assert progress.n_trained == 5
    n_trials = progress.n_trials
    for n_workers in (1, 4):  # run again, it ends where it was; and anew with other workers
        _, again, cause = run(replace(plan, space=tiny, sampler="random"), database, 500)
        assert (again.n_trials, cause) == (n_trials, "exhausted")
        other = database.with_name(f"{n_workers}.db")
        _, anew, _ = run(
            replace(plan, space=tiny, sampler="random"), other, 500, n_workers=n_workers
        )
        assert anew.n_trials == n_trials


@pytest.mark.parametrize("sampler", ["nsga2", "random"])
def test_a_used_up_space_ends_the_search_though_most_of_it_is_too_large(
    plan, database, monkeypatch, sampler
):
    monkeypatch.setattr("nasopt.search.driver.MAX_REPEATS_IN_A_ROW", 100)
    space = replace(plan.space, activations=("relu",), final_activations=("relu",), max_params=784)
    plan = replace(plan, space=space, sampler=sampler)
    _, progress, cause = run(plan, database, 3000)
    assert cause == "exhausted"
    assert progress.n_too_large > 20
    n_trials = progress.n_trials
    _, again, cause = run(plan, database, 3000)
    assert (again.n_trials, cause) == (n_trials, "exhausted")


def test_a_network_that_always_fails_does_not_keep_a_search_in_a_used_up_space(
    plan, database, monkeypatch
):
    monkeypatch.setattr("nasopt.search.driver.MAX_REPEATS_IN_A_ROW", 300)
    activations = ("relu", "tanh")
    tiny = replace(
        plan.space, depth=(2, 2), filters=(1, 1), kernel=(1, 1), activations=activations
    )
    plan = replace(plan, space=tiny, sampler="random")
    failing = TableEvaluator(fail_tanh=True)
    _, progress, cause = run(plan, database, 2000, failing)
    assert (cause, progress.n_trained) == ("exhausted", 10)
    assert progress.n_failed > 10  # more than may fail in a row
    for n_workers in (1, 4):
        other = database.with_name(f"{n_workers}.db")
        for n_trials in (progress.n_trials // 2, 2000):  # resumed once
            _, anew, cause = run(plan, other, n_trials, failing, n_workers=n_workers)
        assert (cause, anew.n_trials) == ("exhausted", progress.n_trials)


def test_networks_above_the_cap_are_pruned_untrained(plan, database):
    plan = replace(plan, space=replace(plan.space, max_params=1000), sampler="random")
    study, progress, _ = run(plan, database, 40)
    pruned = [r for r in read_records(study, plan.space) if r.state == "pruned"]
    assert progress.n_too_large == len(pruned) > 0
    for record in pruned:
        assert record.n_params > 1000
        assert (
            record.reason == f"{record.n_params} parameters are more than space.max_params = 1000"
        )


def test_a_failure_is_recorded_and_the_search_goes_on(plan, database):
    study, progress, _ = run(plan, database, 40, TableEvaluator(fail_tanh=True))
    failed = [r for r in read_records(study, plan.space) if r.state == "failed"]
    assert progress.n_failed == len(failed) > 0
    assert {r.reason for r in failed} == {"the loss became nan"}
    assert progress.n_trained + progress.n_duplicates + progress.n_failed == 40


def broken(candidate, seed, rule):
    raise MemoryError("no\n memory\x00 left")  # told on one line, without what cannot be printed


def test_ten_failures_in_a_row_stop_the_search_with_the_reason(plan, database):
    with pytest.raises(
        SearchStoppedError,
        match="10 trials in a row failed, the last because MemoryError: no memory left",
    ):
        run(plan, database, 100, broken)
    study = open_study(plan, database, create=False)
    assert 10 <= len(study.trials) <= 12
    assert {t.state.name for t in study.trials} == {"FAIL"}


@pytest.mark.parametrize(
    "error", [DataError("there are no images here"), WorkerLostError("the cluster is gone")]
)
def test_what_is_no_networks_fault_stops_the_search_and_fails_no_trial(plan, database, error):
    def fail(candidate, seed, rule):
        raise error

    with pytest.raises(SearchStoppedError, match=f"a worker cannot train: {error}"):
        run(plan, database, 20, fail)
    study = open_study(plan, database, create=False)
    assert {trial.state.name for trial in study.get_trials()} == {"RUNNING"}
    again, _, _ = run(plan, database, 20)
    whole, _, _ = run(plan, database.with_name("whole.db"), 20)
    assert table_of(again, plan.space) == table_of(whole, plan.space)


def search_while(change, plan, database):
    """Searches ten trials, then changes the file from elsewhere as the search goes on."""
    changed = []

    def on_progress(progress):
        if progress.n_trials >= 10 and not changed:
            changed.append(change(optuna.load_study(study_name="table", storage=url)))

    url = storage_url(database)
    return run(plan, database, 50, on_progress=on_progress)


def test_a_study_that_is_deleted_while_it_is_searched_is_not_written_on(plan, database):
    def delete(study):
        optuna.delete_study(study_name=study.study_name, storage=study._storage)

    with pytest.raises(StudyError, match="deleted the study .* run the same command again"):
        search_while(delete, plan, database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (0,)
    study, _, _ = run(plan, database, 5)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]


def test_trials_added_while_a_study_is_searched_get_numbers_of_their_own(plan, database):
    params = plan.space.to_params(plan.space.sample(np.random.default_rng(0)))
    with pytest.raises(StudyError, match="added trials .* takes them in"):
        search_while(lambda study: study.enqueue_trial(params), plan, database)
    study, _, _ = run(plan, database, 30)
    assert [trial.number for trial in study.trials] == list(range(30))
    added = next(t for t in study.trials if t.system_attrs.get("fixed_params") == params)
    assert (added.params, added.state.name) == (params, "COMPLETE")


def test_an_interrupted_search_finishes_what_runs_and_goes_on_later(plan, database):
    stop = threading.Event()
    _, progress, cause = run(
        plan,
        database,
        50,
        stop=stop,
        on_progress=lambda p: stop.set() if p.n_trials >= 10 else None,
    )
    assert cause == "interrupted"
    assert progress.n_running == 0
    study, progress, cause = run(plan, database, 20)
    assert cause == "trials"
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 20


def test_what_a_killed_driver_left_is_trained_by_as_many_workers_as_there_are(plan, database):
    whole, _, _ = run(plan, database.with_name("whole.db"), 24)
    stored = open_study(plan, database, create=True)
    with working_copy(stored, database) as study, ThreadPoolExecutor(1) as executor:
        driver = SearchDriver(study, plan, broken, executor, 8)
        for _ in range(8):  # asked, written, and never told
            driver._began = time.monotonic()
            driver._start(driver._ask())
    at_once, most, stop = [], [], threading.Event()

    def counting(candidate, seed, rule):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.01)
        at_once.pop()
        return TableEvaluator()(candidate, seed, rule)

    _, progress, cause = run(
        plan, database, 8, counting, n_workers=1, stop=stop, on_progress=lambda _: stop.set()
    )
    assert (cause, len(most)) == ("interrupted", 1)  # it ends after what runs
    _, progress, cause = run(plan, database, 8, counting, n_workers=2)
    assert (cause, progress.n_trials, progress.n_trained) == ("trials", 8, 8)
    assert max(most) == 2
    study, _, _ = run(plan, database, 24)
    assert table_of(study, plan.space) == table_of(whole, plan.space)


def test_trials_that_a_user_told_by_hand_disturb_nothing(plan, database):
    run(plan, database, 10)
    study = open_study(plan, database, create=False)
    trial = study.ask()
    plan.space.suggest(trial)
    study.tell(trial, (0.9, 800))
    study, progress, _ = run(plan, database, 20)
    assert [t.number for t in study.trials] == list(range(20))
    assert [r.number for r in read_records(study, plan.space)] == [*range(10), *range(11, 20)]
    assert (progress.n_trials, progress.n_trained) == (20, 19)
    assert len(read_database(database, plan.space)) == 19


@pytest.mark.filterwarnings("ignore:Fixed parameter .* is out of range")
@pytest.mark.parametrize("params", [{"depth": 9}, {"filters_0": 60}])
def test_what_a_user_enqueued_outside_of_the_space_fails(plan, database, params):
    run(plan, database, 10)
    open_study(plan, database, create=False).enqueue_trial(params)
    study, progress, _ = run(plan, database, 20)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 10 + ["FAIL"] + ["COMPLETE"] * 9
    assert next(iter(params)) in study.trials[10].user_attrs["reason"]
    assert progress.n_trained == 19


@pytest.mark.parametrize("replicate", [0, 1])
def test_of_two_networks_of_one_size_and_accuracy_the_first_is_named(plan, replicate):
    """Whichever ended first: here the second did, and at the end perhaps a replicate of a third."""
    ended = [make_record(number, 900, 0.8) for number in (1, 0)]
    ended.append(make_record(2, 1000, 0.7, replicate=replicate))
    table, progress = CandidateTable(), Progress()
    for record in ended:
        table.add(record)
        progress = add_record(progress, record, plan.bar, table)
        number = min(r.number for r in ended[: ended.index(record) + 1])
        assert progress.smallest.number == number
        assert [s.number for s in progress.front] == [number]
    assert summarize(ended, plan.bar).smallest.number == 0


def test_time_is_counted_over_all_runs_of_a_study(plan, database):
    def slow(candidate, seed, rule):
        time.sleep(0.02)
        return TableEvaluator()(candidate, seed, rule)

    n_trials = []
    for _ in range(3):
        stored = open_study(plan, database, create=True)
        with working_copy(stored, database) as study, ThreadPoolExecutor(1) as executor:
            driver = SearchDriver(study, plan, slow, executor, 1)
            assert driver.run(Limits(seconds=0.4), threading.Event()) == "budget"
            n_trials.append(len(study.trials))
    # Time counts up to the end of the last trial, which may lie a little before the limit.
    assert 1 < n_trials[0] <= n_trials[1] <= n_trials[0] + 1
    assert n_trials[2] == n_trials[1]


def test_verifications_are_kept_in_the_study(plan, database):
    study, progress, _ = run(plan, database, 10)
    record = progress.front[-1]
    assert read_verification(study, record, 0.75).seeds == ()
    seeds = (SeedResult(1, 11, 0.77, 0.78, 0.79, dead=False),)
    verification = Verification(record.number, record.candidate, record.n_params, 0.75, seeds)
    write_verification(study, verification)
    again = open_study(plan, database, create=False)
    assert read_verification(again, record, 0.75) == verification


def test_where_a_search_stands_can_be_read_from_its_records(plan, database):
    study, progress, _ = run(plan, database, 15)
    again = summarize(read_records(study, plan.space), plan.bar)
    assert replace(again, latest=None) == replace(progress, latest=None)
    assert again.to_json()["n_trials"] == 15
