"""A table of trainings for the tests of the studies, made up in a moment."""

import numpy as np
import trained_table

from nasopt.cost import count_macs

SPACE = trained_table.SPACE


def sample(n, *, legal=True):
    rng = np.random.default_rng(0)
    found = []
    while len(found) < n:
        candidate = SPACE.sample(rng)
        if (SPACE.why_too_large(candidate.genome) is None) == legal:
            found.append(candidate)
    return found


def make_trained_table():
    """A table of sixty networks; those with relu at the end are dead."""
    rng = np.random.default_rng(1)
    trainings = []
    for candidate in sample(60):
        center = -0.3 * np.log(SPACE.n_params(candidate.genome))
        logs = center + rng.normal(0, 0.05, 12)
        seconds = 1 + 1e-4 * count_macs(candidate.genome, SPACE.image, SPACE.n_classes)
        n_dead = 12 if candidate.genome.final_activation == "relu" else 0
        trainings.append(trained_table.Trainings(candidate, logs, n_dead, seconds))
    return trained_table.TrainedTable(trainings)
