"""Where trainings run: threads, or processes of which one may die alone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import ParamSpec, TypeVar

from nasopt.errors import WorkerDiedError

P = ParamSpec("P")
T = TypeVar("T")

THREAD_NAME = "nasopt-worker"  # that of a thread which trains begins so


class IsolatedProcesses(Executor):
    """An executor of ``n_workers`` processes, each in a pool of its own.

    A process that dies (killed for memory, a crash) is replaced. The task that it ran is done once more; if that process
    dies too, the task fails, alone, with a WorkerDiedError. Processes leave Ctrl-C and SIGTERM to the driver, and end when it
    dies.
    """

    def __init__(self, n_workers: int) -> None:
        # A thread stands for each process, and waits for its results.
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="nasopt-process")
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._lock = threading.Lock()
        self._is_ending = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules ``fn(*args, **kwargs)``, all of which must be picklable, on a free process."""
        return self._threads.submit(lambda: self._run(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes: after their tasks, or at once with ``wait=False``."""
        if not wait:
            self._is_ending = True
            for pool in list(self._pools.values()):
                pool.kill_workers() if hasattr(pool, "kill_workers") else _kill_workers(pool)
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for pool in list(self._pools.values()):
            pool.shutdown(wait)

    def _run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._attempt(fn, *args, **kwargs)
        except BrokenProcessPool as error:
            if self._is_ending:
                raise WorkerDiedError("the worker process was ended with its executor") from error
        try:
            return self._attempt(fn, *args, **kwargs)
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "the worker process died during the training, twice, perhaps killed for lack of memory; "
                "use fewer workers or smaller networks"
            ) from error

    def _attempt(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._own_pool().submit(fn, *args, **kwargs).result()
        except BrokenProcessPool:
            with self._lock:
                self._pools.pop(threading.get_ident()).shutdown(wait=False)
            raise

    def _own_pool(self) -> ProcessPoolExecutor:
        with self._lock:
            name = threading.get_ident()
            if name not in self._pools:
                # Not fork: PyTorch's threads do not survive it.
                context = multiprocessing.get_context("spawn")
                self._pools[name] = ProcessPoolExecutor(1, context, _start_worker)
            return self._pools[name]


def make_executor(n_workers: int, *, in_threads: bool) -> Executor:
    """An executor of ``n_workers`` threads, for work that releases the GIL, or else processes."""
    if in_threads:
        return ThreadPoolExecutor(n_workers, thread_name_prefix=THREAD_NAME)
    return IsolatedProcesses(n_workers)


def _start_worker() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # they may go to the whole group of processes
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        wait([driver.sentinel])
        os._exit(1)


def _kill_workers(pool: ProcessPoolExecutor) -> None:
    for process in list(
        (pool._processes or {}).values()
    ):  # before Python 3.14 there is no public way
        process.kill()
