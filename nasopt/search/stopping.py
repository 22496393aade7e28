"""Early stopping for two objectives: since size is known, only accuracy has to be bounded.

A training is hopeless once even an optimistic continuation of its curve leaves the network dominated
by one that is no larger. How much a curve may still gain is learned from the curves of trainings
that no rule could stop: the error at the end as a share of the error after epoch ``i``. For the
share of which only ``1 - confidence`` of those curves fell below, an accuracy is needed after epoch ``i``;
what is below that is stopped. All this is fixed when a trial is asked.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasopt.records import TO_THE_END, StopRule, TrialRecord

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
