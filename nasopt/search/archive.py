"""A driver's storage: Optuna's in memory, with every trial written to the study's SQLite file.

Optuna writes each parameter and attribute in a transaction of its own; that costs more than all else that a
driver does. Here a trial is written twice, a transaction each: when its candidate is chosen, and when it has ended.
The tables are those that Optuna made, so that the dashboard and every other reader see an ordinary study.
"""

import json
import sqlite3
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from nasopt.errors import StudyError
from nasopt.search.storage import BUSY_TIMEOUT_S, PRAGMAS

TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"  # as SQLAlchemy writes it for SQLite

Rows = dict[int, list[tuple[Any, ...]]]


def read_trials(connection: sqlite3.Connection) -> list[FrozenTrial]:
    """The trials of the one study in an SQLite file, in order of their number, as they stood at one moment."""
    connection.execute("BEGIN")  # a driver may write between two of the queries
    try:
        return _read_trials(connection)
    finally:
        connection.execute("COMMIT")


def _read_trials(connection: sqlite3.Connection) -> list[FrozenTrial]:
    params = _rows(connection, "trial_params", "param_name, param_value, distribution_json")
    values = _rows(connection, "trial_values", "value", order="objective")
    user_attrs = _rows(connection, "trial_user_attributes", "key, value_json")
    system_attrs = _rows(connection, "trial_system_attributes", "key, value_json")
    trials = connection.execute(
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials ORDER BY number"
    )
    return [
        FrozenTrial(
            trial_id=trial_id,
            number=number,
            state=TrialState[state],
            value=None,
            values=[value for (value,) in values.get(trial_id, [])] or None,
            datetime_start=_time(start),
            datetime_complete=_time(complete),
            params={
                name: _distribution(text).to_external_repr(value)
                for name, value, text in params.get(trial_id, [])
            },
            distributions={
                name: _distribution(text) for name, _, text in params.get(trial_id, [])
            },
            user_attrs={key: json.loads(text) for key, text in user_attrs.get(trial_id, [])},
            system_attrs={key: json.loads(text) for key, text in system_attrs.get(trial_id, [])},
            intermediate_values={},
        )
        for trial_id, number, state, start, complete in trials
    ]


