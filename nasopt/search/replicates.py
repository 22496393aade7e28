"""Which network of a search is worth another training: accuracy varies from seed to seed.

The smallest network whose only training is above the bar is, more often than not, a lucky one. A share of
the trials therefore trains a known candidate again: the one that promises most to be the smallest above the bar.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from scipy.special import ndtr

from nasopt.records import Candidate, CandidateSummary

MIN_RUNS = 3  # of a network before it counts as above the bar: some seeds die
MAX_RUNS = 6
MIN_CHANCE = 0.05


def is_replicate_turn(number: int, share: float) -> bool:
    """Whether the trial of that number is to train a known candidate again, so that ``share`` of all do."""
    return int((number + 1) * share) > int(number * share)


def choose_replicate(
    summaries: Sequence[CandidateSummary],
    pending: Collection[Candidate],
    bar: float,
    margin: float,
) -> Candidate | None:
    """The candidate to train again, or None if none is near the bar and small enough to matter.

    A training's accuracy is taken to vary by the standard deviation ``margin``. What a candidate promises is
    its chance to be above ``bar``, times the logarithm of how much smaller it is than the smallest
    that is so already. Trainings that are ``pending`` count, without their results.

    Args:
        summaries: what is known.
        pending: the candidates of trials whose results may not be used yet, each as often as it is trained.
        bar: the accuracy to clear.
        margin: see :func:`nasopt.records.shortfall`.
    """
    n_runs = Counter(pending)
    n_runs.update({s.candidate: s.n_runs for s in summaries})
    sure = [
        s.n_params for s in summaries if s.n_runs >= MIN_RUNS and s.shortfall(bar, margin) <= 0
    ]
    open_ones = [
        s
        for s in summaries
        if n_runs[s.candidate] < MAX_RUNS and s.n_params < min(sure, default=np.inf)
    ]
    if not open_ones:
        return None
    means = np.array([s.val_accuracy for s in open_ones])
    sds = max(margin, 1e-6) / np.sqrt([s.n_runs for s in open_ones])
    chances = ndtr((means - bar) / sds)
    sizes = np.array([s.n_params for s in open_ones])
    cap = min(sure) if sure else 2 * sizes.max()
    # A candidate with trainings on the way has less left to tell.
    shares = np.array([s.n_runs / n_runs[s.candidate] for s in open_ones])
    promise = np.where(chances >= MIN_CHANCE, chances * np.log(cap / sizes) * shares, 0.0)
    best = int(np.argmax(promise))
    return open_ones[best].candidate if promise[best] > 0 else None
