"""What finished trials are given after the fact, for optuna-dashboard: cards as artifacts, and roles as a column.

Optuna refuses attributes on finished trials, so they are written as rows of its own tables, in one transaction.
Both lie with the trials: in study attributes, where notes must be, the dashboard searches all of them for every trial.
"""

import io
import json
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore

from nasopt.errors import StudyError
from nasopt.files import beside
from nasopt.search.archive import open_connection
from nasopt.search.storage import database_errors

ROLE_KEY = "role"
CARD_NAME = "network.svg"
_ARTIFACT_PREFIX = "artifacts:"  # as optuna.artifacts writes it
_CARDS = uuid.uuid5(uuid.NAMESPACE_URL, "nasopt:card")


def artifact_folder(database: Path) -> Path:
    """Where the artifacts of the study in ``database`` lie: what optuna-dashboard takes as ``--artifact-dir``."""
    return beside(database, "artifacts")


def trial_ids(database: Path) -> dict[int, int]:
    """Optuna's id of every trial, by its number.

    Raises:
        StudyError: if the database cannot be read.
    """
    with database_errors(database), closing(open_connection(database)) as connection:
        return dict(connection.execute("SELECT number, trial_id FROM trials"))


def write_extras(
    database: Path, cards: Iterable[tuple[int, str]], roles: Mapping[int, str]
) -> None:
    """Gives trials, by their number, an SVG card and a role; a card is replaced, and roles not named are taken away.

    Raises:
        StudyError: if the database or its folder cannot be written.
    """
    ids = trial_ids(database)
    folder = artifact_folder(database)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(folder)
        rows = [(ids[number], *_store_card(store, number, svg)) for number, svg in cards]
    except OSError as error:
        raise StudyError(
            f"cannot write the drawings of networks into {folder} ({error}); mend the permissions or free some space"
        ) from error
    marks = [(ids[number], ROLE_KEY, json.dumps(role)) for number, role in roles.items()]
    with database_errors(database), closing(open_connection(database)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        _insert(connection, "trial_system_attributes", rows)
        connection.execute("DELETE FROM trial_user_attributes WHERE key = ?", (ROLE_KEY,))
        _insert(connection, "trial_user_attributes", marks)


def _store_card(store: FileSystemArtifactStore, number: int, svg: str) -> tuple[str, str]:
    """Writes the file of a trial's card; the key and the value of the attribute that names it."""
    artifact_id = str(uuid.uuid5(_CARDS, str(number)))
    store.write(artifact_id, io.BytesIO(svg.encode()))
    meta = {
        "artifact_id": artifact_id,
        "filename": CARD_NAME,
        "mimetype": "image/svg+xml",
        "encoding": None,
    }
    return _ARTIFACT_PREFIX + artifact_id, json.dumps(json.dumps(meta))


def _insert(connection: sqlite3.Connection, table: str, rows: list[tuple[int, str, str]]) -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO {table} (trial_id, key, value_json) VALUES (?, ?, ?)", rows
    )
