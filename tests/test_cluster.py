"""A real Ray cluster on this machine, of two nodes, and what is trained on it."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from nasopt.cluster import RayExecutor
from nasopt.errors import (
    DivergedError,
    EngineError,
    SettingsError,
    WorkerDiedError,
    WorkerLostError,
)
from nasopt.workflow import open_context
from tests.conftest import find_port, rows_of

RAY = Path(sys.executable).with_name("ray")
N_NODES = 2
# On one machine no token is needed; workers find the tests' own functions.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(Path.cwd()),
}


@contextmanager
def a_node(*options):
    """A node of one core, until the block is left."""
    command = [RAY, "start", "--block", "--num-cpus", "1", "--object-store-memory", "80000000"]
    with subprocess.Popen(
        [*command, *options],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def a_head(*options):
    """The address of a cluster, whose first node this is, until the block is left."""
    port = find_port()
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    head = ("--head", "--port", str(port), "--include-dashboard=false", "--temp-dir", folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with a_node(*head, *options):
            yield f"127.0.0.1:{port}"
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_cores(address, n_cores):
    deadline = time.monotonic() + 60
    while True:
        try:
            with RayExecutor(address) as executor:
                if executor.n_workers == n_cores:
                    return
        except SettingsError as error:
            if n_cores == 0 and "no core" in str(error):
                return
        assert time.monotonic() < deadline, "the nodes did not come up"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two nodes."""
    with a_head() as address, a_node("--address", address):
        wait_for_cores(address, N_NODES)
        yield address


def diverge():
    raise DivergedError("the loss became NaN")


def die_once(path):
    if not path.exists():
        path.touch()
        os._exit(1)
    return str(path)


def node_after(seconds):
    import ray

    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()


def test_tasks_run_on_all_nodes_and_fail_as_they_would_here(cluster, tmp_path, monkeypatch):
    with RayExecutor(cluster) as executor:
        nodes = [executor.submit(node_after, 1) for _ in range(4)]
        assert len({future.result() for future in nodes}) == N_NODES
        assert executor.submit(math.pow, 2, 3).result() == 8
        with pytest.raises(DivergedError, match="became NaN"):
            executor.submit(diverge).result()
        with pytest.raises(WorkerDiedError, match="process of a Ray task died"):
            executor.submit(os._exit, 1).result()
        died = tmp_path / "died"  # the first time, and not the second
        assert executor.submit(die_once, died).result() == str(died)
        monkeypatch.setattr("nasopt.cluster.__version__", "0.0.1")
        with pytest.raises(EngineError, match="and the driver 0.0.1; install the same"):
            executor.submit(math.pow, 2, 3).result()


def test_a_machine_that_cannot_import_is_no_candidates_fault(cluster, tmp_path, monkeypatch):
    with RayExecutor(cluster) as executor:
        (tmp_path / "only_here.py").write_text("def call(version, fn, args, kwargs): return 1\n")
        monkeypatch.syspath_prepend(tmp_path)  # after Ray told its workers where to look
        import only_here

        with pytest.raises(EngineError, match="install it there .*only_here"):
            executor.submit(only_here.call, None, None, None, None).result()
        executor._remote_call = executor._ray.remote(max_retries=1)(only_here.call)
        with pytest.raises(EngineError, match="cannot import nasopt, install it there"):
            executor.submit(math.pow, 2, 3).result()


def sleep_as(path):
    path.write_text(str(os.getpid()))
    time.sleep(60)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_leaving_without_waiting_ends_what_runs(cluster, tmp_path):
    executor = RayExecutor(cluster)
    written = tmp_path / "pid"
    running = executor.submit(sleep_as, written)
    waiting = [executor.submit(time.sleep, 60) for _ in range(3)]
    deadline = time.monotonic() + 60
    while not (written.exists() and written.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises((WorkerDiedError, WorkerLostError)):
        running.result(timeout=10)
    assert any(future.cancelled() for future in waiting)
    deadline = time.monotonic() + 10
    while is_alive(int(written.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_search_on_the_cluster_is_the_search_of_this_machine(
    cluster, study_file, tmp_path, nasopt, monkeypatch
):
    tables = []
    for options in (["--workers", "1"], ["--ray", cluster]):
        if options[0] == "--ray":  # nothing can be trained in this process any more
            monkeypatch.setattr("nasopt.evaluation.train", None)
            monkeypatch.setattr("nasopt.verification.train", None)
        database = tmp_path / options[0] / "study.db"
        words = ["search", study_file, "--trials", "8", "--database", database, "--quiet"]
        code, _, err = nasopt(*words, *options)
        assert code == 0, err
        tables.append(rows_of(open_context(study_file, database=database)))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 8
    handler = signal.getsignal(signal.SIGTERM)
    rule = ["--rule", "best-under", "--under", "5000", "--bar", "0.15"]
    words = ["verify", study_file, "--database", database, *rule, "--json"]
    code, out, err = nasopt(*words, "--ray", cluster)
    assert code == 0, err
    assert json.loads(out)["chosen"]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_cluster_that_is_not_there(nasopt, study_file, free_port):
    for address, message in (
        (f"127.0.0.1:{free_port}", "Connection refused"),
        ("nowhere", "an address is 'auto' or HOST:PORT"),
    ):
        code, _, err = nasopt("search", study_file, "--ray", address)
        assert code == 2
        assert "error: no Ray cluster answers at" in err
        assert message in err


def test_a_cluster_that_goes_away_fails_no_trial_and_one_without_cores_is_refused(
    study_file, tmp_path, nasopt
):
    database = tmp_path / "study.db"
    words = ["search", study_file, "--database", database, "--quiet"]
    with a_head("--num-cpus", "0") as address:
        wait_for_cores(address, 0)
        code, _, err = nasopt(*words, "--trials", "1", "--ray", address)
        assert (code, "has no core to train on" in err) == (2, True)
        with a_node("--address", address):
            wait_for_cores(address, 1)
            code, _, err = nasopt(*words, "--trials", "3", "--ray", address)
            assert code == 0, err
            command = [sys.executable, "-m", "nasopt", *map(str, words), "--trials", "400"]
            search = subprocess.Popen(
                [*command, "--ray", address], stderr=subprocess.PIPE, text=True
            )
            context = open_context(study_file, database=database)
            while len(context.records()) < 5 and search.poll() is None:
                time.sleep(0.2)
    _, err = search.communicate(timeout=120)
    assert search.returncode == 2, err
    assert "run the same command again" in err
    assert {r.state for r in context.records()} <= {"complete", "pruned", "running"}
    n_trials = len(context.records()) + 2
    code, _, err = nasopt(*words, "--trials", n_trials)
    assert code == 0, err
    assert {r.state for r in context.records()} <= {"complete", "pruned"}
    assert len(context.records()) == n_trials
