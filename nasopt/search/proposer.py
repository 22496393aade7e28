"""What to try next: NSGA-II in steady state, and a model of accuracy that chooses among many children.

Nothing here knows genomes or Optuna: what a candidate is, how it varies, how large it is and by which
features it is compared come as a :class:`Problem`. Size is known before a training and is used exactly;
accuracy, a fraction, is known with noise. Small and accurate is good. What an evaluation costs is known before it
too: of two that promise the same, the cheaper is tried.

References:
    Snoek, Larochelle and Adams (2012), section 3.2: expected improvement per second.
"""

import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nasopt.pareto import crowding_distance, hypervolume_gains, non_dominated_ranks
from nasopt.search.accuracy_model import AccuracyLearner, AccuracyModel
from nasopt.search.ledger import Array, Ledger, Observation
from nasopt.search.surrogate import Outlook

C = TypeVar("C", bound=Hashable)

MAX_DRAWS_PER_CHILD = 5
MAX_DRAWS = 200
MAX_JUDGED = 1000
CAP_FACTOR = 2.0
BAR_SHARE = 0.5
COURAGE = (1.0, 2.0, 4.0)  # a front that no child is expected to beat asks for more


def _same_cost(_candidate: object) -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class Problem(Generic[C]):
    """What is searched. Candidates are compared by equality; a repeat is what is equal.

    ``sample(rng)`` draws a candidate, ``vary(parents, rng)`` makes a child of one parent or two,
    ``size(candidate)`` is exact, and infinite for what is too large to be evaluated, ``features(candidate)`` has shape ``(d,)``. ``groups``, shape ``(d,)``,
    numbers the features that share a length scale; all do by default. ``ref_point`` is the largest size and
    the lowest accuracy that count; by default those of the history. ``bar`` is the accuracy to clear, if
    there is one: the search then spends half of its trials on the smallest that clears it, with parents of their own. What is
    larger than ``max_size`` is not proposed; by default that is what has an infinite size.
    ``cost(candidate)`` is what an evaluation costs, positive and in any unit; by default all cost the same.
    """

    sample: Callable[[np.random.Generator], C]
    vary: Callable[[Sequence[C], np.random.Generator], C]
    size: Callable[[C], float]
    features: Callable[[C], Array]
    groups: Sequence[int] | None = None
    ref_point: tuple[float, float] | None = None
    bar: float | None = None
    max_size: float = sys.float_info.max
    cost: Callable[[C], float] = _same_cost


@dataclass(frozen=True, slots=True)
class Strategy:
    """How it is searched; the defaults are those that paid in ``studies/LOG.md``.

    Until ``n_start`` candidates have an accuracy they are random, each the cheapest of ``start_choices`` draws. Then one of
    ``n_children`` children of the best ``pool_size`` is chosen, ``crossovers`` of them of two parents, by
    the hypervolume that it would add if it were ``optimism`` standard deviations better than expected, per cost.
    All that are proposed from one history choose among the same children. Without a model (``optimism`` None)
    each takes the first new child that it makes.
    """

    n_start: int = 20
    start_choices: int = 3
    pool_size: int = 20
    n_children: int = 200
    crossovers: float = 0.3
    optimism: float | None = 1.0


@dataclass(frozen=True, slots=True)
class Brood(Generic[C]):
    """Children to choose among, by number: their sizes and costs, shape ``(n,)``, and what is expected of them."""

    children: dict[C, int]
    sizes: Array
    costs: Array
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Belief(Generic[C]):
    """What a history tells: candidates with their sizes and expected accuracies, the parents, the model.

    Of a long history the candidates are those that came nearest to its front.
    ``pool`` are the parents where the whole front is to grow, ``near_bar`` those where the bar is to be cleared by something
    smaller: both are the same without a bar. ``front``, shape ``(f, 2)``, holds (size, -accuracy) of what nothing dominates.
    ``cap`` is the size above which nothing is of use. ``broods`` are the children made so far, near the bar and not.
    """

    n_observations: int
    candidates: tuple[C, ...]
    sizes: Array
    accuracies: Array
    seen: frozenset[C]
    pool: tuple[C, ...]
    near_bar: tuple[C, ...]
    front: Array
    model: AccuracyModel | None
    cap: float
    broods: dict[bool, Brood[C]] = field(default_factory=dict, compare=False)


