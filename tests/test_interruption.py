"""A search as a process of its own: interrupted, killed, and started twice."""

import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import optuna
import pytest

ENDED = ("COMPLETE", "PRUNED", "FAIL")
PROGRAM = (sys.executable, "-m", "nasopt")


@pytest.fixture(autouse=True)
def heed_ctrl_c():
    """What a shell starts in the background ignores it, perhaps these tests and with them what they start."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def start(study_file, *words):
    return start_command("search", study_file, "--trials", "400", "--workers", "2", *words)


@contextmanager
def start_command(*words):
    """The process of a command, killed at the end if it has not ended."""
    command = [*PROGRAM, *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_trials(study_file, n_trials, *states):
    """The study once that many trials have ended, or are in ``states``; read-only until then, so as not to create it."""
    path = study_file.parent / "runs" / "tiny" / "study.db"
    chosen = ", ".join(f"'{state}'" for state in states or ENDED)
    query = f"SELECT count(*) FROM trials WHERE state IN ({chosen})"
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


def test_a_running_search_tells_its_state_and_ends_when_it_is_terminated(nasopt, study_file):
    with start(study_file) as process:
        wait_for_trials(study_file, 1)
        code, out, _ = nasopt("status", study_file)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (code, out.startswith("tiny: ")) == (0, True)
    assert process.returncode == 130
    assert "stopping after the running trials" in err


def test_the_dashboard_serves_the_study_until_ctrl_c(nasopt, study_file, free_port):
    assert nasopt("search", study_file, "--trials", 2)[0] == 0
    with start_command("dashboard", study_file, "--port", free_port) as process:
        assert f":{free_port}/dashboard" in process.stdout.readline()
        api = f"http://127.0.0.1:{free_port}/api/studies"
        with urllib.request.urlopen(api, timeout=60) as answer:
            assert "tiny" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_second_ctrl_c_ends_at_once(study_file):
    train_all_to_the_end(study_file)
    study_file.write_text(study_file.read_text().replace("epochs = 2", "epochs = 100_000"))
    with start(study_file, "--quiet") as process:
        wait_for_trials(study_file, 1, "RUNNING")
        process.send_signal(signal.SIGINT)
        assert "once more to stop now" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted; nothing completed is lost" in err


def test_ctrl_c_is_as_graceful_where_nobody_reads_along_any_more(study_file):
    train_all_to_the_end(study_file)
    with start(study_file) as process:
        wait_for_trials(study_file, 2)
        process.stderr.close()  # as 'tee' that the same Ctrl-C ended
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.wait(60)
    assert process.returncode == 130
    study = wait_for_trials(study_file, 2)
    assert {t.state.name for t in study.trials} == {"COMPLETE"}


def test_a_verification_that_is_interrupted_goes_on(nasopt, study_file):
    study_file.write_text(study_file.read_text().replace("race_seeds = 4", "race_seeds = 3000"))
    assert nasopt("search", study_file, "--trials", "3")[0] == 0

    def n_raced():
        study = wait_for_trials(study_file, 3)
        return sum(len(v) for k, v in study.user_attrs.items() if k.startswith("nasopt:race:"))

    with start_command("verify", study_file) as process:
        while not n_raced():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted; nothing completed is lost" in err
    before = n_raced()
    with start_command("verify", study_file) as process:
        while n_raced() == before:
            assert process.poll() is None
            time.sleep(0.1)


def test_ctrl_c_ends_the_wait_for_what_is_no_ray_cluster(study_file):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with start(study_file, "--ray", address) as process:
            server.accept()[0].close()
            time.sleep(3)  # nothing else tells when Ray has begun to try
            process.send_signal(signal.SIGINT)
            process.wait(20)
    assert process.returncode == -signal.SIGINT
    with start(study_file, "--trials", "1") as process:  # the study is free
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_an_error_does_not_wait_for_what_is_still_trained():
    program = """
import sys, time
from nasopt import cli
from nasopt.errors import StudyError
from nasopt.executors import make_executor

def fail(*_, **__):
    executor = make_executor(2, in_threads=True)
    executor.submit(time.sleep, 600)
    executor.shutdown(wait=False, cancel_futures=True)
    raise StudyError("it is over")

cli.app = fail
cli.main()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "error: it is over\n")


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
