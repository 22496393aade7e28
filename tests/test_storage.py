"""The study's file: who may drive it, what is refused, and what goes wrong with a disk."""

import gc
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from nasopt.errors import StudyError, StudyLockedError
from nasopt.search.archive import open_connection, read_trials
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.storage import database_errors, driver_lock, open_storage, storage_url
from nasopt.search.study import (
    open_study,
    working_copy,
)
from nasopt.workflow import open_context
from nasopt.workflow.context import driving
from tests.large_study import make_trial
from tests.table_search import TableEvaluator, run, table_of


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


def test_a_database_of_something_else_is_left_as_it_is(plan, database):
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(StudyError, match="holds no study; run 'nasopt search' first, or name"):
        open_study(plan, database, create=False)
    assert database.read_bytes() == before
    assert [p.name for p in database.parent.iterdir()] == [database.name]


def test_trials_are_read_as_they_stood_at_one_moment(plan, database):
    study, _, _ = run(plan, database, 4)
    with closing(open_connection(database)) as reader, working_copy(study, database) as copy:

        def write(statement):
            if (
                "FROM trials" in statement
            ):  # the last of the queries, after those of values and attributes
                reader.set_trace_callback(None)
                copy.add_trial(make_trial(plan, 4, np.random.default_rng(0)))
                copy._storage.write(4)

        before = read_trials(reader)
        reader.set_trace_callback(write)
        assert read_trials(reader) == before
        assert len(read_trials(reader)) == 5


def test_a_study_that_is_driven_is_not_even_made_by_another(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('name = "locked"\nbar = 0.75\n')
    context = open_context(file)
    context.database.parent.mkdir(parents=True)
    with driver_lock(context.database), pytest.raises(StudyLockedError), driving(context):
        pass
    assert not context.database.exists()


def test_a_second_driver_is_told_who_holds_the_study(plan, database):
    study, _, _ = run(plan, database, 1)
    with driver_lock(database):
        holder = json.loads(database.with_name("study.db.driver.json").read_text())
        assert holder["pid"] == os.getpid()
        with (
            pytest.raises(
                StudyLockedError,
                match=rf"worked on by process {os.getpid()} on .* since .*; wait for it, or end it",
            ),
            driver_lock(database),
        ):
            pass
    with driver_lock(database):
        pass
    del study


def test_a_study_is_driven_once_whatever_links_lead_to_it(plan, database, tmp_path):
    run(plan, database, 1)
    link = tmp_path / "link.db"
    link.symlink_to(database)
    with driver_lock(link), pytest.raises(StudyLockedError), driver_lock(database):
        pass


def test_who_only_reads_makes_no_tables(plan, database):
    run(plan, database, 1)
    begun = database.with_name("begun.db")
    with closing(sqlite3.connect(begun)) as connection:
        connection.execute("CREATE TABLE studies (study_id)")
    before = begun.read_bytes()
    with pytest.raises(StudyError, match="was only begun; run 'nasopt search STUDY'"):
        open_study(plan, begun, create=False)
    assert begun.read_bytes() == before
    # The last thing that Optuna writes is missing.
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    with pytest.raises(StudyError, match="was only begun"):
        open_study(plan, database, create=False)
    assert len(open_study(plan, database, create=True).trials) == 1


def test_settings_may_change_until_something_is_tried(plan, database):
    changed = replace(plan, identity={"seed": 8})
    open_study(plan, database, create=True)
    with pytest.raises(StudyError, match="other settings"):
        open_study(changed, database, create=False)
    run(changed, database, 1)
    with pytest.raises(StudyError, match=r"other settings \(seed was 8, is 7\)"):
        open_study(plan, database, create=True)


def test_a_study_with_other_settings_is_refused(plan, database):
    run(plan, database, 1)
    with pytest.raises(StudyError, match=r"other settings \(seed was 7, is 8\); undo the change"):
        open_study(replace(plan, identity={"seed": 8}), database, create=True)
    many = {"seed": 7, "search.start": [{"genome": "RC 1 1 relu;RC 1 1 relu;FL relu;"}] * 20}
    with pytest.raises(StudyError, match=r"other settings \(search.start has changed\); undo"):
        open_study(replace(plan, identity=many), database, create=True)
    with pytest.raises(
        StudyError, match=r"holds the study 'table', not 'other'; choose another file"
    ):
        open_study(replace(plan, name="other"), database, create=True)


def test_a_file_with_a_study_beside_it_is_refused(plan, database):
    run(plan, database, 2)
    optuna.create_study(study_name="mine", storage=storage_url(database))
    for create in (True, False):
        with pytest.raises(
            StudyError, match=r"holds other studies too \('mine'\), .*optuna.delete"
        ):
            open_study(plan, database, create=create)
    optuna.delete_study(study_name="mine", storage=storage_url(database))
    assert len(open_study(plan, database, create=False).trials) == 2


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "minimize"]])
def test_an_empty_study_of_another_program_is_left_alone(plan, database, directions):
    database.parent.mkdir(parents=True)
    url = storage_url(database)
    optuna.create_study(study_name=plan.name, storage=url, directions=directions)
    for create in (False, True):
        with pytest.raises(StudyError, match="'table' in .* was not made by nasopt; choose"):
            open_study(plan, database, create=create)
    assert optuna.load_study(study_name=plan.name, storage=url).user_attrs == {}


