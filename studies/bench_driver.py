"""Times a driver at 10,000 trials on SQLite, ours against stock Optuna: ``python studies/bench_driver.py``.

A trial is ask, suggest and tell of the same conditional space, that of ``fashion-mnist.toml``; its evaluation takes no
time. Stock Optuna is timed as a user would write it, parameters and two values, and with the attributes that ours
stores besides. Ours is the ``SearchDriver`` on its working copy, all of its own bookkeeping included, trial by
trial. The first trials after opening are not counted: they pay for what is computed once a run.

The host of a virtual machine changes its speed from minute to minute: every driver waits in a process of its own, and
they take turns of some trials. Its time is the median over its turns; a share of stock is the median of what it is in every round.
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
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

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
NSGA2 = ("NSGAIISampler", "OrderedNSGAIISampler")  # stock, and as nasopt has it
RULE = StopRule(tuple(0.6 + 0.01 * epoch for epoch in range(9)))
OURS = {
    "ours, genome sampler": "nsga2",
    "ours, Optuna's NSGA-II": "optuna-nsga2",
    "ours, random": "random",
}

Times = tuple[float, float]  # of the processor and of the wall, in seconds
Run = Callable[[int], None]  # so many more trials


@dataclass(frozen=True, slots=True)
class Timing:
    """What opening took, what the first trial took, and a trial in every turn, all as processor and wall time in seconds."""

    opening: Times
    first: Times
    turns: tuple[Times, ...]

    def to_json(self) -> dict[str, float]:
        """The medians over the turns, and the rest."""
        cpu, wall = np.median(self.turns, axis=0).tolist()
        return {
            "cpu_ms": 1e3 * cpu,
            "wall_ms": 1e3 * wall,
            "open_cpu_s": self.opening[0],
            "open_wall_s": self.opening[1],
            "first_trial_wall_s": self.first[1],
        }

    def share_of(self, other: "Timing") -> Times:
        """The median over the rounds of what a trial took here as a share of what it took there."""
        shares = np.array(self.turns) / np.array(other.turns)
        cpu, wall = np.median(shares, axis=0).tolist()
        return cpu, wall


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
                system_attrs={f"{name}:generation": generation for name in NSGA2},
            )
            trial = optuna.trial.Trial(study, storage.create_new_trial(study_id, running))
            evaluation = evaluate(space, candidate)
            if attributes:
                write_attributes(trial, candidate, evaluation, plan)
            values = [evaluation.val_accuracy, space.n_params(candidate.genome)]
            study.tell(trial, values)
    # NSGA-II keeps the parents of every generation in the study: stock by their ids, in our driver these are numbers.
    trials = stored.get_trials(deepcopy=False)
    known_as = ([t._trial_id for t in trials], [t.number for t in trials])
    for generation in range(1, n_trials // STOCK_POPULATION):
        start = (generation - 1) * STOCK_POPULATION
        for name, ids in zip(NSGA2, known_as, strict=True):
            parents = ids[start : start + STOCK_POPULATION]
            key = f"{name}:parent:{generation}"
            stored._storage.set_study_system_attr(stored._study_id, key, parents)


def write_attributes(
    trial: optuna.Trial, candidate: Candidate, evaluation: Evaluation, plan: SearchPlan
) -> None:
    """What our driver stores of a trial besides parameters and values."""
    write_candidate(trial, candidate, plan.space, trial_seed(1, candidate.genome), RULE, 0)
    write_evaluation(trial, evaluation, plan.bar + plan.margin - evaluation.val_accuracy)
    trial.set_user_attr("elapsed_s", 1.0)


def open_stock(
    database: Path, plan: SearchPlan, _stack: ExitStack, *, wal: bool, attributes: bool
) -> Run:
    """Stock Optuna with its NSGA-II, on SQLite as it comes or with a write-ahead log."""
    storage = open_storage(database, create=False) if wal else storage_url(database)
    sampler = NSGAIISampler(seed=1, population_size=STOCK_POPULATION)
    study = optuna.load_study(study_name=plan.name, storage=storage, sampler=sampler)
    study.get_trials(deepcopy=False)

    def run(n_trials: int) -> None:
        for _ in range(n_trials):
            trial = study.ask()
            candidate = plan.space.suggest(trial)
            evaluation = evaluate(plan.space, candidate)
            if attributes:
                write_attributes(trial, candidate, evaluation, plan)
            values = [evaluation.val_accuracy, plan.space.n_params(candidate.genome)]
            study.tell(trial, values)

    return run


def open_ours(database: Path, plan: SearchPlan, stack: ExitStack) -> Run:
    """Our driver."""
    stored = open_study(plan, database, create=False)
    study = stack.enter_context(working_copy(stored, database))
    executor = stack.enter_context(ThreadPoolExecutor(1))

    def evaluator(candidate: Candidate, _seed: int, _rule: StopRule = TO_THE_END) -> Evaluation:
        return evaluate(plan.space, candidate)

    driver = SearchDriver(study, plan, evaluator, executor, n_workers=1)

    def run(n_trials: int) -> None:
        driver.run(Limits(trials=driver.progress.n_trials + n_trials), threading.Event())

    return run


class Contender:
    """A driver in a process of its own, open until ``close``.

    Args:
        opener: opens a study; what is to be closed goes on the stack that it is given.
    """

    def __init__(self, opener: Callable[[ExitStack], Run]) -> None:
        self._process = ProcessPoolExecutor(1, get_context("spawn"), initializer=silence_optuna)
        self._opening, self._first = self._process.submit(_open, opener).result()
        self._turns: list[Times] = []

    def take_turn(self, n_trials: int) -> None:
        """Times so many trials."""
        self._turns.append(self._process.submit(_time_trials, n_trials).result())

    def timing(self) -> Timing:
        """What was timed so far."""
        return Timing(self._opening, self._first, tuple(self._turns))

    def close(self) -> None:
        """Closes the study, and ends the process."""
        self._process.submit(_close).result()
        self._process.shutdown()


_stack = ExitStack()  # what is open in the process of a contender
_runs: list[Run] = []


def _open(opener: Callable[[ExitStack], Run]) -> tuple[Times, Times]:
    """The times of opening and of the first trial."""
    clock = Clock()
    run = opener(_stack)
    opening = clock.read()
    clock = Clock()
    run(1)
    first = clock.read()
    run(N_WARM_UP - 1)
    _runs.append(run)
    return opening, first


def _time_trials(n: int) -> Times:
    clock = Clock()
    _runs[0](n)
    cpu, wall = clock.read()
    return cpu / n, wall / n


def _close() -> None:
    _stack.close()


class Clock:
    """Processor and wall time since it was made, in seconds."""

    def __init__(self) -> None:
        gc.collect()
        self._began = time.process_time(), time.perf_counter()

    def read(self) -> Times:
        """Processor time, then wall time."""
        return time.process_time() - self._began[0], time.perf_counter() - self._began[1]


def copy_of(database: Path, copy: Path) -> Path:
    """A copy with SQLite's own default, a rollback journal."""
    for path in copy.parent.glob(copy.name + "*"):
        path.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


