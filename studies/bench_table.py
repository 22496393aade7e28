"""Compares samplers in our own space: ``python studies/bench_table.py``, or ``--seconds 1200`` for equal time.

Part (b): a training is played by ``trained_table.py``, learned from the real ones in
``results/fashion-mnist-table.json``. Every search is told one seed's accuracy a trial; what it visited is
judged by the means over all seeds: the hypervolume of log10(parameters) and accuracy, as a share of the box between
the smallest network at 100 % and the reference point (3,000 parameters, 10 %); and the smallest network of which at
least 80 % of seeds clear the bar. A network above a cap is refused without training and not counted.

A search ends after so many evaluations, or after so many seconds of training on one core, as the table tells of them: what
the search itself takes is not counted, and none stops a training early.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import optuna
from bench_plot import Panel, draw_lines
from numpy.typing import ArrayLike
from searches import (
    GP,
    RANDOM,
    Enough,
    Search,
    Spent,
    Task,
    evolution,
    mutate_the_front,
    nsga2,
    ours,
    tpe,
)
from trained_table import DEAD_ACCURACY, SPACE, STUDY, TrainedTable, read_table

from nasopt import variation
from nasopt.pareto import hypervolume
from nasopt.records import Candidate, Evaluation, Evaluator, StopRule
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.genome_sampler import genome_problem, union_of_distributions
from nasopt.search.plan import SearchPlan
from nasopt.search.proposer import Strategy
from nasopt.search.samplers import make_sampler
from nasopt.search.stopping import Confidence
from nasopt.search.storage import silence_optuna

RESULTS = Path(__file__).parent / "results"
TARGET = STUDY.bar + STUDY.selection.margin
MIN_PASS_RATE = STUDY.selection.min_pass_rate
GENERATION = STUDY.search.generation_size
SMALLEST, REF_POINT = 782, (3000, DEAD_ACCURACY)


@dataclass(frozen=True, slots=True)
class Ruler:
    """What searches are equal in: evaluations or seconds. A candidate takes ``cost``; curves have a point every ``step`` until ``end``."""

    name: str
    cost: Callable[[Candidate], float]
    step: float
    end: float

    @property
    def points(self) -> list[float]:
        """Where curves are read."""
        return [self.step * (k + 1) for k in range(round(self.end / self.step))]

    def n_before(self, visited: Sequence[Candidate]) -> list[int]:
        """How many of ``visited`` had ended at each of ``points``."""
        ends = np.cumsum([self.cost(candidate) for candidate in visited])
        return np.searchsorted(ends, self.points, side="right").tolist()


def make_ruler(table: TrainedTable, n_trials: int, seconds: float | None = None) -> Ruler:
    """So many evaluations, or, if given, so many seconds of training on one core."""
    if seconds is None:
        return Ruler("evaluations", lambda _candidate: 1.0, step=10, end=n_trials)
    return Ruler("seconds of training on one core", table.seconds, step=seconds / 30, end=seconds)


def make_task(table: TrainedTable) -> Task[Candidate]:
    """The search of our space, with trainings played by ``table``."""
    problem = genome_problem(table.space, TARGET)
    union = union_of_distributions(table.space)

    def suggest_all(trial: optuna.Trial) -> Candidate:
        values = {name: trial._suggest(name, choices) for name, choices in union.items()}
        return table.space.suggest(Clipped(values))

    def feedback(seed: int) -> Callable[[Candidate], float]:
        # A candidate that is trained again is trained from the same seed, as in nasopt.
        return partial(table.train, seed=seed)

    return Task(
        problem,
        REF_POINT[0],
        lambda candidate, rng: variation.mutate(candidate, table.space, rng),
        table.space.suggest,
        suggest_all,
        feedback,
    )


class Clipped:
    """Chooses what a mapping of all parameters says, or the nearest that is legal."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:  # noqa: ARG002
        """The number of that name, in bounds."""
        return int(np.clip(self._values[name], low, high))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002
        """The number of that name, in bounds."""
        return float(np.clip(self._values[name], low, high))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:  # noqa: ARG002
        """The choice of that name."""
        return str(self._values[name])


def whole_driver(task: Task[Candidate], seed: int, enough: Enough[Candidate]) -> list[Candidate]:
    """The whole driver, with a share of trials for replicates; trainings have no curve, so none is stopped."""
    visited: list[Candidate] = []
    stop = Event()

    def evaluate(candidate: Candidate, trained_from: int, _rule: StopRule) -> Evaluation:
        accuracy = task.feedback(trained_from)(candidate)
        visited.append(candidate)
        if enough(visited):
            stop.set()
        return Evaluation(accuracy, accuracy, (accuracy,), accuracy == DEAD_ACCURACY, 0.0)

    drive(evaluate, seed, stop)
    return visited


def drive(
    evaluator: Evaluator,
    seed: int,
    stop: Event,
    stop_confidence: Confidence | None = None,
) -> optuna.Study:
    """The study of ``fashion-mnist.toml`` with that seed, in memory, by one worker until ``stop`` is set."""
    plan = SearchPlan(
        name="table",
        space=SPACE,
        bar=STUDY.bar,
        seed=seed,
        margin=STUDY.selection.margin,
        replicate_share=STUDY.search.replicates,
        stop_confidence=stop_confidence,
    )
    directions = ["maximize", "minimize"]
    study = optuna.create_study(directions=directions, sampler=make_sampler(plan))
    with ThreadPoolExecutor(1) as executor:
        SearchDriver(study, plan, evaluator, executor, n_workers=1).run(Limits(), stop)
    return study


