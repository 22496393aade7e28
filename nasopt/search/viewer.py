"""optuna-dashboard on a study of many trials: its own pages, on a storage that reads fast and sends little.

Optuna's storage takes most of the time of a page, and takes it again every ten seconds. This one reads the tables as a driver
does, and only after a change. Of a large study the parameters of single layers are left out: the genome says them in a word,
and with them a page of 10,000 trials is 57 MB. And the page gets a large study piece by piece, so that it opens with the first
and grows with every poll.
"""

import json
import threading
from collections.abc import Container, Iterable
from contextlib import closing
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, SupportsIndex, overload
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import wsgi

from nasopt.errors import StudyError
from nasopt.search.archive import open_connection, read_trials
from nasopt.search.extras import artifact_folder
from nasopt.search.storage import BUSY_TIMEOUT_S, database_errors, storage_url

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_FULL_TRIALS = 3000
FIRST_ANSWER = 500  # trials; each takes Chromium and the server about a millisecond
REFUSAL = (
    "nasopt's dashboard writes notes and artifacts only: a search may be working on the study"
)
KEPT_PARAMS = ("depth", "final_activation", "lr", "lr_decay")
DROPPED_ATTRS = ("curve", "stop_below")


class TrialPages(list[FrozenTrial]):
    """Trials whose slices are short.

    optuna-dashboard answers with ``trials[after:]``, and its page asks every ten seconds for those after what it has. It gets
    as many again, ``FIRST_ANSWER`` at least: 10,000 trials are there with the sixth answer.
    """

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> FrozenTrial: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[FrozenTrial]: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> FrozenTrial | list[FrozenTrial]:
        """The trial at ``index``, or the first of the slice ``index``."""
        if isinstance(index, slice):
            after = index.indices(len(self))[0]
            return super().__getitem__(index)[: max(FIRST_ANSWER, after)]
        return super().__getitem__(index)


class ViewerStorage(RDBStorage):
    """Optuna's storage on the SQLite file of one study, with a way of its own to read all trials."""

    def __init__(self, database: Path) -> None:
        super().__init__(storage_url(database), {"connect_args": {"timeout": BUSY_TIMEOUT_S}})
        self._database = database
        self._lock = threading.Lock()
        self._state: tuple[tuple[int, int], ...] = ()
        self._trials: list[FrozenTrial] = []

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002 - the file holds one study
        deepcopy: bool = True,  # noqa: ARG002, FBT001, FBT002 - as Optuna declares it
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """All trials, in pages, those of a large study without what is left out; not to be changed."""
        with self._lock:
            state = _file_state(self._database)
            if state != self._state:
                with closing(open_connection(self._database)) as connection:
                    trials = read_trials(connection)
                if len(trials) > MAX_FULL_TRIALS:
                    trials = [_lighten(trial) for trial in trials]
                self._trials, self._state = trials, state
            return TrialPages(t for t in self._trials if states is None or t.state in states)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """The trials that Optuna's cache, which importances are computed through, does not have yet."""
        trials = self.get_all_trials(study_id, states=states)
        return [
            t
            for t in trials
            if t._trial_id > trial_id_greater_than or t._trial_id in included_trial_ids
        ]


def _file_state(database: Path) -> tuple[tuple[int, int], ...]:
    """What changes with every commit: time and size of the database and of its log."""
    files = (database, database.with_name(database.name + "-wal"))
    stats = [file.stat() for file in files if file.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


def _lighten(trial: FrozenTrial) -> FrozenTrial:
    return FrozenTrial(
        trial_id=trial._trial_id,
        number=trial.number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params={k: v for k, v in trial.params.items() if k in KEPT_PARAMS},
        distributions={k: v for k, v in trial.distributions.items() if k in KEPT_PARAMS},
        user_attrs={k: v for k, v in trial.user_attrs.items() if k not in DROPPED_ATTRS},
        system_attrs=trial.system_attrs,
        intermediate_values={},
    )


def _guarded(app: "WSGIApplication") -> "WSGIApplication":
    """``app`` that reads, and writes notes and artifacts, but lets nobody delete, rename or tell what a driver may be working on."""

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        may_write = path.endswith("/note") or path.startswith("/api/artifacts/")
        if environ["REQUEST_METHOD"] in ("GET", "HEAD") or may_write:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        return [json.dumps({"reason": REFUSAL}).encode()]

    return guarded


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Keeps every request off the terminal."""


def make_dashboard(database: Path, host: str, port: int) -> WSGIServer:
    """A server of optuna-dashboard on the study in ``database``; its ``serve_forever`` runs it.

    Raises:
        StudyError: if the database cannot be read, its folder not be written, or the port not be had.
    """
    with database_errors(database):
        storage = ViewerStorage(database)
        storage.get_all_trials(0)  # while the user turns to the browser
    folder = artifact_folder(database)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"cannot make the folder {folder} ({error.strerror}); mend the permissions of {database.parent}"
        ) from error
    app = _guarded(wsgi(storage, artifact_store=FileSystemArtifactStore(folder)))
    try:
        return make_server(
            host, port, app, server_class=_ThreadedServer, handler_class=_QuietHandler
        )
    except OSError as error:
        raise StudyError(
            f"cannot listen on port {port} of {host} ({error.strerror}); choose another with --port, or with --host"
        ) from error
