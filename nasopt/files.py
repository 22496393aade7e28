"""Where results lie, and files that stay whole whenever the process or the disk gives up."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nasopt.errors import OutputError


def beside(database: Path, name: str) -> Path:
    """Where a result of the study in ``database`` lies: beside it, named after it unless it is the usual ``study.db``."""
    if database.name == "study.db":
        return database.with_name(name)
    stem = database.stem if database.suffix == ".db" else database.name
    return database.with_name(f"{stem}-{name}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of one JSON object a line, but for a last line that is not whole; none if there is no file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if a line is no JSON.
    """
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes such a file, whole again: what a killed process left half written would spoil the next line.

    Raises:
        OutputError: if that is not possible.
    """
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def write_whole(
    path: Path, content: bytes, advice: str = "mend the permissions or free some space"
) -> None:
    """Writes ``content`` to ``path``, making its folder where needed.

    Raises:
        OutputError: if that is not possible, ending in ``advice``.
    """
    # Of its own, so that two processes that write the same file leave each other alone.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a power cut between the two would leave an empty file
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); {advice}") from error
    finally:  # also where Ctrl-C ends it
        with suppress(OSError):
            partial.unlink(missing_ok=True)
