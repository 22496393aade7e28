"""A study of many trials, written in seconds: random candidates with made-up curves, in Optuna's own tables."""

import numpy as np
import optuna
from optuna.trial import FixedTrial, TrialState, create_trial

from nasopt.cost import count_cost
from nasopt.search.archive import ArchivedStorage
from nasopt.search.study import open_study, read_database


def write_large_study(plan, database, n_trials, seed=0):
    """The Optuna study of ``plan`` with ``n_trials`` trials in the file ``database``, and its records."""
    study = open_study(plan, database, create=True)
    storage = ArchivedStorage(database)
    study_id = storage.load(study)
    rng = np.random.default_rng(seed)
    for number in range(n_trials):
        trial_id = storage.create_new_trial(study_id, make_trial(plan, number, rng))
        storage.write(trial_id)
    storage.close()
    study = optuna.load_study(study_name=plan.name, storage=study._storage)
    return study, read_database(database, plan.space)


def make_trial(plan, number, rng):
    """One completed trial, or one in eight stopped early, as a driver would write it."""
    space = plan.space
    candidate = space.sample(rng)
    fixed = FixedTrial(space.to_params(candidate))
    space.suggest(fixed)
    cost = count_cost(candidate.genome, space.image, space.n_classes)
    stopped = number % 8 == 1
    error = 0.12 + 60 / cost.n_params + 0.05 * rng.random()
    curve = [1 - min(0.9, error * (1 + 1 / epoch)) for epoch in range(1, 3 if stopped else 11)]
    return create_trial(
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        values=None if stopped else [curve[-1], cost.n_params],
        params=fixed.params,
        distributions=fixed.distributions,
        user_attrs={
            "genome": str(candidate.genome),
            "macs": cost.macs,
            "peak_bytes": cost.peak_bytes,
            "seed": int(rng.integers(2**32)),
            "train_accuracy": curve[-1],
            "curve": curve,
            "dead": False,
            "duration_s": 1.0,
            "elapsed_s": float(number),
        },
        system_attrs={"constraints": [plan.bar - curve[-1]]},
    )