class ArchivedStorage(InMemoryStorage):
    """Optuna's in-memory storage, loaded from the study in an SQLite file and written back to it.

    The file must hold one study, made by Optuna. One driver may use it at a time, from one thread.
    """

    def __init__(self, database: Path) -> None:
        super().__init__()
        self._connection = open_connection(database)
        self._row_ids: dict[int, int] = {}  # from a trial's id in memory to that in the file
        self._last_row_id = 0
        self._new_attrs: dict[str, Any] = {}  # of the study, set since a trial was written

    def load(self, study: optuna.Study) -> int:
        """Takes over ``study``, which lies in the file; the study's id in memory."""
        study_id = self.create_new_study(study.directions, study.study_name)
        self._file_study_id = study._study_id
        for key, value in study.user_attrs.items():
            self.set_study_user_attr(study_id, key, value)
        for key, value in study._storage.get_study_system_attrs(study._study_id).items():
            super().set_study_system_attr(study_id, key, value)
        for trial in read_trials(self._connection):
            # Not create_new_trial(study_id, trial): it makes a deep copy, half of the time of loading.
            trial_id = self.create_new_trial(study_id)
            self._row_ids[trial_id] = trial._trial_id
            self._last_row_id = max(self._last_row_id, trial._trial_id)
            trial.number, trial._trial_id = self.get_trial(trial_id).number, trial_id
            self._set_trial(trial_id, trial)
        return study_id

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ANN401
        """Keeps what a sampler notes of the study: it is written with the trial that it sampled.

        Ids of trials in it are those in memory, which are their numbers, whatever they are in the file.
        """
        super().set_study_system_attr(study_id, key, value)
        self._new_attrs[key] = value

    def write(self, trial_id: int) -> None:
        """Writes the trial as it stands, and what was noted of the study since the last one, in one transaction.

        Raises:
            StudyError: if another program has deleted the study, or taken the number of a new trial for one of its own.
        """
        trial = self.get_trial(trial_id)
        row_id = self._row_ids.get(trial_id)
        with self._connection as db:
            db.execute("BEGIN IMMEDIATE")
            self._check_untouched(is_new=row_id is None)
            row = (trial.state.name, _text(trial.datetime_start), _text(trial.datetime_complete))
            if row_id is None:
                inserted = db.execute(
                    "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (trial.number, self._file_study_id, *row),
                )
                row_id = inserted.lastrowid or 0
            else:
                db.execute(
                    "UPDATE trials SET state = ?, datetime_start = ?, datetime_complete = ?"
                    " WHERE trial_id = ?",
                    (*row, row_id),
                )
            _write_details(db, row_id, trial)
            db.executemany(
                "INSERT OR REPLACE INTO study_system_attributes (study_id, key, value_json) VALUES (?, ?, ?)",
                [(self._file_study_id, k, json.dumps(v)) for k, v in self._new_attrs.items()],
            )
        self._row_ids[trial_id] = row_id
        self._last_row_id = max(self._last_row_id, row_id)
        self._new_attrs.clear()

    def _check_untouched(self, *, is_new: bool) -> None:
        query = "SELECT 1 FROM studies WHERE study_id = ?"
        if self._connection.execute(query, (self._file_study_id,)).fetchone() is None:
            raise StudyError(
                "another program has deleted the study while it was being searched; run the same command again to begin anew"
            )
        (last,) = self._connection.execute("SELECT MAX(trial_id) FROM trials").fetchone()
        if is_new and (last or 0) > self._last_row_id:
            raise StudyError(
                "another program has added trials while the study was being searched; run the same command again, which takes them in"
            )

    def set_trial_state_values(
        self,
        trial_id: int,
        state: TrialState,
        values: Any = None,  # noqa: ANN401 - as Optuna declares it
    ) -> bool:
        """Ends the trial, and writes it."""
        changed = super().set_trial_state_values(trial_id, state, values)
        if changed and state.is_finished():
            self.write(trial_id)
        return changed

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def open_connection(database: Path) -> sqlite3.Connection:
    """A connection to the SQLite file, waiting for other writers, transactions by hand."""
    connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


def _write_details(db: sqlite3.Connection, row_id: int, trial: FrozenTrial) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO trial_params (trial_id, param_name, param_value, distribution_json)"
        " VALUES (?, ?, ?, ?)",
        [
            (row_id, name, distribution.to_internal_repr(trial.params[name]), _json(distribution))
            for name, distribution in trial.distributions.items()
        ],
    )
    for table, attrs in (("user", trial.user_attrs), ("system", trial.system_attrs)):
        db.executemany(
            f"INSERT OR REPLACE INTO trial_{table}_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
            [(row_id, key, json.dumps(value)) for key, value in attrs.items()],
        )
    if trial.values is not None:
        db.executemany(
            "INSERT OR REPLACE INTO trial_values (trial_id, objective, value, value_type)"
            " VALUES (?, ?, ?, 'FINITE')",
            [(row_id, objective, value) for objective, value in enumerate(trial.values)],
        )


def _rows(connection: sqlite3.Connection, table: str, columns: str, order: str = "1") -> Rows:
    rows: Rows = {}
    query = f"SELECT trial_id, {columns} FROM {table} ORDER BY trial_id, {order}"
    for trial_id, *row in connection.execute(query):
        rows.setdefault(trial_id, []).append(tuple(row))
    return rows


@lru_cache(maxsize=10_000)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _json(distribution: BaseDistribution) -> str:
    return distribution_to_json(distribution)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _text(time: datetime | None) -> str | None:
    return time.strftime(TIME_FORMAT) if time else None
