"""Compares whole searches at equal time, on real trainings: ``python studies/bench_real.py --budget 12m --seeds 1 2 3``.

What it finds goes to ``studies/runs/bench-real.json``, or where ``--out`` says; what is published is in ``studies/results/``.

Part (c): nasopt as it is, Optuna's NSGA-II on nasopt's engine and driver (without early stopping and replicates, which
its population would not see), and the plain script in ``baseline/``. Each has the machine for itself, one after the
other. Time counts from the start of the search, without imports and loading of data.

The front is that of single trainings by their validation accuracy, the first of every network: one draw each. Luck flatters
most who trains most networks, and no one for training a network again. Its hypervolume, of log10(parameters) and accuracy, is a share of the box between the
smallest network at 100 % and the reference point (3,000 parameters, 10 %).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_plot import Panel, draw_lines
from running import run_script

from nasopt.data.fashion_mnist import cache_folder
from nasopt.pareto import hypervolume
from nasopt.records import TrialRecord
from nasopt.search.driver import Limits
from nasopt.settings import default_workers, parse_duration, read_study_file
from nasopt.workflow import Pool, open_context, run_search

STUDIES = Path(__file__).parent
STUDY_FILE = STUDIES / "fashion-mnist.toml"
RESULTS = STUDIES / "runs" / "bench-real.json"  # not tracked; what is published is in results/
SMALLEST, REF_POINT = 782, (3000, 0.10)
N_TIMES = 120
SHARES = "share of the budget that nasopt needs"

PLAIN_NSGA2 = {
    'sampler = "nsga2"': 'sampler = "optuna-nsga2"\nearly_stopping = false',
    "replicates = 0.25": "replicates = 0",
}

Trial = tuple[float, int, float]  # seconds, parameters, accuracy


def search_with(changes: Mapping[str, str]) -> Callable[[int, float, int, Path], list[Trial]]:
    """A search by nasopt in a study of its own, whose file differs from ``STUDY_FILE`` by those lines."""

    def search(seed: int, budget: float, n_workers: int, folder: Path) -> list[Trial]:
        study_file = folder / "study.toml"
        text = STUDY_FILE.read_text()
        for line, changed in {**changes, "seed = 1": f"seed = {seed}"}.items():
            if f"\n{line}" not in text:
                raise SystemExit(f"{STUDY_FILE} has no line that begins with {line!r} any more")
            text = text.replace(f"\n{line}", f"\n{changed}")
        study_file.write_text(text)
        context = open_context(study_file)
        run_search(
            context,
            Limits(seconds=budget),
            Pool(n_workers),
            threading.Event(),
            lambda _progress: None,
        )
        return first_trainings(context.records())

    return search


def first_trainings(records: Sequence[TrialRecord]) -> list[Trial]:
    """What ended of the first training of every network."""
    return [
        (record.elapsed_s, record.n_params, record.val_accuracy)
        for record in records
        if record.state == "complete" and record.duplicate_of is None and not record.replicate
    ]


def baseline(seed: int, budget: float, n_workers: int, folder: Path) -> list[Trial]:
    """A search by the plain script; where PyTorch crashes it is started again, as its user would."""
    command = [
        sys.executable,
        STUDIES / "baseline" / "search.py",
        "--budget",
        budget,
        "--seed",
        seed,
    ]
    command += ["--jobs", n_workers, "--data", cache_folder(), "--out", folder]
    # It may die for a while only: without a trial it does not know when it began.
    deadline = time.monotonic() + budget
    while subprocess.run([str(word) for word in command], check=False).returncode:
        print(
            f"the baseline crashed, {deadline - time.monotonic():.0f} s before its end", flush=True
        )
        if time.monotonic() > deadline:
            break
    lines = folder / "trials.jsonl"
    rows = map(json.loads, lines.read_text().splitlines() if lines.exists() else [])
    return [(row["seconds"], row["n_params"], row["accuracy"]) for row in rows]


METHODS = {
    "nasopt": search_with({}),
    "Optuna's NSGA-II, our engine": search_with(PLAIN_NSGA2),
    "Optuna and PyTorch": baseline,
}


def volume(trials: Sequence[Trial]) -> float:
    """The hypervolume of ``trials``, as a share of the box."""
    losses = [(np.log10(n_params), -accuracy) for _, n_params, accuracy in trials]
    ref = (np.log10(REF_POINT[0]), -REF_POINT[1])
    return hypervolume(losses, ref) / (np.log10(REF_POINT[0] / SMALLEST) * (1 - REF_POINT[1]))


def smallest(trials: Sequence[Trial], bar: float) -> int:
    """The fewest parameters of a single training above ``bar``."""
    return min((n for _, n, accuracy in trials if accuracy > bar), default=REF_POINT[0])


def time_to(
    trials: Sequence[Trial], measure: Callable[[Sequence[Trial]], float], goal: float
) -> float | None:
    """When ``measure`` of ``trials``, the higher the better, came to ``goal``, in seconds; None if it never did."""
    ordered = sorted(trials)
    for n, (seconds, _, _) in enumerate(ordered, start=1):
        if measure(ordered[:n]) >= goal:
            return seconds
    return None


def shares(
    runs: Mapping[str, Mapping[str, Sequence[Trial]]],
    budget: float,
    measure: Callable[[Sequence[Trial]], float],
) -> dict[str, dict[str, float | None]]:
    """For every other method, the share of the budget after which nasopt is as good as it is in the end, by seed.

    None where nasopt never is, or where the other one found nothing.
    """
    found: dict[str, dict[str, float | None]] = {}
    for name in [name for name in runs if name != "nasopt"]:
        for seed in [seed for seed in runs[name] if seed in runs["nasopt"]]:
            goal = measure([t for t in runs[name][seed] if t[0] <= budget])
            # What found nothing sets no goal.
            found_none = goal == measure([])
            seconds = None if found_none else time_to(runs["nasopt"][seed], measure, goal)
            found.setdefault(name, {})[seed] = None if seconds is None else seconds / budget
    return found


def all_shares(
    runs: Mapping[str, Mapping[str, Sequence[Trial]]], budget: float, bar: float
) -> dict[str, Any]:
    """The shares by hypervolume, and by the smallest network above ``bar``."""
    return {
        "hypervolume": shares(runs, budget, volume),
        "smallest": shares(runs, budget, lambda trials: -smallest(trials, bar)),
    }


def draw(runs: Mapping[str, Mapping[str, Sequence[Trial]]], budget: float, bar: float) -> str:
    """The SVG of hypervolume and smallest network above the bar against seconds."""
    times = np.linspace(budget / N_TIMES, budget, N_TIMES)

    def curves(measure: Callable[[list[Trial]], float]) -> dict[str, list[list[float]]]:
        return {
            name: [
                [measure([t for t in trials if t[0] <= s]) for s in times]
                for trials in by_seed.values()
            ]
            for name, by_seed in runs.items()
        }

    panels = [
        Panel("hypervolume", "seconds", times.tolist(), curves(volume)),
        Panel(
            f"fewest parameters above {bar:.0%}",
            "seconds",
            times.tolist(),
            curves(lambda trials: smallest(trials, bar)),
        ),
    ]
    return draw_lines(panels, "Real trainings at equal time: single runs, validation accuracy")


def compare(
    methods: Sequence[str],
    seeds: Sequence[int],
    budget: float,
    n_workers: int,
    path: Path,
    kept: Path,
) -> None:
    """Runs what is asked for and is not in the JSON file ``path`` yet, and adds it to it; studies go below ``kept``."""
    bar = read_study_file(STUDY_FILE).bar
    results = json.loads(path.read_text()) if path.exists() else {"budget_s": budget, "runs": {}}
    if results["budget_s"] != budget:
        raise SystemExit(
            f"{path} holds runs of {results['budget_s']} s, not of {budget} s; name another file with --out"
        )
    for seed in seeds:
        for name in methods:
            runs = results["runs"].setdefault(name, {})
            if str(seed) in runs:
                print(
                    f"{path} holds {name} seed {seed} already; not run, name another file with --out",
                    flush=True,
                )
                continue
            folder = kept / f"{name} {seed}"
            if folder.exists():
                raise SystemExit(
                    f"{folder} holds a study already; name another folder with --keep"
                )
            folder.mkdir(parents=True)
            trials = METHODS[name](seed, budget, n_workers, folder)
            runs[str(seed)] = [(round(s, 2), n, round(a, 4)) for s, n, a in trials]
            in_time = [t for t in trials if t[0] <= budget]
            print(
                f"{name} | seed {seed} | {len(in_time)} trainings | hypervolume {volume(in_time):.4f} | "
                f"smallest {smallest(in_time, bar)}",
                flush=True,
            )
            if "nasopt" in results["runs"]:
                results[SHARES] = all_shares(results["runs"], budget, bar)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(results) + "\n")
            path.with_suffix(".svg").write_text(draw(results["runs"], budget, bar))
    print(json.dumps(results.get(SHARES), indent=1))


def duration(text: str) -> float:
    """The seconds of ``--budget``, in the words of argparse where it is none."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=duration, default=720.0, help="of a search: 12m, 720")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="folder for the studies, to verify them later")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = args.keep or Path(folder)
        compare(args.methods, args.seeds, args.budget, args.workers, args.out, kept)


if __name__ == "__main__":
    run_script(main)
