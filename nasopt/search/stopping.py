"""Early stopping for two objectives: since size is known, only accuracy has to be bounded.

A training is hopeless once even an optimistic continuation of its curve leaves the network dominated
by one that is no larger. How much a curve may still gain is learned from the curves of trainings
that no rule could stop: the error at the end as a share of the error after epoch ``i``. For the
share of which only ``1 - confidence`` of those curves fell below, an accuracy is needed after epoch ``i``;
what is below that is stopped. All this is fixed when a trial is asked. The usual confidence grows with the study: what is
stopped early in a search would hardly stay on its front, what is stopped late may.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasopt.candidates import CandidateSummary, pareto_front, trained
from nasopt.records import TO_THE_END, StopRule, TrialRecord

Confidence = float | Literal["growing"]

MIN_CURVES = 20
CONTROL_EVERY = 16
# Of a growing confidence, the share of curves that may be stopped wrongly: so much over the number of trials, and at most.
WRONG_STOPS, MOST_WRONG = 50.0, 0.2


def is_control(number: int) -> bool:
    """Whether the trial of that number is trained to the end whatever its rule says."""
    return number % CONTROL_EVERY == 0


def confidence_after(n_trials: int, asked: Confidence) -> float:
    """The confidence of rules that are learned from the first ``n_trials``: ``asked``, or one that grows with them.

    A growing one is 80 % up to 250 trials, 90 % after 500, 99 % after 5,000.
    """
    return 1 - min(MOST_WRONG, WRONG_STOPS / max(n_trials, 1)) if isinstance(asked, str) else asked


@dataclass(frozen=True, slots=True)
class StopRules:
    """The rules for networks of any size, as learned from some trials.

    ``shares`` is a low error at the end as a share of that after every epoch (a quantile), None while too little is known,
    and ``middling`` the median of that share; ``rivals`` are the networks that a training has to beat.
    """

    shares: NDArray[np.float64] | None
    middling: NDArray[np.float64] | None
    rivals: tuple[CandidateSummary, ...]

    def rule(self, n_params: int) -> StopRule:
        """The rule for a network of ``n_params`` parameters; it stops nothing where nothing is known to beat."""
        best = max((r.val_accuracy for r in self.rivals if r.n_params <= n_params), default=None)
        return TO_THE_END if best is None else self.rule_to_reach(best)

    def rule_to_reach(self, accuracy: float) -> StopRule:
        """The rule that stops what, even at best, would not come to ``accuracy``."""
        if self.shares is None:
            return TO_THE_END
        # The error after epoch i times the share is the error at the end, at best.
        minimum = 1 - (1 - accuracy) / np.maximum(self.shares[:-1], 1e-9)
        return StopRule(tuple(float(max(0.0, accuracy)) for accuracy in minimum))

    def expected(self, curve: Sequence[float]) -> float:
        """The accuracy that a training, stopped after ``curve``, would have come to in the middling case."""
        left = 1.0 if self.middling is None else float(self.middling[len(curve) - 1])
        return 1 - (1 - curve[-1]) * left


class TeachingCurves:
    """The curves that tell how much a training may still gain, taken in record by record.

    Dead networks are left out: they gain nothing and would make the rules bolder. So is what a rule could
    have stopped. Only the longest curves count.
    """

    def __init__(self, records: Sequence[TrialRecord] = ()) -> None:
        """Begins with ``records``."""
        self._curves: list[Sequence[float]] = []
        self._shares = np.zeros((0, 0))  # of the first of them
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Takes in one more record."""
        if (
            record.evaluation is None
            or record.state != "complete"
            or record.duplicate_of is not None
            or record.evaluation.dead
            or (record.rule.minimum and not record.control)
        ):
            return
        curve = record.evaluation.curve
        longest = len(self._curves[0]) if self._curves else 0
        if len(curve) > longest:
            self._curves, self._shares = [], np.zeros((0, len(curve)))
        if len(curve) >= longest:
            self._curves.append(curve)

    def rules(self, rivals: Sequence[CandidateSummary], confidence: float) -> StopRules:
        """The rules that they teach at that confidence, against ``rivals``; fewer than 20 curves teach nothing."""
        if len(self._curves) < MIN_CURVES:
            return StopRules(None, None, tuple(rivals))
        low, middling = np.quantile(self._known_shares(), (1 - confidence, 0.5), axis=0)
        return StopRules(low, middling, tuple(rivals))

    def _known_shares(self) -> NDArray[np.float64]:
        """The error at the end as a share of that after every epoch, of all curves: shape ``(n, n_epochs)``."""
        errors = 1 - np.array(self._curves[len(self._shares) :])
        if len(errors):
            shares = errors[:, -1:] / np.maximum(errors, 1e-9)
            self._shares = np.concatenate((self._shares, shares))
        return self._shares

    def rule_to_reach(self, accuracy: float, confidence: float) -> StopRule:
        """The rule that stops what would not come to ``accuracy``, wrongly at most once in ``1 / (1 - confidence)`` trainings.

        Other than :meth:`rules`, whose confidence is that of every epoch alone, it counts all epochs together: the least
        shares lie at every epoch equally many standard deviations below the mean of the logarithms, so many that a
        further curve falls below any of them as rarely as that. The count is that of conformal prediction (Vovk et al.,
        2005), each curve judged by the mean and the deviation of the others. Fewer curves than can tell so stop nothing.
        """
        n = len(self._curves)
        n_below = int((1 - confidence) * (n + 1) + 1e-9)
        if n < 2 or not n_below:
            return TO_THE_END
        logs = np.log(np.maximum(self._known_shares(), 1e-9))
        mean, sd = logs.mean(axis=0), logs.std(axis=0)
        means = (n * mean - logs) / (n - 1)  # of the others, and their deviations
        variances = ((logs**2).sum(axis=0) - logs**2) / (n - 1) - means**2
        sds = np.sqrt(np.maximum(variances, 0))  # rounding may leave a little below 0
        deviations = (logs - means) / np.where(sds > 0, sds, 1.0)
        least = np.sort(deviations.min(axis=1))[n_below - 1]
        return StopRules(np.exp(mean + least * sd), None, ()).rule_to_reach(accuracy)


@dataclass(frozen=True, slots=True)
class StoppingVerdict:
    """What early stopping saved, and what it cost as far as the controls can tell.

    Of ``n_controls`` trials trained to the end whatever their rule said, the rule would have stopped
    ``n_controls_hit``; ``n_lost`` of these are on the front.
    """

    n_stopped: int
    epochs_trained: int
    epochs_saved: int
    n_controls: int
    n_controls_hit: int
    n_lost: int


def judge_stopping(records: Sequence[TrialRecord]) -> StoppingVerdict:
    """What early stopping did in a study with these trials."""
    curves = {number: evaluation.curve for number, evaluation in trained(records).items()}
    longest = max(map(len, curves.values()), default=0)
    stopped = [r.number for r in records if r.state == "pruned" and r.number in curves]
    controls = [r for r in records if r.control and r.rule.minimum and r.number in curves]
    hit = [
        r.number
        for r in controls
        if any(r.rule.should_stop(i, a) for i, a in enumerate(curves[r.number], start=1))
    ]
    front = {r.number for r in pareto_front(records)}
    return StoppingVerdict(
        n_stopped=len(stopped),
        epochs_trained=sum(map(len, curves.values())),
        epochs_saved=sum(longest - len(curves[number]) for number in stopped),
        n_controls=len(controls),
        n_controls_hit=len(hit),
        n_lost=len(front.intersection(hit)),
    )
