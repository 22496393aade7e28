"""The search on a table: real Optuna, real SQLite, no training."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from nasopt.candidates import pareto_front
from nasopt.errors import DataError, SearchStoppedError, StudyError, StudyLockedError
from nasopt.records import SeedResult, Verification
from nasopt.search.archive import open_connection, read_trials
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.progress import summarize
from nasopt.search.samplers import SAMPLERS
from nasopt.search.storage import database_errors, driver_lock, open_storage, storage_url
from nasopt.search.study import (
    open_study,
    read_database,
    read_records,
    read_verification,
    working_copy,
    write_verification,
)
from nasopt.workflow import open_context
from nasopt.workflow.context import driving
from tests.conftest import TableEvaluator
from tests.table_search import run, table_of


@pytest.fixture
def database(tmp_path):
    return tmp_path / "runs" / "study.db"


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
        if progress.n_trials == 5 and not seen:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program],
                capture_output=True,
                text=True,
                check=True,
            )
            seen.append(int(done.stdout))

    run(plan, database, 8, on_progress=read)
    assert 1 <= seen[0] <= 6
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


def test_a_driver_that_died_while_it_made_the_study_is_no_obstacle(plan, database, monkeypatch):
    whole = optuna.Study.set_user_attr
    for n_written in range(2):
        written = []

        def dying(self, key, value, written=written, n_written=n_written):
            if len(written) == n_written:
                raise KeyboardInterrupt
            written.append(key)
            whole(self, key, value)

        path = database.with_name(f"{n_written}.db")
        monkeypatch.setattr(optuna.Study, "set_user_attr", dying)
        with pytest.raises(KeyboardInterrupt):
            open_study(plan, path, create=True)
        monkeypatch.setattr(optuna.Study, "set_user_attr", whole)
        run(plan, path, 2)


def test_a_study_that_is_driven_is_not_even_made_by_another(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('name = "locked"\nbar = 0.75\n')
    context = open_context(file)
    context.folder.mkdir(parents=True)
    with driver_lock(context.database), pytest.raises(StudyLockedError), driving(context):
        pass
    assert not context.database.exists()


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
    raise MemoryError("no memory left")


def test_ten_failures_in_a_row_stop_the_search_with_the_reason(plan, database):
    with pytest.raises(
        SearchStoppedError,
        match="10 trials in a row failed, the last because MemoryError: no memory left",
    ):
        run(plan, database, 100, broken)
    study = open_study(plan, database, create=False)
    assert 10 <= len(study.trials) <= 12
    assert {t.state.name for t in study.trials} == {"FAIL"}


def test_a_worker_without_data_stops_the_search_and_fails_no_trial(plan, database):
    def no_data(candidate, seed, rule):
        raise DataError("there are no images here")

    with pytest.raises(
        SearchStoppedError, match="a worker cannot train: there are no images here"
    ):
        run(plan, database, 20, no_data)
    study = open_study(plan, database, create=False)
    assert {trial.state.name for trial in study.get_trials()} == {"RUNNING"}
    again, _, _ = run(plan, database, 20)
    whole, _, _ = run(plan, database.with_name("whole.db"), 20)
    assert table_of(again, plan.space) == table_of(whole, plan.space)


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


def test_a_second_driver_is_told_who_holds_the_study(plan, database):
    study, _, _ = run(plan, database, 1)
    with driver_lock(database):
        holder = json.loads(database.with_name("study.db.driver.json").read_text())
        assert holder["pid"] == os.getpid()
        with (
            pytest.raises(
                StudyLockedError,
                match=rf"driven by process {os.getpid()} on .* since .*; wait for it, or end it",
            ),
            driver_lock(database),
        ):
            pass
    with driver_lock(database):
        pass
    del study


def test_a_study_with_other_settings_is_refused(plan, database):
    run(plan, database, 1)
    with pytest.raises(StudyError, match=r"other settings \(seed was 7, is 8\); undo the change"):
        open_study(replace(plan, identity={"seed": 8}), database, create=True)
    with pytest.raises(
        StudyError, match=r"holds the study 'table', not 'other'; choose another file"
    ):
        open_study(replace(plan, name="other"), database, create=True)


def test_a_study_of_another_format_is_refused(plan, database):
    study, _, _ = run(plan, database, 1)
    study.set_user_attr("nasopt:format", 99)
    with pytest.raises(StudyError, match="has study format 99, this nasopt writes format 1"):
        open_study(plan, database, create=True)


def test_a_study_of_another_optuna_is_refused(plan, database):
    study, _, _ = run(plan, database, 1)
    with open_storage(database, create=False).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.9.9'")
    del study
    with pytest.raises(StudyError, match="written by another version of Optuna"):
        open_study(plan, database, create=True)


def test_files_that_are_no_study(plan, tmp_path):
    with pytest.raises(StudyError, match="there is no study at .* run 'nasopt search' first"):
        open_study(plan, tmp_path / "absent.db", create=False)
    text = tmp_path / "text.db"
    text.write_text("hello, this is no database")
    with pytest.raises(StudyError, match="it is not an SQLite database"):
        open_study(plan, text, create=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot make the folder"):
        open_study(plan, tmp_path / "file" / "study.db", create=True)


@pytest.fixture
def unprivileged():
    """A folder of mode 755, and what makes this process an ordinary user without rights to it."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)

    @contextmanager
    def drop_rights():
        folder.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)
            try:
                yield
            finally:
                os.seteuid(0)
        else:
            yield
        folder.chmod(0o755)

    yield folder, drop_rights
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_without_write_access_says_so(plan, unprivileged):
    folder, drop_rights = unprivileged
    with drop_rights(), pytest.raises(StudyError, match="cannot make the folder .*--database"):
        open_study(plan, folder / "runs" / "study.db", create=True)
    with drop_rights(), pytest.raises(StudyError, match="is not writable .*--database"):
        open_study(plan, folder / "study.db", create=True)
    run(plan, folder / "study.db", 2)

    def drive():
        open_study(plan, folder / "study.db", create=True)
        with driver_lock(folder / "study.db"):
            pass

    with drop_rights(), pytest.raises(StudyError, match=r"not writable|cannot write in"):
        drive()
    study, _, _ = run(plan, folder / "study.db", 3)
    assert len(study.trials) == 3


def test_a_damaged_database_is_named(plan, database):
    study, _, _ = run(plan, database, 5)
    study._storage.remove_session()
    del study
    content = bytearray(database.read_bytes())
    content[4096:] = b"\\xff" * (len(content) - 4096)
    database.write_bytes(bytes(content))
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    with pytest.raises(StudyError, match="damaged or not a study"):
        open_study(plan, database, create=True)


def test_a_full_disk_stops_the_search_and_loses_nothing(plan, database):
    study, _, _ = run(plan, database, 5)
    before = table_of(study, plan.space)

    def run_on_a_full_disk():
        with (
            database_errors(database),
            working_copy(study, database) as copy,
            ThreadPoolExecutor(1) as executor,
        ):
            connection = copy._storage._connection
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 1}")
            driver = SearchDriver(copy, plan, TableEvaluator(), executor, 1)
            driver.run(Limits(trials=500), threading.Event())

    with pytest.raises(StudyError, match=r"the disk is full .*; free some space and run the same"):
        run_on_a_full_disk()
    study, progress, _ = run(plan, database, 40)
    assert table_of(study, plan.space)[:5] == before
    assert progress.n_trained + progress.n_duplicates == 40


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
