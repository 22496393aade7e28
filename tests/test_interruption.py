"""A search as a process of its own: interrupted, killed, and started twice."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import optuna

PROGRAM = (sys.executable, "-m", "nasopt")


def start(study_file, *words):
    command = [*PROGRAM, "search", str(study_file), "--trials", "400", "--workers", "2", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def wait_for_trials(study_file, n_trials):
    """The study once that many trials have ended; read-only until then, so as not to create it."""
    path = study_file.parent / "runs" / "tiny" / "study.db"
    query = "SELECT count(*) FROM trials WHERE state NOT IN ('RUNNING', 'WAITING')"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
        ):
            if db.execute(query).fetchone()[0] >= n_trials:
                return optuna.load_study(study_name="tiny", storage=f"sqlite:///{path}")
        time.sleep(0.1)
    raise AssertionError(f"no {n_trials} trials in 60 s")


def train_all_to_the_end(study_file):
    """However many trials end before a signal arrives, none is to be stopped early."""
    text = study_file.read_text().replace("[search]", "[search]\nearly_stopping = false")
    study_file.write_text(text)


def test_ctrl_c_ends_after_the_running_trials_with_code_130(study_file):
    train_all_to_the_end(study_file)
    with start(study_file) as process:
        wait_for_trials(study_file, 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after the running trials" in err
    assert "interrupted; run the same command to go on" in out
    study = wait_for_trials(study_file, 2)
    assert {t.state.name for t in study.trials} <= {"COMPLETE"}


def test_killed_a_search_goes_on_with_the_trial_in_flight(nasopt, study_file):
    train_all_to_the_end(study_file)
    with start(study_file) as process:
        wait_for_trials(study_file, 3)
        process.kill()
        process.communicate()
    before = wait_for_trials(study_file, 3).get_trials()
    done = {t.number: t.values for t in before if t.state.name == "COMPLETE"}
    n_trials = len(before) + 2
    assert nasopt("search", study_file, "--trials", n_trials)[0] == 0
    after = wait_for_trials(study_file, n_trials).get_trials()
    assert [t.number for t in after] == list(range(n_trials))
    assert {t.state.name for t in after} == {"COMPLETE"}
    assert {number: after[number].values for number in done} == done


def test_a_second_search_on_the_same_study_is_refused(nasopt, study_file):
    with start(study_file) as process:
        wait_for_trials(study_file, 1)
        code, _, err = nasopt("search", study_file)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert code == 2
    assert f"is being worked on by process {process.pid}" in err