@dataclass(slots=True)
class Proposer(Generic[C]):
    """Proposes candidates of ``problem``: a pure function of the seed, the history and the rng given to it.

    What is kept between calls is only what would be computed again.
    """

    problem: Problem[C]
    strategy: Strategy = field(default_factory=Strategy)
    seed: int = 0
    _ledger: Ledger[C] = field(init=False)
    _learner: AccuracyLearner[C] = field(init=False)

    def __post_init__(self) -> None:
        self._ledger = Ledger(self._describe)
        self._learner = AccuracyLearner(self._n_start, self.problem.groups)

    @property
    def _n_start(self) -> int:
        return max(self.strategy.n_start, 2)

    def learn(self, history: Sequence[Observation[C]]) -> Belief[C]:
        """What ``history``, in order of time, tells; failed candidates are never parents."""
        ledger = self._ledger
        ledger.follow(history)
        row_of, observed = ledger.row_of, ledger.accuracies
        there = ~np.isnan(observed)
        counts = np.bincount(row_of[there], minlength=len(ledger.rows))
        sums = np.bincount(row_of[there], observed[there], minlength=len(ledger.rows))
        known = np.flatnonzero(counts)
        sizes, accuracies = ledger.sizes[known], sums[known] / counts[known]
        n_judged = max(MAX_JUDGED, self._n_start, self.strategy.pool_size)
        nearest = _nearest_to_front(sizes, accuracies, n_judged)
        known, sizes, accuracies = known[nearest], sizes[nearest], accuracies[nearest]
        rows = list(ledger.rows)
        candidates = tuple(rows[i] for i in known)
        model = None
        if self.strategy.optimism is not None and len(known) >= self._n_start:
            model = self._learner.fit(ledger)
            accuracies = model.accuracies(model.process.mean(ledger.features[known]))
        losses = np.column_stack((sizes, -accuracies))
        ranks = non_dominated_ranks(losses)
        pool = tuple(candidates[i] for i in self._select(losses, ranks))
        near_bar = pool
        if self.problem.bar is not None:
            constrained = _constrain(ranks, self.problem.bar - accuracies)
            near_bar = tuple(candidates[i] for i in self._select(losses, constrained))
        cap = self._cap(sizes, accuracies)
        seen = frozenset(ledger.rows)
        front = losses[ranks == 0]
        return Belief(
            len(history), candidates, sizes, accuracies, seen, pool, near_bar, front, model, cap
        )

    def propose(
        self, belief: Belief[C], pending: Sequence[C], rng: np.random.Generator
    ) -> C | None:
        """A candidate that is neither in the history nor ``pending``; None if no new one was found."""
        if len(belief.candidates) < self._n_start:
            return self._start(belief, pending, rng)
        for_bar = self.problem.bar is not None and rng.random() < BAR_SHARE
        if belief.model is None:
            found = self._children(belief, pending, rng, 1, for_bar=for_bar)
            return found[0][0] if found else self._start(belief, pending, rng)
        brood = self._brood(belief, belief.model, for_bar=for_bar)
        free = np.ones(len(brood.children), dtype=bool)
        free[[brood.children[child] for child in pending if child in brood.children]] = False
        if not free.any():
            return self._start(belief, pending, rng)
        promises = self._promises(belief, belief.model, brood, pending, for_bar=for_bar)
        best = int(np.argmax(np.where(free, promises / brood.costs, -1.0)))
        return list(brood.children)[best]

    def _start(
        self, belief: Belief[C], pending: Sequence[C], rng: np.random.Generator
    ) -> C | None:
        taken = belief.seen.union(pending)
        choices: list[C] = []
        for _ in range(MAX_DRAWS):
            candidate = self.problem.sample(rng)
            if candidate not in taken and self.problem.size(candidate) <= belief.cap:
                choices.append(candidate)
                if len(choices) == self.strategy.start_choices:
                    break
        return min(choices, key=self.problem.cost, default=None)

    def _brood(self, belief: Belief[C], model: AccuracyModel, *, for_bar: bool) -> Brood[C]:
        if for_bar not in belief.broods:
            rng = np.random.default_rng([self.seed, belief.n_observations, for_bar])
            n_most = self.strategy.n_children
            found = self._children(belief, (), rng, n_most, for_bar=for_bar)
            children = [child for child, _ in found]
            belief.broods[for_bar] = Brood(
                {child: number for number, child in enumerate(children)},
                np.array([size for _, size in found]),
                np.array([self.problem.cost(child) for child in children]),
                model.process.foresee(self._features(children)),
            )
        return belief.broods[for_bar]

    def _children(
        self,
        belief: Belief[C],
        pending: Sequence[C],
        rng: np.random.Generator,
        n_most: int,
        *,
        for_bar: bool,
    ) -> list[tuple[C, float]]:
        """Distinct new children and their sizes, in the order of their birth."""
        pool = belief.near_bar if for_bar else belief.pool
        found: list[tuple[C, float]] = []
        met = {*belief.seen, *pending}
        for _ in range(MAX_DRAWS_PER_CHILD * self.strategy.n_children):
            n_parents = 2 if rng.random() < self.strategy.crossovers else 1
            parents = [pool[int(rng.integers(len(pool)))] for _ in range(n_parents)]
            child = self.problem.vary(parents, rng)
            n_met = len(met)
            met.add(child)  # hashed once: the hash of a genome is computed anew each time
            if len(met) == n_met:
                continue
            size = self.problem.size(child)
            if size <= belief.cap:
                found.append((child, size))
                if len(found) == n_most:
                    break
        return found

    def _select(self, losses: Array, ranks: NDArray[np.int_]) -> NDArray[np.int_]:
        """A pool: the best by rank, then the loneliest."""
        if not len(ranks):
            return ranks
        alone = np.zeros(len(ranks))
        last = np.sort(ranks)[: self.strategy.pool_size][-1]
        alone[ranks == last] = crowding_distance(losses[ranks == last])
        return np.lexsort((-alone, ranks))[: self.strategy.pool_size]

    def _promises(
        self,
        belief: Belief[C],
        model: AccuracyModel,
        brood: Brood[C],
        pending: Sequence[C],
        *,
        for_bar: bool,
    ) -> Array:
        """What each child promises, shape ``(n,)``: a smaller size above the bar, or hypervolume where none is smaller."""
        sizes, mean, bar = brood.sizes, brood.outlook.mean, self.problem.bar
        awaited = self._features(pending)
        awaited_sizes = np.array([self.problem.size(candidate) for candidate in pending])
        sd = model.process.deviation(brood.outlook, awaited)
        expected = model.accuracies(model.process.mean(awaited))
        known_sizes = np.concatenate((belief.sizes, awaited_sizes))
        known = np.concatenate((belief.accuracies, expected))
        if for_bar and bar is not None:
            chance = np.asarray(ndtr((model.target(bar) - mean) / sd))
            feasible = known_sizes[known >= bar]
            if not len(feasible):
                return chance
            promises = np.asarray(chance * np.maximum(np.log(feasible.min() / sizes), 0.0))
            if promises.any():
                return promises
        size, accuracy = self.problem.ref_point or (known_sizes.max(), known.min())
        if size == known_sizes.min():
            size += 1  # all are of one size, so that accuracy alone decides
        awaited_losses = np.column_stack((awaited_sizes, -expected))
        losses = np.concatenate((belief.front, awaited_losses))  # what is dominated has no say
        gains = np.zeros(len(sizes))
        for courage in COURAGE:
            hoped = model.accuracies(mean - courage * (self.strategy.optimism or 0.0) * sd)
            new = np.column_stack((sizes, -hoped))
            gains = hypervolume_gains(losses, new, (min(size, belief.cap), -accuracy))
            if gains.any():
                break
        return gains

    def _cap(self, sizes: Array, accuracies: Array) -> float:
        """The size above which nothing is of use."""
        feasible = sizes[accuracies >= (np.inf if self.problem.bar is None else self.problem.bar)]
        smallest = float(feasible.min()) if len(feasible) else np.inf
        return min(self.problem.max_size, CAP_FACTOR * smallest)

    def _describe(self, candidate: C) -> tuple[float, Array]:
        return self.problem.size(candidate), self.problem.features(candidate)

    def _features(self, candidates: Sequence[C]) -> Array:
        if not candidates:
            return np.zeros((0, self._ledger.features.shape[1]))
        return np.stack([self.problem.features(candidate) for candidate in candidates])


def _nearest_to_front(sizes: Array, accuracies: Array, n_most: int) -> NDArray[np.int_]:
    """At most ``n_most`` candidates, in their order: those that fall least short of the best of at most their size."""
    if len(sizes) <= n_most:
        return np.arange(len(sizes))
    order = np.lexsort((-accuracies, sizes))
    short = np.empty(len(sizes))
    short[order] = np.maximum.accumulate(accuracies[order]) - accuracies[order]
    return np.sort(np.argsort(short, kind="stable")[:n_most])


def _constrain(ranks: NDArray[np.int_], misses: Array) -> NDArray[np.int_]:
    """Ranks by constrained domination: what misses the bar comes last, in the order of how much it misses."""
    constrained, late = ranks.copy(), misses > 0
    if late.any():
        order = np.argsort(np.argsort(misses[late], kind="stable"))
        constrained[late] = ranks.max() + 1 + order
    return constrained
