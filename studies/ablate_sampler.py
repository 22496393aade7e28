"""What each part of the sampler is worth: ``python studies/ablate_sampler.py space --seeds 4``.

On ``space``, ours with trainings played by ``trained_table.py``: hypervolume and the smallest network that
passes, judged as in ``bench_table.py``; means over seeds, halfway and at the end, of so many evaluations or, with
``--seconds``, of so much training. On a data set of NAS-Bench-201: median regret. Trials come in generations of 8 in
our space, one by one on the table.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from bench_search import DATA_SETS, Table
from bench_search import make_task as task_of_table
from bench_table import GENERATION, SPACE, Ruler, judge, make_ruler, make_task
from searches import Spent, ours
from trained_table import TrainedTable, read_table

from nasopt import variation
from nasopt.records import Candidate
from nasopt.search.proposer import Strategy

STRATEGIES = {
    "default": Strategy(),
    "no model": Strategy(optimism=None),
    "optimism 0": Strategy(optimism=0.0),
    "optimism 0.5": Strategy(optimism=0.5),
    "optimism 2": Strategy(optimism=2.0),
    "pool 10": Strategy(pool_size=10),
    "pool 50": Strategy(pool_size=50),
    "start of 10": Strategy(n_start=10),
    "start of 40": Strategy(n_start=40),
    "start blind to cost": Strategy(start_choices=1),
    "50 children": Strategy(n_children=50),
    "100 children": Strategy(n_children=100),
    "400 children": Strategy(n_children=400),
    "800 children": Strategy(n_children=800),
    "no crossover": Strategy(crossovers=0.0),
    "70 % crossover": Strategy(crossovers=0.7),
}
WITHOUT = {f"without {o.__name__}": o for o in variation.OPERATORS}


def vary_without(
    operator: variation.Operator, parents: Sequence[Candidate], rng: np.random.Generator
) -> Candidate:
    """As :func:`nasopt.variation.vary`, with one operator less."""
    others = [o for o in variation.OPERATORS if o is not operator]
    child = parents[0]
    if len(parents) == 2:
        child = variation.cross(parents[0], parents[1], SPACE, rng)
        if rng.random() >= variation.MUTATED_CROSSOVERS:
            return child
    return variation.mutate(child, SPACE, rng, others)


def ablate_space(names: Sequence[str], n_seeds: int, table: TrainedTable, ruler: Ruler) -> None:
    for name in names:
        task, strategy = make_task(table), Strategy()
        if name in WITHOUT:
            problem = replace(task.problem, vary=partial(vary_without, WITHOUT[name]))
        elif name == "one length scale":
            problem = replace(task.problem, groups=None)
        elif name == "no bar":
            problem = replace(task.problem, bar=None)
        else:
            problem, strategy = task.problem, STRATEGIES[name]
        search = ours(strategy, GENERATION)
        began = time.process_time()
        visited = [
            search(replace(task, problem=problem), seed, Spent(ruler.end, ruler.cost))
            for seed in range(n_seeds)
        ]
        ms = (time.process_time() - began) / sum(map(len, visited)) * 1000
        curves = np.array([judge(table, v, ruler) for v in visited])  # seeds, measures, points
        half, full = curves[:, :, curves.shape[2] // 2 - 1], curves[:, :, -1]
        errors = full.std(axis=0, ddof=1) / n_seeds**0.5
        print(
            f"space | {name} | {half[:, 0].mean():.4f} {half[:, 1].mean():.0f} | "
            f"{full[:, 0].mean():.4f} {full[:, 1].mean():.0f} | "
            f"standard error {errors[0]:.4f} {errors[1]:.0f} | {ms:.0f} ms a trial",
            flush=True,
        )


def ablate_table(data_set: str, names: Sequence[str], n_seeds: int, n_trials: int) -> None:
    table = Table.load(data_set)
    task = task_of_table(table)
    for name in names:
        search = ours(STRATEGIES[name])
        regrets = [table.regrets(search(task, seed, Spent(n_trials))) for seed in range(n_seeds)]
        medians = " ".join(f"{value:.5f}" for value in np.median(regrets, axis=0))
        print(f"{data_set} | {name} | {medians}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("on", choices=("space", *DATA_SETS))
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--seconds", type=float, help="in our space: equal time of one core, not evaluations"
    )
    args = parser.parse_args()
    if args.on == "space":
        names = args.only or [*STRATEGIES, "one length scale", "no bar", *WITHOUT]
        table = TrainedTable(read_table())
        ablate_space(names, args.seeds, table, make_ruler(table, args.trials, args.seconds))
    else:
        ablate_table(args.on, args.only or list(STRATEGIES), args.seeds, args.trials)


if __name__ == "__main__":
    main()