def compare(
    folder: Path, plan: SearchPlan, n_trials: int, n_rounds: int, n_timed: int
) -> dict[str, Timing]:
    """All timings, by name; databases are made in ``folder``."""
    filled: dict[bool, Path] = {}
    for attributes in (False, True):
        filled[attributes] = folder / f"filled-{attributes}.db"
        clock = Clock()
        fill(filled[attributes], plan, n_trials, attributes=attributes)
        print(f"filled a study with {n_trials} trials in {clock.read()[1]:.1f} s", flush=True)
    openers: dict[str, Callable[[ExitStack], Run]] = {}
    for attributes in (False, True):
        suffix = ", with our attributes" if attributes else ""
        for journal in ("default", "WAL"):
            copy = copy_of(filled[attributes], folder / f"stock-{journal}-{attributes}.db")
            openers[f"stock, {journal}{suffix}"] = partial(
                open_stock, copy, plan, wal=journal == "WAL", attributes=attributes
            )
    for name, sampler in OURS.items():
        copy = copy_of(filled[True], folder / f"ours-{sampler}.db")
        openers[name] = partial(open_ours, copy, replace(plan, sampler=sampler))
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for name, opener in openers.items():
            contenders[name] = stack.enter_context(closing(Contender(opener)))
            print(f"opened {name}", flush=True)
        for number in range(n_rounds):
            for contender in contenders.values():
                contender.take_turn(n_timed)
            print(f"round {number + 1} of {n_rounds}", flush=True)
        return {name: contender.timing() for name, contender in contenders.items()}


def judge(timings: dict[str, Timing]) -> None:
    """Prints all of them, and ours against the aims."""
    for name, timing in timings.items():
        print(name, {key: round(value, 3) for key, value in timing.to_json().items()})
    for name in OURS:
        of_default = timings[name].share_of(timings["stock, default"])
        of_wal = timings[name].share_of(timings["stock, WAL"])
        for clock, default, wal in zip(("cpu", "wall"), of_default, of_wal, strict=True):
            print(f"{name}, {clock}: {default:.3f} of stock (aim 0.2), {wal:.3f} of WAL (aim 0.5)")
        print(f"{name}: opens in {timings[name].opening[1]:.1f} s (aim 5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="in the study beforehand")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--timed", type=int, default=16, help="trials a driver takes in its turn")
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
        timings = compare(Path(folder), plan, args.trials, args.rounds, args.timed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rounded = {
        name: {key: round(value, 4) for key, value in timing.to_json().items()}
        for name, timing in timings.items()
    }
    args.out.write_text(json.dumps({"trials": args.trials, "times": rounded}, indent=1) + "\n")
    judge(timings)


if __name__ == "__main__":
    main()
