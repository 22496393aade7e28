"""The searches that the benchmarks compare: ours, Optuna's samplers, and two loops of thirty lines.

A search is ``search(task, seed, enough)``: the candidates that it trained until they were ``enough``, in order,
repeats included. What is above a cap of the space (its size is infinite) is refused without training, and not counted.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import optuna
from optuna.trial import TrialState

from nasopt.pareto import non_dominated_ranks
from nasopt.search.ledger import Observation
from nasopt.search.proposer import Problem, Proposer, Strategy

C = TypeVar("C", bound=Hashable)

MAX_REFUSALS = 100  # in a row; a search that only finds what is too large is over
N_START, N_OLDEST, N_DRAWN = 20, 50, 10
STRATEGIES = {  # what the default one is compared with, named after what they change
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


@dataclass(frozen=True, slots=True)
class Task(Generic[C]):
    """What is searched: small and accurate candidates.

    ``largest`` is the size that others are weighed by, ``mutate`` changes one thing of a candidate, for the simple loops. ``suggest`` makes a candidate of an
    Optuna trial, define-by-run; ``suggest_all`` does so with the same parameters in every trial.
    ``feedback(seed)`` gives the accuracies that a search with that seed is told.
    """

    problem: Problem[C]
    largest: float
    mutate: Callable[[C, np.random.Generator], C]
    suggest: Callable[[optuna.Trial], C]
    suggest_all: Callable[[optuna.Trial], C]
    feedback: Callable[[int], Callable[[C], float]]

    def is_legal(self, candidate: C) -> bool:
        """Whether it is below every cap."""
        return bool(np.isfinite(self.problem.size(candidate)))


Enough = Callable[[Sequence[C]], bool]
Search = Callable[[Task[C], int, Enough[C]], list[C]]


@dataclass(slots=True)
class Spent(Generic[C]):
    """Whether the candidates of one search, which only grow in number, cost ``most`` in all: without ``cost``, 1 each."""

    most: float
    cost: Callable[[C], float] = field(default=lambda _candidate: 1.0)
    _counted: int = 0
    _sum: float = 0.0

    def __call__(self, visited: Sequence[C]) -> bool:
        """Counts what came since the last call."""
        self._sum += sum(map(self.cost, visited[self._counted :]))
        self._counted = len(visited)
        return self._sum >= self.most


def ours(strategy: Strategy, generation: int = 1) -> Search[C]:
    """Our proposer; with a generation size, it sees the trials that nasopt's sampler would see."""

    def search(task: Task[C], seed: int, enough: Enough[C]) -> list[C]:
        accuracy = task.feedback(seed)
        proposer = Proposer(task.problem, strategy, seed)
        visited: list[C] = []
        told: list[Observation[C]] = []
        while not enough(visited):
            n = len(visited)
            n_known = n if generation == 1 else max(n // generation - 1, 0) * generation
            if generation == 1 or n % generation == 0:
                belief = proposer.learn(told[:n_known])
            rng = np.random.default_rng([seed, 2, n])
            candidate = proposer.propose(belief, visited[n_known:], rng)
            assert candidate is not None, "the space is never used up"
            visited.append(candidate)
            told.append(Observation(candidate, accuracy(candidate)))
        return visited

    return search


def optuna_sampler(
    make: Callable[[int], optuna.samplers.BaseSampler],
    *,
    same_parameters: bool = False,
    constrained: bool = False,
) -> Search[C]:
    """A sampler of Optuna's, with the same parameters in every trial, or told the bar as a constraint."""

    def search(task: Task[C], seed: int, enough: Enough[C]) -> list[C]:
        accuracy = task.feedback(seed)
        study = optuna.create_study(sampler=make(seed), directions=["minimize", "maximize"])
        visited: list[C] = []
        n_refused = 0
        while not enough(visited) and n_refused < MAX_REFUSALS:
            trial = study.ask()
            candidate = (task.suggest_all if same_parameters else task.suggest)(trial)
            if not task.is_legal(candidate):
                study.tell(trial, state=TrialState.PRUNED)
                n_refused += 1
                continue
            n_refused = 0
            value = accuracy(candidate)
            if constrained and task.problem.bar is not None:
                trial.set_constraint("accuracy", task.problem.bar - value)
            study.tell(trial, [task.problem.size(candidate), value])
            visited.append(candidate)
        return visited

    return search


def nsga2(
    population_size: int, *, same_parameters: bool = False, constrained: bool = False
) -> Search[C]:
    """Optuna's NSGA-II."""
    return optuna_sampler(
        lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=population_size),
        same_parameters=same_parameters,
        constrained=constrained,
    )


def tpe(*, multivariate: bool) -> Search[C]:
    """Optuna's TPE; multivariate, it models parameters that occur together as a group."""
    return optuna_sampler(
        lambda seed: optuna.samplers.TPESampler(
            seed=seed, multivariate=multivariate, group=multivariate
        )
    )


def evolution(task: Task[C], seed: int, enough: Enough[C]) -> list[C]:
    """Regularised evolution: the oldest of 50 dies; the parent is the best of 10 for a random weighting."""
    rng, accuracy = np.random.default_rng(seed), task.feedback(seed)
    visited: list[C] = []
    values: list[tuple[float, float]] = []
    while not enough(visited):
        n = len(visited)
        if n < N_OLDEST:
            candidate = sample_legal(task, rng)
        else:
            weight = rng.random()
            drawn = n - N_OLDEST + rng.choice(N_OLDEST, N_DRAWN, replace=False)
            score = [weight * values[i][0] + (1 - weight) * values[i][1] for i in drawn]
            candidate = mutate_legal(task, visited[drawn[int(np.argmin(score))]], rng)
        visited.append(candidate)
        values.append((task.problem.size(candidate) / task.largest, 1 - accuracy(candidate)))
    return visited


def mutate_the_front(task: Task[C], seed: int, enough: Enough[C]) -> list[C]:
    """The 30-line loop: after 20 random candidates, change one thing of a front member; never repeat."""
    rng, accuracy = np.random.default_rng(seed), task.feedback(seed)
    visited: dict[C, float] = {}
    while not enough(known := list(visited)):
        candidate = sample_legal(task, rng)
        if len(visited) >= N_START:
            losses = [(task.problem.size(c), -visited[c]) for c in known]
            front = np.flatnonzero(non_dominated_ranks(losses) == 0)
            for _ in range(100):
                candidate = mutate_legal(task, known[int(rng.choice(front))], rng)
                if candidate not in visited:
                    break
            else:  # all neighbours of the front are known
                candidate = sample_legal(task, rng)
        if candidate not in visited:
            visited[candidate] = accuracy(candidate)
    return list(visited)


def sample_legal(task: Task[C], rng: np.random.Generator) -> C:
    """A random candidate below the caps."""
    while not task.is_legal(candidate := task.problem.sample(rng)):
        pass
    return candidate


def mutate_legal(task: Task[C], parent: C, rng: np.random.Generator) -> C:
    """A child of ``parent`` below the caps."""
    while not task.is_legal(child := task.mutate(parent, rng)):
        pass
    return child


RANDOM: Search = optuna_sampler(lambda seed: optuna.samplers.RandomSampler(seed=seed))
GP: Search = optuna_sampler(
    lambda seed: optuna.samplers.GPSampler(seed=seed), same_parameters=True
)
