"""What nasopt needs of a machine: each thing looked at, with what to do if it is missing."""

import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from nasopt.data import DataSource, load_test, load_train_val
from nasopt.data.fashion_mnist import cache_folder
from nasopt.errors import NasoptError
from nasopt.settings import default_workers
from nasopt.training.engines import why_slow
from nasopt.training.native_engine import chosen_isa

MIN_FREE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    finding: str


def examine() -> list[Check]:
    """All checks, in the order in which a problem would be met."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("engine", _engine),
        ("cores", _cores),
        ("disk", _disk),
        ("fashion-mnist", _fashion_mnist),
    )
    return [_check(name, look) for name, look in checks]


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, finding=look())
    except (NasoptError, OSError) as error:
        return Check(name, ok=False, finding=str(error))


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}, SQLite {sqlite3.sqlite_version}"


def _packages() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("nasopt", "torch", "optuna", "numpy"))


def _engine() -> str:
    slow = why_slow("auto")
    return slow or f"trainings use the native engine, with the instruction set {chosen_isa()}"


def _cores() -> str:
    return f"{default_workers()} trainings run at once unless --workers says otherwise"


def _disk() -> str:
    folder = cache_folder()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        raise OSError(
            f"only {free / 2**20:.0f} MiB are free at {existing}; free some space or set NASOPT_CACHE"
        )
    return f"{free / 2**30:.0f} GiB free at {existing}"


def _fashion_mnist() -> str:
    source = DataSource.parse("fashion-mnist")
    data, test = load_train_val(source), load_test(source)
    return f"{len(data.train) + len(data.val):,} training and {len(test.split):,} test images, checksums right"
