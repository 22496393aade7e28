"""Trainings on many machines: the tasks of a Ray cluster, as an executor.

Every machine has nasopt installed, and the data at the same place. An evaluation is a pure function, so that one
whose machine dies is done again elsewhere.
"""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from nasopt import __version__
from nasopt.errors import EngineError, SettingsError, WorkerDiedError, WorkerLostError

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
# In Ray's own errors, where a machine cannot read the function or its arguments.
IMPORT_FAILURES = ("failed to import on the worker", "No module named")


class RayExecutor(Executor):
    """Tasks of one core each, on the cluster at ``address``: ``host:port``, or ``auto`` for that of this machine.

    At most ``n_workers`` run at once; as many as the cluster has cores if None.

    Raises:
        SettingsError: if Ray is not installed, no cluster answers there, or it has no core.
    """

    def __init__(self, address: str, n_workers: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise SettingsError(
                "Ray is not installed; in a clone of nasopt: pip install '.[ray]'"
            ) from error
        self._ray: Any = ray
        try:
            _knock(address)
            self._connect(address)
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            raise SettingsError(
                f"no Ray cluster answers at {address!r} ({_one_line(error)}); start one with 'ray start --head', or join this "
                "machine to it with 'ray start --address HOST:PORT'; where it asks for a token, set RAY_AUTH_MODE=token too"
            ) from error
        n_cores = int(self._ray.cluster_resources().get("CPU", 0))
        if n_cores < 1:
            ray.shutdown()
            raise SettingsError(
                f"the Ray cluster at {address!r} has no core to train on; let a machine join it with 'ray start --address HOST:PORT'"
            )
        self.n_workers = n_workers or n_cores
        self._remote_call = self._ray.remote(max_retries=1)(_call)
        # A thread stands for each core, and waits for its results.
        self._threads = ThreadPoolExecutor(self.n_workers, thread_name_prefix="nasopt-ray")
        self._tasks: dict[int, Any] = {}  # by thread, what runs
        self._is_ending = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules ``fn(*args, **kwargs)``, all of which must be picklable, on a free core."""
        return self._threads.submit(lambda: self._run(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster: after the tasks have ended, or at once with ``wait=False``, which ends them."""
        self._threads.shutdown(wait=False, cancel_futures=cancel_futures or not wait)
        if not wait:
            self._is_ending = True
            for task in list(self._tasks.values()):
                self._ray.cancel(task, force=True)
        self._threads.shutdown(wait=True)
        self._ray.shutdown()

    def _run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        exceptions = self._ray.exceptions
        task = self._remote_call.remote(__version__, fn, args, kwargs)
        self._tasks[threading.get_ident()] = task
        if self._is_ending:  # it came too late for shutdown to see it
            self._ray.cancel(task, force=True)
        try:
            result: T = self._ray.get(task)
        except exceptions.RayError as error:
            cause = getattr(error, "cause", None)  # of a RayTaskError: what the task raised
            ours = (RuntimeError, exceptions.RaySystemError)
            if isinstance(cause, ours) and any(sign in str(cause) for sign in IMPORT_FAILURES):
                raise EngineError(
                    f"a machine of the cluster cannot import nasopt, install it there ({_one_line(cause)})"
                ) from None
            if isinstance(cause, Exception):
                raise cause from None
            if isinstance(error, exceptions.WorkerCrashedError | exceptions.OutOfMemoryError):
                raise WorkerDiedError(
                    f"the process of a Ray task died during the training, twice ({_one_line(error)}), perhaps killed for lack of "
                    "memory; use fewer workers or smaller networks"
                ) from error
            raise WorkerLostError(
                f"a Ray task was lost ({_one_line(error)}); look at the cluster with 'ray status' and run the same command "
                "again, what was completed is kept"
            ) from error
        else:
            return result
        finally:
            self._tasks.pop(threading.get_ident())

    def _connect(self, address: str) -> None:
        with _default_signals():
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


@contextmanager
def _default_signals() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process while Ray, deep in C++, tries for minutes to reach what is no cluster.

    Then the handlers of before are back: Ray sets one of its own.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.signal(number, signal.SIG_DFL)
            before[number] = signal.SIG_DFL if handler is None else handler  # None: not Python's
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _knock(address: str) -> None:
    """Connects once: Ray itself goes on trying for many minutes.

    Raises:
        OSError: if nothing listens at a ``host:port``.
        ValueError: if it is none, and not ``auto`` either.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit()):
        raise ValueError("an address is 'auto' or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def _call(version: str, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    if version != __version__:
        raise EngineError(
            f"{socket.gethostname()} has nasopt {__version__}, and the driver {version}; install the same on all machines"
        )
    return fn(*args, **kwargs)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
