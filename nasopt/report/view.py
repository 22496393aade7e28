"""What figures show of a study, read from its records in this one place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nasopt.candidates import CandidateSummary, completed, pareto_front, summarize_candidates
from nasopt.records import Candidate, Race, TrialRecord, Verification
from nasopt.selection import Selection

CONFIDENCE = 0.95
MIN_SEEDS = 3  # of an interval


@dataclass(frozen=True, slots=True)
class Point:
    """A network in the plane of size and accuracy: the mean over its seeds, which ``low`` and ``high`` bound.

    ``number`` is that of its first trial, ``dead`` says that it was trained once and predicts one class.
    """

    number: int
    n_params: int
    accuracy: float
    genome: str
    low: float
    high: float
    n_seeds: int = 1
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """The seeds of one network: on test, or in validation where it was raced."""

    number: int
    n_params: int
    on_test: bool
    chosen: bool
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return float(np.mean(self.accuracies))


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study as its figures see it: trials, races, what was opened on test, the first trial of what was chosen."""

    records: Sequence[TrialRecord]
    races: Sequence[Race]
    verifications: Sequence[Verification]
    chosen: int | None
    bar: float
    n_classes: int

    @classmethod
    def of(
        cls, records: Sequence[TrialRecord], selection: Selection, n_classes: int
    ) -> "StudyView":
        """The view of ``records`` and of what was selected from them."""
        chosen = selection.chosen.number if selection.chosen else None
        return cls(
            records,
            selection.races,
            selection.verifications,
            chosen,
            selection.rule.bar,
            n_classes,
        )

    def points(self) -> list[Point]:
        """Every network that was trained to the end, in the order of their first trials."""
        dead = {r.number for r in self.records if r.evaluation is not None and r.evaluation.dead}
        return [
            _point(s, dead=s.number in dead and s.n_runs == 1)
            for s in summarize_candidates(self.records)
        ]

    def front(self) -> list[Point]:
        """The Pareto front in validation, smallest first; means of one or two have the interval of the usual spread."""
        spread = usual_spread(summarize_candidates(self.records))
        return [_point(s, spread=spread) for s in self.front_networks()]

    def front_networks(self) -> list[CandidateSummary]:
        """The networks of the front, the smallest first."""
        return pareto_front(self.records)

    def near_the_bar(self, n: int) -> list[CandidateSummary]:
        """The ``n`` networks of the front whose accuracy is nearest to the bar, the smallest first."""
        front = sorted(self.front_networks(), key=lambda s: abs(s.val_accuracy - self.bar))
        return sorted(front[:n], key=lambda s: s.n_params)

    def verified(self, *, chosen: bool) -> list[Point]:
        """The mean over seeds on test of what was opened there: of the chosen network, or of all others."""
        return [
            _seeds_point(v, v.accuracies)
            for v in self.verifications
            if v.seeds and (v.number == self.chosen) == chosen
        ]

    def raced(self) -> list[Point]:
        """The mean over seeds in validation of what was raced and is not on test."""
        tested = {v.number for v in self.verifications}
        return [
            _seeds_point(r, r.accuracies)
            for r in self.races
            if r.accuracies and r.number not in tested
        ]

    def strips(self, n: int | None = None) -> list[Strip]:
        """The networks with their seeds, up to ``n`` if given: the chosen on test, others on test, races; each from the largest down."""
        networks: list[tuple[Verification | Race, bool]] = [(v, True) for v in self.verifications]
        networks += [(r, False) for r in self.races]
        strips = [
            Strip(it.number, it.n_params, on_test, it.number == self.chosen, tuple(it.accuracies))
            for it, on_test in networks
            if it.accuracies
        ]
        return sorted(strips, key=lambda s: (not s.on_test, not s.chosen, -s.n_params))[:n]

    def history(self, *, by_time: bool) -> Iterator[tuple[float, Point]]:
        """The network of every completed trial, with its mean as it was then, in the order of their end.

        Each comes at its time in minutes of search; or by the number of its trial.
        """
        done = [r for r in completed(self.records) if r.duplicate_of is None]
        runs: dict[Candidate, list[TrialRecord]] = {}
        for record in sorted(done, key=lambda r: r.elapsed_s) if by_time else done:
            own = runs.setdefault(record.candidate, [])
            own.append(record)
            (summary,) = summarize_candidates(own)
            yield record.elapsed_s / 60 if by_time else record.number, _point(summary)


def mean_interval(accuracies: Sequence[float], spread: float | None = None) -> tuple[float, float]:
    """The two-sided 95 % interval of the mean, by Student's t, or below three seeds by the standard deviation ``spread``.

    Of two seeds the former is 18 times as wide as they are apart, which says nothing and hides the rest of a figure: without
    ``spread`` the interval has no width then.
    """
    mean, n = float(np.mean(accuracies)), len(accuracies)
    if n >= MIN_SEEDS:
        spread = float(np.std(accuracies, ddof=1))
        factor = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    else:
        factor = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    reach = factor * (spread or 0.0) / float(np.sqrt(n))
    return max(0.0, mean - reach), min(1.0, mean + reach)


def usual_spread(networks: Sequence[CandidateSummary]) -> float | None:
    """The median standard deviation of networks that were trained three times or more; None of fewer than three networks.

    It is the median, since some networks die from some seeds.
    """
    spreads = [float(np.std(s.accuracies, ddof=1)) for s in networks if s.n_runs >= MIN_SEEDS]
    return float(np.median(spreads)) if len(spreads) >= MIN_SEEDS else None


def _point(summary: CandidateSummary, *, dead: bool = False, spread: float | None = None) -> Point:
    low, high = mean_interval(summary.accuracies, spread)
    genome, n_runs = str(summary.candidate.genome), summary.n_runs
    mean = summary.val_accuracy
    return Point(summary.number, summary.n_params, mean, genome, low, high, n_runs, dead)


def _seeds_point(network: Race | Verification, accuracies: Sequence[float]) -> Point:
    low, high = mean_interval(accuracies)
    mean, genome = float(np.mean(accuracies)), str(network.candidate.genome)
    return Point(network.number, network.n_params, mean, genome, low, high, len(accuracies))
