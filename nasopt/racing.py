"""Whether a network clears the bar, judged from its accuracies over seeds, in rounds.

The seeds of a race are fresh: those that a network was found by flatter it. After every round its mean is
compared with the bar, by the bounds of Student's t, and the share of seeds above the bar with the share that is asked
for, by those of Clopper and Pearson. What is clearly too bad is dropped at once, and so is what has hardly a chance left to be
accepted, as its own seeds predict. What is good is accepted after the last round only, since some networks die from a few seeds
in a hundred, which a handful of good ones does not show (``studies/calibrate_race.py``). An error of 5 % is spent over all
networks that may be raced, the ``k``-th in proportion to ``1 / k``.

References:
    Maron and Moore (1994), Hoeffding races; Clopper and Pearson (1934); Spiegelhalter, Freedman and Blackburn (1986),
    predictive power.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import beta, betabinom, t

RaceVerdict = Literal["open", "accepted", "dropped", "undecided"]

FIRST_ROUND = 4
MIN_CHANCE = 0.05  # to be accepted; with less a race is given up


@dataclass(frozen=True, slots=True)
class RaceRule:
    """What a race is about: a mean above ``bar``, and ``min_pass_rate`` of ``n_seeds`` seeds above it.

    ``confidence`` is that of all that is accepted, taken together; the network is at ``position``, counted from 1,
    among at most ``n_candidates`` that are raced.
    """

    bar: float
    min_pass_rate: float = 0.8
    n_seeds: int = 48
    confidence: float = 0.95
    position: int = 1
    n_candidates: int = 30

    @property
    def level(self) -> float:
        """The error allowed in the race of this network."""
        shares = sum(1 / k for k in range(1, max(self.n_candidates, self.position) + 1))
        return (1 - self.confidence) / (self.position * shares)

    @property
    def rounds(self) -> tuple[int, ...]:
        """How many seeds are trained at the end of every round."""
        sizes: list[int] = []
        while (size := FIRST_ROUND * 2 ** len(sizes)) < self.n_seeds:
            sizes.append(size)
        return (*sizes, self.n_seeds)

    def judge(self, accuracies: Sequence[float]) -> RaceVerdict:
        """How the race stands after ``accuracies``; see :meth:`decide`."""
        return self.decide(accuracies)[0]

    def decide(self, accuracies: Sequence[float]) -> tuple[RaceVerdict, int]:
        """The verdict, and how many of ``accuracies`` it took: that of the first round to decide.

        A race is ``open`` until a round is full, and as long as more seeds may decide it; a network that was
        neither accepted nor dropped after the last one is ``undecided``. Seeds beyond, which a race by another rule may have
        trained, change nothing.
        """
        for n in self.rounds:
            if n > len(accuracies):
                break
            verdict = self._judge_round(np.array(accuracies[:n]))
            if verdict != "open":
                return verdict, n
        return "open", len(accuracies)

    def _judge_round(self, seen: np.ndarray) -> RaceVerdict:
        n, n_passed = len(seen), int(np.sum(seen > self.bar))
        if (
            n == self.n_seeds
            and n_passed >= n_needed(self.min_pass_rate, n)
            and lower_bound(seen, self.level) > self.bar
        ):
            return "accepted"
        error = 1 - self.confidence
        if upper_bound(seen, error) < self.bar:
            return "dropped"
        if pass_rate_bounds(n_passed, n, error)[1] < self.min_pass_rate:
            return "dropped"
        if n == self.n_seeds:
            return "undecided"
        return "dropped" if self.chance(seen) < MIN_CHANCE else "open"

    def chance(self, seen: np.ndarray) -> float:
        """At most how likely the race is to be won, from what ``seen``, fewer seeds than all, predict of the rest.

        It is the smaller one of two: that enough of the seeds left pass, a beta-binomial; and that the mean ends
        above its bound, by Student's t. A share without knowledge is uniform, and while all pass all may.
        """
        n, n_left = len(seen), self.n_seeds - len(seen)
        n_passed = int(np.sum(seen > self.bar))
        n_missing = n_needed(self.min_pass_rate, self.n_seeds) - n_passed
        enough = (
            1.0  # if all passed, the uniform share would expect failures that nothing speaks for
        )
        if n_passed < n:
            enough = float(betabinom.sf(n_missing - 1, n_left, n_passed + 1, n - n_passed + 1))
        spread = float(np.std(seen, ddof=1))
        if spread == 0.0:
            return enough
        wanted = self.bar - t.ppf(self.level, self.n_seeds - 1) * spread / math.sqrt(self.n_seeds)
        missing = (wanted - float(np.mean(seen))) * self.n_seeds / n_left
        high = t.sf(missing / (spread * math.sqrt(1 / n + 1 / n_left)), n - 1)
        return float(min(enough, high))

    def n_wanted(self, accuracies: Sequence[float]) -> int:
        """How many seeds are to be trained next: those that fill the round, or none after a decision."""
        if self.judge(accuracies) != "open":
            return 0
        return min(n for n in self.rounds if n > len(accuracies)) - len(accuracies)


def n_needed(share: float, n: int) -> int:
    """The least number that is ``share`` of ``n``, whatever rounding makes of their product: 14 is 0.56 of 25."""
    return math.ceil(share * n - 1e-9)


def lower_bound(accuracies: Sequence[float] | np.ndarray, error: float) -> float:
    """The one-sided lower bound of the mean by Student's t, exceeded with probability ``1 - error``."""
    values = np.asarray(accuracies, dtype=float)
    if len(values) < 2:
        return 0.0
    spread = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return float(np.mean(values) + t.ppf(error, len(values) - 1) * spread)


def upper_bound(accuracies: Sequence[float] | np.ndarray, error: float) -> float:
    """The one-sided upper bound of the mean by Student's t."""
    return 1 - lower_bound(1 - np.asarray(accuracies, dtype=float), error)


def pass_rate_bounds(n_passed: int, n: int, error: float) -> tuple[float, float]:
    """The lower and upper bound, each one-sided, of a share of which ``n_passed`` of ``n`` were seen.

    References:
        Clopper and Pearson (1934).
    """
    low = float(beta.ppf(error, n_passed, n - n_passed + 1)) if n_passed else 0.0
    high = float(beta.ppf(1 - error, n_passed + 1, n - n_passed)) if n_passed < n else 1.0
    return low, high
