"""Other searches to draw beside a study's: what ``make bench-real`` measured, or anything written in its form."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasopt.errors import DataError
from nasopt.report.view import Point

Run = list[tuple[float, Point]]  # the seconds when a training ended, and the network
Baselines = Mapping[str, list[Run]]


def read_baselines(path: Path) -> Baselines:
    """The searches in a JSON file, by the name of their method, each run in the order of time.

    The file is ``{"runs": {method: {seed: [[seconds, parameters, accuracy], ...]}}}``, as ``studies/bench_real.py``
    writes it; other keys beside ``runs`` are left alone.

    Raises:
        DataError: if the file cannot be read or has another form.
    """
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return {
            str(name): [_read_run(trials) for trials in by_seed.values()]
            for name, by_seed in runs.items()
        }
    except OSError as error:
        raise DataError(f"the baselines {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} holds no baselines; it must be JSON like "
            '{"runs": {"a method": {"1": [[12.5, 1360, 0.76]]}}}: seconds, parameters and accuracy of every training'
        ) from error


def _read_run(trials: list[Any]) -> Run:
    run = []
    for number, (seconds, n_params, accuracy) in enumerate(sorted(trials)):
        if not (0 <= seconds < math.inf and 1 <= n_params < math.inf and 0 <= accuracy <= 1):
            raise ValueError(f"{(seconds, n_params, accuracy)} is no training")
        share = float(accuracy)
        run.append((float(seconds), Point(number, int(n_params), share, "", share, share)))
    return run
