"""Which of the search's parameters decided the accuracy, as Optuna reckons it."""

import warnings
from contextlib import closing
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from nasopt.search.archive import open_connection, read_trials
from nasopt.search.storage import database_errors
from nasopt.search.study import REPLICATE_KEY

MIN_TRIALS = 50  # the most accurate tenth of fewer than that is under five trials


def accuracy_importances(database: Path) -> dict[str, float]:
    """The share of every parameter in what decided the accuracy, the largest first; empty below 50 networks, and where all are alike.

    It is what sets the most accurate tenth of the networks apart from all that were trained to the end, each by its first training, by
    PED-ANOVA, which knows conditional parameters, needs no package beside Optuna, and takes milliseconds.

    Raises:
        StudyError: if the database cannot be read.

    References:
        Watanabe, Bansal and Hutter (2023).
    """
    with database_errors(database), closing(open_connection(database)) as connection:
        trials = [trial for trial in read_trials(connection) if _counts(trial)]
    if len(trials) < MIN_TRIALS or len({_error(trial) for trial in trials}) == 1:
        return {}
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    for trial in trials:
        storage.create_new_trial(study._study_id, trial)
    with warnings.catch_warnings():
        # It warns of what is meant (a target to minimise) and of regimes of one trial, which it leaves out.
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=_error)


def _counts(trial: FrozenTrial) -> bool:
    attrs = trial.user_attrs
    is_first = "duplicate_of" not in attrs and REPLICATE_KEY not in attrs
    return trial.state == TrialState.COMPLETE and "curve" in attrs and is_first


def _error(trial: FrozenTrial) -> float:
    return -float(trial.values[0])
