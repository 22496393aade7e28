"""Times a driver at 10,000 trials on SQLite, ours against stock Optuna: ``python studies/bench_driver.py``.

A trial is ask, suggest and tell of the same conditional space, that of ``fashion-mnist.toml``; its evaluation takes no
time. Stock Optuna is timed as a user would write it, parameters and two values, and with the attributes that ours
stores besides. Ours is the ``SearchDriver`` on its working copy, all of its own bookkeeping included, trial by
trial. The first trials after opening are not counted: they pay for what is computed once a run.
"""

import argparse
import gc
import json
import math
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState, create_trial

from nasopt.genome import ImageShape
from nasopt.records import TO_THE_END, Candidate, Evaluation, StopRule, trial_seed
from nasopt.search.archive import ArchivedStorage
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.genome_sampler import union_of_distributions
from nasopt.search.plan import SearchPlan
from nasopt.search.storage import open_storage, silence_optuna, storage_url
from nasopt.search.study import (
    open_study,
    read_database,
    working_copy,
    write_candidate,
    write_evaluation,
)
from nasopt.settings import read_study_file
from nasopt.space import SearchSpace

STUDIES = Path(__file__).parent
RESULT = STUDIES / "results" / "bench-driver.json"
STOCK_POPULATION = 50
N_WARM_UP = 2
RULE = StopRule(tuple(0.6 + 0.01 * epoch for epoch in range(9)))
OURS = {
    "ours, genome sampler": "nsga2",
    "ours, Optuna's NSGA-II": "optuna-nsga2",
    "ours, random": "random",
}

Times = dict[str, float]


def evaluate(space: SearchSpace, candidate: Candidate) -> Evaluation:
    """An evaluation that takes no time: accuracy grows with size, and has noise."""
    seed = trial_seed(0, candidate.genome)
    noise = np.random.default_rng(seed).normal(0, 0.05, 10)
    size = math.log10(space.n_params(candidate.genome) / 782)
    curve = tuple(float(a) for a in np.clip(0.6 + 0.3 * size + noise, 0.1, 0.9))
    return Evaluation(curve[-1], curve[-1], curve, dead=False, duration_s=1.0)


