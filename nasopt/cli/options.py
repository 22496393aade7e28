"""The options that commands share, and where they print."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nasopt.errors import SettingsError

NOTHING_FOUND, BAD_INPUT, INTERRUPTED = 1, 2, 130
DEFAULT_STUDY = Path("studies/fashion-mnist.toml")

# Without markup: a path may hold what looks like it.
out = Console(
    soft_wrap=True, markup=False, width=None if sys.stdout and sys.stdout.isatty() else 200
)
err = Console(stderr=True, soft_wrap=True, markup=False)

Study = Annotated[Path, typer.Argument(help="The study's TOML file.")]
GenomeText = Annotated[
    str, typer.Argument(metavar="GENOME", help="For example 'RC 4 3 relu;RC 8 3 relu;FL swish'.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _check_database(database: Path | None) -> Path | None:
    """``database`` as it was given on the command line, if it was.

    Raises:
        SettingsError: if it is no name of a file.
    """
    if re.match(r"[a-z][a-z0-9+]+:/", str(database)):  # not shown: it may hold a password
        raise SettingsError(
            "--database wants the path of an SQLite file, not a URL; give for example runs/own/study.db"
        )
    if database is not None and (not database.name or database.is_dir()):
        raise SettingsError(
            f"--database wants a file, not the folder '{database}'; give the path of the SQLite file, or leave it out"
        )
    return database


Database = Annotated[
    Path | None,
    typer.Option(
        callback=_check_database,
        help="The SQLite file, instead of runs/<name>/study.db beside the study file.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="'fashion-mnist', a folder with its files, or an .npz file, instead of the study file's.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="How many trainings run at once; the cores if not given.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Train on a Ray cluster: HOST:PORT as 'ray start --head' prints it, or 'auto' for the one that this machine is in.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def check_bar(bar: float | None) -> float | None:
    """``bar`` as it was given on the command line, if it was.

    Raises:
        SettingsError: if it is not between 0 and 1.
    """
    if bar is not None and not 0 < bar < 1:
        from nasopt.settings import BAR_HINT  # imports PyTorch

        raise SettingsError(f"--bar must be above 0 and below 1 (found {bar:g}); {BAR_HINT}")
    return bar


def print_json(document: object) -> None:
    """Prints ``document`` on stdout, past rich, which would wrap its lines."""
    typer.echo(json.dumps(document, indent=2))
