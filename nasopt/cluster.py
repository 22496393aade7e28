"""Trainings on many machines: the tasks of a Ray cluster, as an executor.

Every machine has nasopt installed, and the data at the same place. An evaluation is a pure function, so that one
whose machine dies is done again elsewhere.
"""

import logging
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from nasopt.errors import SettingsError, WorkerDiedError

CONNECT_TIMEOUT_S = 10


class RayExecutor(Executor):
    """Tasks of one core each, on the cluster at ``address``: ``host:port``, or ``auto`` for that of this machine.

    Raises:
        SettingsError: if Ray is not installed, or no cluster answers there.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise SettingsError("Ray is not installed; run: pip install 'nasopt[ray]'") from error
        self._ray: Any = ray
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            raise SettingsError(
                f"no Ray cluster answers at {address!r} ({_one_line(error)}); start one with 'ray start --head', or join this "
                "machine to it with 'ray start --address HOST:PORT'; where it asks for a token, set RAY_AUTH_MODE=token too"
            ) from error
        self._run = ray.remote(_call)
        self._open: dict[Future[Any], Any] = {}  # the tasks that have not ended

    @property
    def n_cores(self) -> int:
        """The cores of the cluster, at least 1."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """Schedules ``fn(*args, **kwargs)``, all of which must be picklable, on a free core."""
        task = self._run.remote(fn, args, kwargs)
        future: Future[Any] = Future()
        self._open[future] = task

        def settle(ended: Future[Any]) -> None:
            self._open.pop(future, None)
            if not future.set_running_or_notify_cancel():
                return
            error = ended.exception()
            if error is None:
                future.set_result(ended.result())
            else:
                future.set_exception(_unwrap(error))

        task.future().add_done_callback(settle)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Leaves the cluster: after the tasks have ended, or at once with ``wait=False``, which ends them."""
        open_tasks = dict(self._open)
        if cancel_futures:
            for future in open_tasks:
                future.cancel()
        if wait and open_tasks:
            self._ray.wait(list(open_tasks.values()), num_returns=len(open_tasks))
        elif not wait:
            for task in open_tasks.values():
                self._ray.cancel(task, force=True)
        self._ray.shutdown()


def _knock(address: str) -> None:
    """Connects once: Ray itself goes on trying for many minutes.

    Raises:
        OSError: if nothing listens at a ``host:port``.
        ValueError: if it is none, and not ``auto`` either.
    """
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        raise ValueError("an address is 'auto' or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    return fn(*args, **kwargs)


def _unwrap(error: BaseException) -> BaseException:
    """What the task raised; what happened to Ray itself is told as the death of a worker."""
    cause = getattr(error, "cause", None)  # of a RayTaskError
    if isinstance(cause, Exception):
        return cause
    return WorkerDiedError(f"the Ray task was lost: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
