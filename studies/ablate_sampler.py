"""What each part of the sampler is worth: ``python studies/ablate_sampler.py toy --seeds 4``.

On ``toy`` (closed form of our space, ``toy.py``): hypervolume of true accuracies, as a share of the reference
box, and the smallest network that truly clears the bar; means over seeds. On a data set of
NAS-Bench-201: median regret. Trials come in generations of 8 on the toy, one by one on the table.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import toy
from bench_search import DATA_SETS, Table, ours

from nasopt import variation
from nasopt.pareto import hypervolume
from nasopt.records import Candidate
from nasopt.search.genome_sampler import genome_problem
from nasopt.search.proposer import Observation, Problem, Proposer, Strategy

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
    "spread start": Strategy(start_choices=20),
    "50 children": Strategy(n_children=50),
    "100 children": Strategy(n_children=100),
    "no crossover": Strategy(crossovers=0.0),
    "70 % crossover": Strategy(crossovers=0.7),
}
WITHOUT = {f"without {o.__name__}": o for o in variation.OPERATORS}
GENERATION = 8


def search_toy(
    problem: Problem[Candidate], strategy: Strategy, seed: int, n_trials: int
) -> list[Candidate]:
    noise = np.random.default_rng([seed, 1])
    proposer, told = Proposer(problem, strategy), list[Observation[Candidate]]()
    for n in range(n_trials):
        n_known = max(n // GENERATION - 1, 0) * GENERATION
        if n % GENERATION == 0:
            belief = proposer.learn(told[:n_known])
        pending = [o.candidate for o in told[n_known:]]
        candidate = proposer.propose(belief, pending, np.random.default_rng([seed, 2, n]))
        assert candidate is not None, "the space is large"
        told.append(Observation(candidate, toy.train(candidate, noise)))
    return [o.candidate for o in told]


def judge_toy(visited: Sequence[Candidate]) -> tuple[float, float]:
    """The hypervolume as a share of the box, and the smallest that truly clears the bar."""
    size, accuracy = toy.REF_POINT
    sizes = np.array([toy.SPACE.n_params(c.genome) for c in visited], dtype=float)
    truths = np.array([toy.true_accuracy(c) for c in visited])
    box = size * (1 - accuracy)
    feasible = sizes[truths >= toy.BAR]
    return (
        hypervolume(np.column_stack((sizes, -truths)), (size, -accuracy)) / box,
        float(feasible.min()) if len(feasible) else size,
    )


def vary_without(
    operator: variation.Operator, parents: Sequence[Candidate], rng: np.random.Generator
) -> Candidate:
    """As :func:`nasopt.variation.vary`, with one operator less."""
    others = [o for o in variation.OPERATORS if o is not operator]
    child = parents[0]
    if len(parents) == 2:
        child = variation.cross(parents[0], parents[1], toy.SPACE, rng)
        if rng.random() >= variation.MUTATED_CROSSOVERS:
            return child
    return variation.mutate(child, toy.SPACE, rng, others)


def ablate_toy(names: Sequence[str], n_seeds: int, n_trials: int) -> None:
    for name in names:
        problem, strategy = genome_problem(toy.SPACE, toy.BAR), Strategy()
        if name in WITHOUT:
            problem = replace(problem, vary=partial(vary_without, WITHOUT[name]))
        elif name == "one length scale":
            problem = replace(problem, groups=None)
        elif name == "no bar":
            problem = replace(problem, bar=None)
        else:
            strategy = STRATEGIES[name]
        began = time.process_time()
        visited = [search_toy(problem, strategy, seed, n_trials) for seed in range(n_seeds)]
        ms = (time.process_time() - began) / n_seeds / n_trials * 1000
        half = np.array([judge_toy(v[: n_trials // 2]) for v in visited])
        full = np.array([judge_toy(v) for v in visited])
        print(
            f"toy | {name} | {half[:, 0].mean():.4f} {half[:, 1].mean():.0f} | "
            f"{full[:, 0].mean():.4f} {full[:, 1].mean():.0f} | "
            f"standard error {full[:, 0].std(ddof=1) / n_seeds**0.5:.4f} "
            f"{full[:, 1].std(ddof=1) / n_seeds**0.5:.0f} | {ms:.0f} ms",
            flush=True,
        )


def ablate_table(data_set: str, names: Sequence[str], n_seeds: int, n_trials: int) -> None:
    table = Table.load(data_set)
    for name in names:
        search = ours(STRATEGIES[name])
        regrets = [table.regrets(search(table, seed, n_trials)) for seed in range(n_seeds)]
        medians = " ".join(f"{value:.5f}" for value in np.median(regrets, axis=0))
        print(f"{data_set} | {name} | {medians}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("on", choices=("toy", *DATA_SETS))
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=200)
    args = parser.parse_args()
    if args.on == "toy":
        names = args.only or [*STRATEGIES, "one length scale", "no bar", *WITHOUT]
        ablate_toy(names, args.seeds, args.trials)
    else:
        ablate_table(args.on, args.only or list(STRATEGIES), args.seeds, args.trials)


if __name__ == "__main__":
    main()