def test_a_study_that_was_only_begun_is_finished_by_a_search_alone(plan, database):
    database.parent.mkdir(parents=True)
    url, directions = storage_url(database), ["maximize", "minimize"]
    optuna.create_study(study_name=plan.name, storage=url, directions=directions)
    with pytest.raises(StudyError, match="was only begun; run 'nasopt search STUDY'"):
        open_study(plan, database, create=False)
    assert optuna.load_study(study_name=plan.name, storage=url).user_attrs == {}
    _, progress, _ = run(plan, database, 2)
    assert progress.n_trained == 2


def test_a_study_with_trials_of_another_program_is_refused(plan, database):
    database.parent.mkdir(parents=True)
    url, directions = storage_url(database), ["maximize", "minimize"]
    study = optuna.create_study(study_name=plan.name, storage=url, directions=directions)
    study.add_trial(optuna.create_trial(values=[0.5, 900.0]))
    with pytest.raises(StudyError, match="'table' in .* was not made by nasopt; choose"):
        open_study(plan, database, create=True)


def test_the_database_of_another_program_is_left_alone(plan, database):
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    before = database.read_bytes()
    for create, message in (
        (True, r"of another program \(it has the table 'notes'\)"),
        (False, "no study"),
    ):
        with pytest.raises(StudyError, match=message):
            open_study(plan, database, create=create)
    assert database.read_bytes() == before
    database.write_bytes(b"")  # what a driver leaves that was killed at once
    assert run(plan, database, 1)[1].n_trained == 1


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


@pytest.mark.parametrize("folder", ["what?", "a%20b", "a#b", "{x}", "a b"])
def test_a_folder_may_have_any_name(plan, tmp_path, folder):
    database = tmp_path / folder / "study.db"
    open_study(plan, database, create=True).add_trial(optuna.create_trial(values=[0.5, 900.0]))
    assert len(open_study(plan, database, create=False).trials) == 1
    assert len(optuna.load_study(study_name=plan.name, storage=storage_url(database)).trials) == 1
    assert {path.name for path in tmp_path.iterdir()} == {folder}


def test_files_that_are_no_study(plan, tmp_path):
    with pytest.raises(
        StudyError, match="no study at .* run 'nasopt search STUDY' with this study file first"
    ):
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
    if os.geteuid() == 0 and any(not p.stat().st_mode & 1 for p in Path(optuna.__file__).parents):
        pytest.skip("root runs the tests from a folder that no other user may enter")
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
    gc.collect()  # a connection that was opened without rights would share them with those after it
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


def test_a_full_disk_is_no_damaged_database(database, monkeypatch):
    def fail():
        with database_errors(database):
            raise sqlite3.OperationalError("disk I/O error")

    database.parent.mkdir()
    with pytest.raises(
        StudyError,
        match="damaged or not a study .* restore a copy or choose another file",
    ):
        fail()
    full = shutil.disk_usage(database.parent)._replace(free=0)
    monkeypatch.setattr("nasopt.search.storage.disk_usage", lambda _folder: full)
    with pytest.raises(StudyError, match="the disk is full .*; free some space"):
        fail()


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
