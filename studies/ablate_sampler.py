"""What each part of the sampler is worth in our space: ``python studies/ablate_sampler.py --seeds 4``.

Trainings are played by ``trained_table.py``: hypervolume and the smallest network that passes, judged as in
``bench_table.py``; means over seeds, halfway and at the end, of so many evaluations or, with ``--seconds``, of so
much training. For NAS-Bench-201 see ``bench_search.py --methods "ours, pool 10"``.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from bench_table import GENERATION, SPACE, Ruler, judge, make_ruler, make_task
from searches import STRATEGIES, Spent, ours
from trained_table import TrainedTable, read_table

from nasopt import variation
from nasopt.records import Candidate
from nasopt.search.proposer import Strategy

WITHOUT = {f"without {o.__name__}": o for o in variation.OPERATORS}
NAMES = ["default", *STRATEGIES, "one length scale", "no bar", *WITHOUT]


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


def ablate(names: Sequence[str], n_seeds: int, table: TrainedTable, ruler: Ruler) -> None:
    for name in names:
        task, strategy = make_task(table), Strategy()
        if name in WITHOUT:
            problem = replace(task.problem, vary=partial(vary_without, WITHOUT[name]))
        elif name == "one length scale":
            problem = replace(task.problem, groups=None)
        elif name == "no bar":
            problem = replace(task.problem, bar=None)
        else:
            problem, strategy = task.problem, STRATEGIES.get(name, Strategy())
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
            f"{name} | {half[:, 0].mean():.4f} {half[:, 1].mean():.0f} | "
            f"{full[:, 0].mean():.4f} {full[:, 1].mean():.0f} | "
            f"standard error {errors[0]:.4f} {errors[1]:.0f} | {ms:.0f} ms a trial",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, help="equal time of one core, not evaluations")
    args = parser.parse_args()
    table = TrainedTable(read_table())
    ruler = make_ruler(table, args.trials, args.seconds)
    ablate(args.only or NAMES, args.seeds, table, ruler)


if __name__ == "__main__":
    main()
