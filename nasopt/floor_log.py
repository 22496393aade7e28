"""The file of a floor: one JSON object a line, so that whatever ends a floor loses at most the trainings in flight.

The first line holds the limits, the study and the stop rule; each further one a genome's training, or one seed of a race.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasopt.errors import OutputError, StudyError
from nasopt.files import read_rows, write_rows
from nasopt.records import StopRule


@dataclass(frozen=True, slots=True)
class FloorLimits:
    """What is enumerated, and the recipe: fewer than ``below`` parameters, and ranges that include both ends.

    ``activations`` are as :func:`nasopt.enumeration.assign_activations` reads them.
    """

    below: int
    min_depth: int
    max_depth: int
    filters: tuple[int, int]
    kernel: tuple[int, int]
    max_macs: int | None
    activations: tuple[str, ...]
    lr: float
    lr_decay: float


@dataclass(frozen=True, slots=True)
class FloorEntry:
    """One genome of the floor, trained from one seed; its validation accuracy after ``n_epochs``.

    ``stopped`` says that it was ended early as hopeless; a training that gave no result has no epoch and accuracy 0.
    """

    genome: str
    n_params: int
    accuracy: float
    n_epochs: int
    stopped: bool


class FloorLog:
    """A floor's file, opened to go on with.

    ``limits``, ``study`` and ``rule`` are those that the floor began with: a study that has grown since changes none of them.
    ``races`` holds the accuracies of a genome's race, in the order of its seeds.
    """

    def __init__(
        self, path: Path, limits: FloorLimits, study: Mapping[str, Any], rule: StopRule
    ) -> None:
        """Opens the file at ``path``, or makes it for ``limits``, ``rule`` and a ``study`` by its identity.

        Raises:
            StudyError: if it holds a floor within other limits or of another study, or cannot be read.
            OutputError: if it cannot be written.
        """
        self.path = path
        self.entries: list[FloorEntry] = []
        self.races: dict[str, list[float]] = {}
        rows = _read(path) or [
            {"limits": asdict(limits), "study": dict(study), "stop_below": rule.minimum}
        ]
        self.limits = _limits(rows[0], path)
        with _known_form(path):
            self.rule = StopRule(tuple(rows[0]["stop_below"]))
        if self.limits != limits:
            raise StudyError(
                f"{path} holds a floor within other limits ({self.limits}, asked for were {limits}); "
                "give the same, or move the file away"
            )
        for name, now in study.items():
            then = rows[0].get("study", {}).get(name)
            if then != now:
                raise StudyError(
                    f"{path} holds a floor of another study ({name} was {then!r}, is {now!r} now); move the file away to begin anew"
                )
        for row in rows[1:]:
            with _known_form(path):
                self._take(row)
        write_rows(path, rows)

    def add_entry(self, entry: FloorEntry) -> None:
        """Keeps one more training.

        Raises:
            OutputError: if the file cannot be written.
        """
        self._write(asdict(entry))

    def add_seed(self, genome: str, accuracy: float) -> None:
        """Keeps one more seed of a race.

        Raises:
            OutputError: if the file cannot be written.
        """
        self._write({"race": genome, "accuracy": accuracy})

    def _write(self, row: dict[str, Any]) -> None:
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path} ({error.strerror}); free some space or mend the permissions, and run the same command again"
            ) from error
        self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        if "race" in row:
            self.races.setdefault(row["race"], []).append(row["accuracy"])
        else:
            self.entries.append(FloorEntry(**row))


def read_limits(path: Path) -> FloorLimits | None:
    """The limits of the floor in the file at ``path``; None if there is none yet.

    Raises:
        StudyError: if the file cannot be read, or another version of nasopt wrote it.
    """
    rows = _read(path)
    return _limits(rows[0], path) if rows else None


def _limits(head: dict[str, Any], path: Path) -> FloorLimits:
    with _known_form(path):
        limits = head["limits"]
        tuples = {name: tuple(limits[name]) for name in ("activations", "filters", "kernel")}
        return FloorLimits(**limits | tuples)


@contextmanager
def _known_form(path: Path) -> Iterator[None]:
    """Turns what a row of another form leads to into a StudyError."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"{path} is not a floor of this version of nasopt ({error!r}); move the file away and run the same command again"
        ) from error


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return read_rows(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"cannot read the floor in {path} ({error}); move the file away and run the same command again"
        ) from error
