import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nasopt.errors import WorkerDiedError
from nasopt.executors import IsolatedProcesses, make_executor


def square(x):
    return x * x


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def raise_value_error():
    raise ValueError("on purpose")


def test_a_process_that_dies_fails_its_task_alone():
    with IsolatedProcesses(2) as executor:
        good, bad = executor.submit(square, 3), executor.submit(die)
        with pytest.raises(WorkerDiedError, match="the worker process died .* use fewer workers"):
            bad.result()
        assert good.result() == 9
        assert [f.result() for f in [executor.submit(square, i) for i in range(4)]] == [0, 1, 4, 9]
        with pytest.raises(ValueError, match="on purpose"):
            executor.submit(raise_value_error).result()


def die_once(path):
    if not path.exists():
        path.touch()
        die()
    return os.getpid()


def test_a_task_whose_process_died_is_done_once_more(tmp_path):
    with IsolatedProcesses(1) as executor:
        worker = executor.submit(die_once, tmp_path / "died").result()
        os.kill(worker, signal.SIGTERM)  # as to a whole group: it is for the driver to end
        time.sleep(0.2)
        assert executor.submit(os.getpid).result() == worker
        os.kill(worker, signal.SIGKILL)  # an idle worker: the next task does not suffer
        assert executor.submit(square, 3).result() == 9


def test_shutdown_without_waiting_ends_a_running_task_at_once():
    executor = IsolatedProcesses(1)
    assert executor.submit(square, 2).result() == 4
    future = executor.submit(time.sleep, 60)
    deadline = time.monotonic() + 60
    while not future.running():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    began = time.monotonic()
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(WorkerDiedError):
        future.result(timeout=10)
    assert time.monotonic() - began < 10


def test_threads_where_the_work_releases_the_gil():
    with make_executor(2, in_threads=True) as executor:
        assert isinstance(executor, ThreadPoolExecutor)
        assert executor.submit(square, 5).result() == 25


DRIVER = """
import os, time
from nasopt.executors import IsolatedProcesses
if __name__ == "__main__":
    executor = IsolatedProcesses(1)
    print(executor.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_workers_end_when_their_driver_is_killed(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as driver:
        worker = int(driver.stdout.readline())
        os.kill(worker, signal.SIGINT)  # a worker leaves Ctrl-C to the driver
        time.sleep(0.2)
        os.kill(worker, 0)
        driver.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its driver by 10 s")
