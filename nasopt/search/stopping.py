"""Early stopping for two objectives: since size is known, only accuracy has to be bounded.

A training is hopeless once even an optimistic continuation of its curve leaves the network dominated
by one that is no larger. How much a curve may still gain is learned from the curves of trainings
that no rule could stop: the error at the end as a share of the error after epoch ``i``. For the
share of which only ``1 - confidence`` of those curves fell below, an accuracy is needed after epoch ``i``;
what is below that is stopped. All this is fixed when a trial is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasopt.records import TO_THE_END, StopRule, TrialRecord, pareto_front

MIN_CURVES = 20
CONTROL_EVERY = 8


def is_control(number: int) -> bool:
    """Whether the trial of that number is trained to the end whatever its rule says."""
    return number % CONTROL_EVERY == 0


def make_stop_rule(records: Sequence[TrialRecord], n_params: int, confidence: float) -> StopRule:
    """The rule for a network of ``n_params`` parameters, learned from ``records``.

    It stops nothing while fewer than 20 curves are known, or no network of at most that size is.
    """
    shares = remaining_error(records, confidence)
    rivals = [r.val_accuracy for r in records if r.state == "complete" and r.n_params <= n_params]
    if shares is None or not rivals:
        return TO_THE_END
    # The error after epoch i times the share is the error at the end, at best; it must beat the rival's.
    minimum = 1 - (1 - max(rivals)) / np.maximum(shares[:-1], 1e-9)
    return StopRule(tuple(float(max(0.0, accuracy)) for accuracy in minimum))


def remaining_error(
    records: Sequence[TrialRecord], confidence: float
) -> NDArray[np.float64] | None:
    """The least error at the end as a share of that after every epoch, at that confidence.

    Dead networks are left out: they gain nothing and would make the rule bolder. None if fewer than
    20 curves that no rule could stop are known.
    """
    curves = [
        r.evaluation.curve
        for r in records
        if r.evaluation is not None
        and r.state == "complete"
        and r.duplicate_of is None
        and not r.evaluation.dead
        and (r.control or not r.rule.minimum)
    ]
    longest = max(map(len, curves), default=0)
    errors = 1 - np.array([curve for curve in curves if len(curve) == longest])
    if len(errors) < MIN_CURVES:
        return None
    shares = errors[:, -1:] / np.maximum(errors, 1e-9)
    quantiles: NDArray[np.float64] = np.quantile(shares, 1 - confidence, axis=0)
    return quantiles


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
    trained = {
        r.number: r.evaluation.curve
        for r in records
        if r.evaluation is not None and r.duplicate_of is None
    }
    longest = max(map(len, trained.values()), default=0)
    stopped = [r.number for r in records if r.state == "pruned" and r.number in trained]
    controls = [r for r in records if r.control and r.rule.minimum and r.number in trained]
    hit = [
        r.number
        for r in controls
        if any(r.rule.should_stop(i, a) for i, a in enumerate(trained[r.number], start=1))
    ]
    front = {r.number for r in pareto_front(records)}
    return StoppingVerdict(
        n_stopped=len(stopped),
        epochs_trained=sum(map(len, trained.values())),
        epochs_saved=sum(longest - len(trained[number]) for number in stopped),
        n_controls=len(controls),
        n_controls_hit=len(hit),
        n_lost=len(front.intersection(hit)),
    )