def fill(database: Path, plan: SearchPlan, n_trials: int, *, attributes: bool) -> None:
    """Makes the study of ``plan`` with random trials; those attributes are what our driver stores."""
    stored = open_study(plan, database, create=True)
    space, rng = plan.space, np.random.default_rng(0)
    union = union_of_distributions(space)
    with closing(ArchivedStorage(database)) as storage:
        study_id = storage.load(stored)
        study = optuna.load_study(study_name=plan.name, storage=storage)
        for number in range(n_trials):
            candidate = space.sample(rng)
            while space.why_too_large(candidate.genome) is not None:
                candidate = space.sample(rng)
            params = space.to_params(candidate)
            generation = number // STOCK_POPULATION
            running = create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: union[name] for name in params},
                system_attrs={"NSGAIISampler:generation": generation},
            )
            trial = optuna.trial.Trial(study, storage.create_new_trial(study_id, running))
            evaluation = evaluate(space, candidate)
            if attributes:
                write_attributes(trial, candidate, evaluation, plan)
            values = [evaluation.val_accuracy, space.n_params(candidate.genome)]
            study.tell(trial, values)
    # Stock NSGA-II keeps the parents of every generation in the study.
    ids = [t._trial_id for t in stored.get_trials(deepcopy=False)]
    for generation in range(1, n_trials // STOCK_POPULATION):
        start = (generation - 1) * STOCK_POPULATION
        parents = ids[start : start + STOCK_POPULATION]
        key = f"NSGAIISampler:parent:{generation}"
        stored._storage.set_study_system_attr(stored._study_id, key, parents)


def write_attributes(
    trial: optuna.Trial, candidate: Candidate, evaluation: Evaluation, plan: SearchPlan
) -> None:
    """What our driver stores of a trial besides parameters and values."""
    write_candidate(trial, candidate, plan.space, trial_seed(1, candidate.genome), RULE, 0)
    write_evaluation(trial, evaluation, plan.bar + plan.margin - evaluation.val_accuracy)
    trial.set_user_attr("elapsed_s", 1.0)


def time_stock(
    storage: str | optuna.storages.BaseStorage, plan: SearchPlan, n: int, *, attributes: bool
) -> Times:
    """Opening, and a trial, of stock Optuna with its NSGA-II."""
    clock = Clock()
    sampler = NSGAIISampler(seed=1, population_size=STOCK_POPULATION)
    study = optuna.load_study(study_name=plan.name, storage=storage, sampler=sampler)
    study.get_trials(deepcopy=False)
    opening = clock.read()

    def run(n_trials: int) -> None:
        for _ in range(n_trials):
            trial = study.ask()
            candidate = plan.space.suggest(trial)
            evaluation = evaluate(plan.space, candidate)
            if attributes:
                write_attributes(trial, candidate, evaluation, plan)
            values = [evaluation.val_accuracy, plan.space.n_params(candidate.genome)]
            study.tell(trial, values)

    return opening_and_trial(opening, run, n)


def time_ours(database: Path, plan: SearchPlan, n: int) -> Times:
    """Opening, and a trial, of our driver."""
    clock = Clock()
    stored = open_study(plan, database, create=False)
    with working_copy(stored, database) as study, ThreadPoolExecutor(1) as executor:

        def evaluator(candidate: Candidate, _seed: int, _rule: StopRule = TO_THE_END) -> Any:  # noqa: ANN401
            return evaluate(plan.space, candidate)

        driver = SearchDriver(study, plan, evaluator, executor, n_workers=1)
        opening = clock.read()

        def run(n_trials: int) -> None:
            limits = Limits(trials=driver.progress.n_trials + n_trials)
            driver.run(limits, threading.Event())

        return opening_and_trial(opening, run, n)


def opening_and_trial(opening: tuple[float, float], run: Callable[[int], None], n: int) -> Times:
    """The times of ``n`` trials, after a few that are not counted but for the first."""
    clock = Clock()
    run(1)
    first = clock.read()
    run(N_WARM_UP - 1)
    clock = Clock()
    run(n)
    cpu, wall = clock.read()
    return {
        "cpu_ms": 1e3 * cpu / n,
        "wall_ms": 1e3 * wall / n,
        "open_cpu_s": opening[0],
        "open_wall_s": opening[1],
        "first_trial_wall_s": first[1],
    }


class Clock:
    """Processor and wall time since it was made, in seconds."""

    def __init__(self) -> None:
        gc.collect()
        self._began = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Processor time, then wall time."""
        return time.process_time() - self._began[0], time.perf_counter() - self._began[1]


def copy_of(database: Path, copy: Path) -> Path:
    """A copy with SQLite's own default, a rollback journal."""
    for path in copy.parent.glob(copy.name + "*"):
        path.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


def compare(folder: Path, plan: SearchPlan, n_trials: int, n_timed: int) -> dict[str, Times]:
    """All figures, by name; databases are made in ``folder``."""
    results: dict[str, Times] = {}

    def add(name: str, times: Times) -> None:
        results[name] = times
        print(name, {key: round(value, 3) for key, value in times.items()}, flush=True)

    for attributes in (False, True):
        filled = folder / f"filled-{attributes}.db"
        clock = Clock()
        fill(filled, plan, n_trials, attributes=attributes)
        print(
            f"filled {filled.name} with {n_trials} trials in {clock.read()[1]:.1f} s", flush=True
        )
        suffix = ", with our attributes" if attributes else ""
        for journal in ("default", "WAL"):
            copy = copy_of(filled, folder / "stock.db")
            storage = (
                storage_url(copy) if journal == "default" else open_storage(copy, create=False)
            )
            times = time_stock(storage, plan, n_timed, attributes=attributes)
            add(f"stock, {journal}{suffix}", times)
    for name, sampler in OURS.items():
        copy = copy_of(filled, folder / "ours.db")
        add(name, time_ours(copy, replace(plan, sampler=sampler), n_timed))
        if sampler == "nsga2":
            clock = Clock()
            read_database(copy, plan.space)
            print(f"read_database: {clock.read()[1]:.2f} s")
    return results


def judge(results: dict[str, Times]) -> None:
    """Prints ours against the aims."""
    for name in OURS:
        ours = results[name]
        for clock in ("cpu_ms", "wall_ms"):
            default = ours[clock] / results["stock, default"][clock]
            wal = ours[clock] / results["stock, WAL"][clock]
            print(f"{name}, {clock}: {default:.3f} of stock (aim 0.2), {wal:.3f} of WAL (aim 0.5)")
        print(f"{name}: opens in {ours['open_wall_s']:.1f} s (aim 5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="in the study beforehand")
    parser.add_argument("--timed", type=int, default=32)
    parser.add_argument(
        "--folder", type=Path, default=STUDIES / "runs", help="on the disk to measure"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    silence_optuna()
    settings = read_study_file(STUDIES / "fashion-mnist.toml")
    plan = SearchPlan(
        name="bench",
        space=settings.search_space(ImageShape(1, 28, 28), 10),
        bar=settings.bar,
        seed=1,
        margin=settings.selection.margin,
        stop_confidence=settings.search.stop_confidence,
        replicate_share=settings.search.replicates,
    )
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="bench-") as folder:
        results = compare(Path(folder), plan, args.trials, args.timed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rounded = {k: {f: round(v, 4) for f, v in times.items()} for k, times in results.items()}
    args.out.write_text(json.dumps({"trials": args.trials, "times": rounded}, indent=1) + "\n")
    judge(results)


if __name__ == "__main__":
    main()
