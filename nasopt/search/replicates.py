"""Which network of a search is worth another training: accuracy varies from seed to seed.

The smallest network whose only training is above the bar is, more often than not, a lucky one. A share of
the trials therefore trains a known candidate again: the one that promises most to be the smallest above the bar.
"""

from collections import Counter
from collections.abc import Collection

import numpy as np
from scipy.special import ndtr

from nasopt.candidates import CandidateTable
from nasopt.records import Candidate

MIN_RUNS = 3  # of a network before it counts as above the bar: some seeds die
MAX_RUNS = 6
MIN_CHANCE = 0.05


def is_replicate_turn(number: int, share: float) -> bool:
    """Whether the trial of that number is to train a known candidate again, so that ``share`` of all do."""
    return int((number + 1) * share) > int(number * share)


def choose_replicate(
    known: CandidateTable,
    pending: Collection[Candidate],
    bar: float,
    margin: float,
) -> Candidate | None:
    """The candidate to train again, or None if none is near the bar and small enough to matter.

    A training's accuracy is taken to vary by the standard deviation ``margin``. What a candidate promises is
    its chance to be above ``bar``, times the logarithm of how much smaller it is than the smallest
    that is so already. Trainings that are ``pending`` count, without their results.

    Args:
        known: what is known.
        pending: the candidates of trials whose results may not be used yet, each as often as it is trained.
        bar: the accuracy to clear.
        margin: see :func:`nasopt.candidates.shortfall`.
    """
    if not known.summaries:
        return None
    runs, trained, means, sizes = known.n_runs, known.n_trained, known.accuracies, known.sizes
    sure = sizes[(runs >= MIN_RUNS) & (means >= bar + margin / np.sqrt(runs))]
    cap = sure.min() if len(sure) else 2 * sizes.max()
    chances = ndtr((means - bar) / (max(margin, 1e-6) / np.sqrt(runs)))
    promise = np.where(chances >= MIN_CHANCE, chances * np.log(cap / sizes), 0.0)
    on_the_way = Counter(pending)
    best, found = 0.0, None
    at_most = promise * runs / trained  # without a training on the way
    for i in np.flatnonzero(promise > 0).tolist():
        if at_most[i] <= best:
            continue  # without hashing the candidate
        candidate = known.summaries[i].candidate
        n = trained[i] + on_the_way[candidate]
        # A candidate with trainings on the way, or that failed, has less left to tell.
        if n < MAX_RUNS and promise[i] * runs[i] / n > best:
            best, found = promise[i] * runs[i] / n, candidate
    return found
