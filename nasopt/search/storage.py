"""The study's SQLite file: opened for a driver and readers at once, and one driver at a time."""

import json
import os
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage
from typing import Any
from urllib.parse import quote

import filelock
import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage

from nasopt.errors import StudyError, StudyLockedError

BUSY_TIMEOUT_S = 60
STUDIES = "studies"
# Readers read while the driver writes, and a commit waits for no disk; a killed process loses nothing.
PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
SMALL_FILES = 1_000_000  # bytes

_NOT_WRITABLE = "the database or its folder is not writable ({}); mend the permissions or choose another file with --database"
_DAMAGED = "the database is damaged or not a study ({}); restore a copy or choose another file with --database"
# By what SQLite says, the first that fits.
ADVICE = (
    ("readonly", _NOT_WRITABLE),
    ("unable to open", _NOT_WRITABLE),
    (
        "full",
        "the disk is full ({}); free some space and run the same command again, what was completed is kept",
    ),
    (
        "locked",
        f"another program kept the database locked for {BUSY_TIMEOUT_S} s ({{}}); close it and run the same command again, what was completed is kept",
    ),
    (
        "not a database",
        "it is not an SQLite database ({}); choose another file with --database",
    ),
    ("disk I/O", _DAMAGED),
    ("malformed", _DAMAGED),
    ("no such table", _DAMAGED),
    ("no such column", _DAMAGED),
    (
        "",
        "the database failed ({}); run the same command again, or choose another file with --database",
    ),
)


def storage_url(path: Path) -> str:
    """The SQLAlchemy URL of the SQLite file at ``path``, as optuna-dashboard takes it too."""
    # Quoted: '?' and '%' mean something in a URL, and '{' in Optuna's.
    return f"sqlite:///{quote(str(path))}"


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turns an error of the database at ``path`` into a StudyError that says how to mend it."""
    try:
        yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise StudyError(f"{path}: {_advice(_root_cause(error), path.parent)}") from error


def open_storage(path: Path, *, create: bool) -> RDBStorage:
    """The Optuna storage in the SQLite file at ``path``.

    Raises:
        StudyError: if the file cannot be opened, is no study, or is missing and not to be created.
    """
    # The file is opened by SQLite alone: closing it anywhere else in a process would drop that
    # process's locks on it (POSIX), and with them the integrity of the database.
    if not path.exists():
        if not create:
            raise StudyError(
                f"there is no study at {path} yet; run 'nasopt search STUDY' with this study file first"
            )
        _make_folder(path.parent)
    with database_errors(path):
        tables = _tables(path)
        if not create and STUDIES not in tables:
            raise StudyError(
                f"{path} holds no study; run 'nasopt search' first, or name the study's database with --database"
            )
        if tables and STUDIES not in tables:  # the first table that Optuna makes
            raise StudyError(
                f"{path} is the database of another program (it has the table {min(tables)!r}); choose another file with --database"
            )
        if not create and not _is_whole(path, tables):
            # Optuna would go on making tables here, and get in the way of the driver that makes them.
            raise only_begun(path)
        options = {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
        try:
            storage = RDBStorage(storage_url(path), options, skip_table_creation=not create)
        except RuntimeError as error:  # Optuna's own table version differs
            raise StudyError(
                f"{path} was written by another version of Optuna than {optuna.__version__} ({error}); "
                f"run 'optuna storage upgrade --storage {storage_url(path)}', or choose another file with --database"
            ) from error
        _use_wal(storage.engine)
    return storage


def _tables(path: Path) -> set[str]:
    """The tables in the SQLite file; opening it as a storage would make Optuna's. None where there is no file yet."""
    if not path.exists():
        return set()
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return {name for (name,) in _query(path, query)}


def _is_whole(path: Path, tables: set[str]) -> bool:
    """Whether Optuna has made all of its tables: the version of their layout is what it writes last."""
    version = "alembic_version"
    return version in tables and bool(_query(path, f"SELECT 1 FROM {version}"))


def _query(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def only_begun(path: Path) -> StudyError:
    """What to raise where the driver that made the study in ``path`` did not come to its end, or is at it."""
    return StudyError(
        f"the study in {path} was only begun; run 'nasopt search STUDY' with this study file first"
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"cannot make the folder {folder} ({error.strerror}); choose another with --database"
        ) from error


def _use_wal(engine: sqlalchemy.Engine) -> None:
    engine.dispose()  # so that the connections made so far are not used again

    @sqlalchemy.event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in PRAGMAS:
            connection.execute(pragma)


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _advice(cause: str, folder: Path) -> str:
    # Where there is no room for its small files, SQLite fails to read.
    if "disk I/O" in cause and disk_usage(folder).free < SMALL_FILES:
        cause += ", the disk is full"
    return next(text for sign, text in ADVICE if sign in cause).format(cause)


@contextmanager
def driver_lock(database: Path) -> Iterator[None]:
    """Holds the right to drive the study in ``database``, whose folder is made; the system frees it when the process dies.

    Raises:
        StudyError: if the folder cannot be written.
        StudyLockedError: if another process holds it, saying which and how to take over.
    """
    database = database.resolve()  # one lock, whatever links lead there
    _make_folder(database.parent)
    lock = filelock.FileLock(database.with_name(database.name + ".lock"))
    holder = database.with_name(database.name + ".driver.json")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": started}
    try:
        lock.acquire(timeout=0)
        holder.write_text(json.dumps(who))
    except filelock.Timeout as error:
        raise StudyLockedError(
            f"{database} is being worked on by {_describe(holder)}; wait for it, or end it "
            "(kill that process: nothing completed is lost) and run the same command again"
        ) from error
    except OSError as error:
        lock.release()
        raise StudyError(
            f"cannot write in {database.parent} ({error.strerror}); mend the permissions, free some space or choose another "
            "file with --database"
        ) from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def silence_optuna() -> None:
    """Keeps Optuna's log lines and its notes on experimental features off the user's terminal."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