METHODS: dict[str, Search[Candidate]] = {
    "ours": ours(Strategy(), GENERATION),
    "ours, a quarter replicates": whole_driver,
    "ours without model": ours(Strategy(optimism=None), GENERATION),
    "front mutation": mutate_the_front,
    "regularised evolution": evolution,
    "NSGA-II as Optuna has it": nsga2(50),
    "NSGA-II, 20, told the bar": nsga2(20, constrained=True),
    "NSGA-II, 20, fixed length": nsga2(20, same_parameters=True),
    "TPE": tpe(multivariate=False),
    "TPE, multivariate": tpe(multivariate=True),
    "random": RANDOM,
    "GP, fixed length": GP,
}
SLOW = {
    "GP, fixed length": 200
}  # seconds a trial and more; no more evaluations than these, and not at equal time


def judge(
    table: TrainedTable, visited: Sequence[Candidate], ruler: Ruler
) -> tuple[list[float], list[float]]:
    """Hypervolume and smallest passing network at the points of ``ruler``."""
    sizes = np.array([table.space.n_params(c.genome) for c in visited], dtype=float)
    truth = table.truth(visited)
    losses = np.column_stack((np.log10(sizes), -truth.accuracies))
    ends = ruler.n_before(visited)
    passing = np.where(truth.pass_rates >= MIN_PASS_RATE, sizes, REF_POINT[0])
    return (
        [share_of_box(losses[:n]) for n in ends],
        [float(passing[:n].min(initial=REF_POINT[0])) for n in ends],
    )


def share_of_box(losses: ArrayLike) -> float:
    """The hypervolume of log10(parameters) and negative accuracies, shape ``(n, 2)``, as a share of the box."""
    ref = (np.log10(REF_POINT[0]), -REF_POINT[1])
    box = np.log10(REF_POINT[0] / SMALLEST) * (1 - REF_POINT[1])
    return hypervolume(losses, ref) / box


def compare(
    methods: Sequence[str], n_seeds: int, table: TrainedTable, ruler: Ruler, path: Path
) -> None:
    """Runs what is asked for and adds it to the JSON file ``path``, and draws it."""
    results = json.loads(path.read_text()) if path.exists() else {}
    for name, known in results.items():
        if known["step"] != ruler.step or len(known["smallest"][0]) > len(ruler.points):
            raise SystemExit(
                f"{path} holds runs of {name!r} that are longer or of another measure; name another file with --out"
            )
    task = make_task(table)
    for name in methods:
        own = replace(ruler, end=min(ruler.end, SLOW.get(name, ruler.end)))
        began, runs, duplicates, evaluations = time.process_time(), [], [], []
        for seed in range(n_seeds):
            visited = METHODS[name](task, seed, Spent(own.end, own.cost))
            runs.append(judge(table, visited, own))
            evaluations.append(len(visited))
            duplicates.append(len(visited) - len(set(visited)))
        seconds = time.process_time() - began
        volumes, smallest = (np.array(part) for part in zip(*runs, strict=True))
        results[name] = {
            "step": own.step,
            "hypervolume": np.round(volumes, 5).tolist(),
            "smallest": smallest.tolist(),
            "evaluations": evaluations,
            "duplicates": duplicates,
            "cpu_s": round(seconds, 1),
        }
        middle = volumes.shape[1] // 2 - 1
        print(
            f"{name} | {n_seeds} seeds | at {own.points[middle]:g}: {summary(volumes[:, middle])}, "
            f"{summary(smallest[:, middle])} | at {own.end:g}: {summary(volumes[:, -1])}, "
            f"{summary(smallest[:, -1])} | {np.median(evaluations):.0f} evaluations, "
            f"{np.median(duplicates):.0f} duplicates | {seconds:.0f} s",
            flush=True,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results) + "\n")
        path.with_suffix(".svg").write_text(draw_results(results, ruler))


def draw_results(results: Mapping[str, Any], ruler: Ruler) -> str:
    """The SVG of hypervolume and smallest network against what ``ruler`` measures."""
    titles = {"hypervolume": "hypervolume", "smallest": "parameters of the smallest that passes"}
    panels = [
        Panel(title, ruler.name, ruler.points, {name: m[key] for name, m in results.items()})
        for key, title in titles.items()
    ]
    return draw_lines(panels, "Our space, trainings played by a model of real ones")


def summary(values: np.ndarray) -> str:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{median:.4g} ({low:.4g} to {high:.4g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="2 seeds and 60 evaluations, whatever else is asked for",
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="all but GP if not given")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seconds", type=float, help="equal time of one core, not evaluations")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    silence_optuna()
    suffix = "" if args.seconds is None else "-time"
    if args.quick:
        args.seeds, args.trials, suffix = 2, 60, f"{suffix}-quick"
    fast = [name for name in METHODS if name not in SLOW]
    table = TrainedTable(read_table())
    ruler = make_ruler(table, args.trials, args.seconds)
    path = args.out or RESULTS / f"bench-table{suffix}.json"
    compare(args.methods or fast, args.seeds, table, ruler, path)


if __name__ == "__main__":
    main()
