"""A study as one of its trials may see it: what Optuna's own samplers are given, so that a study is one trajectory."""

import copy
from collections.abc import Container
from typing import Any, cast

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nasopt.search.ledger import n_known_to

CONSTRAINTS_KEY = "constraints"  # as Optuna names the attribute of a trial


def past_of(study: Study, number: int, generation_size: int) -> Study:
    """``study`` as the trial of that number may know it, whatever else has ended by now.

    Trials whose results it may not use are running in it, with their parameters; later ones are not there. What is
    written to it is written to ``study``.
    """
    past = copy.copy(study)
    storage = _PastStorage(study._storage, n_known_to(number, generation_size), number)
    past._storage = cast(BaseStorage, storage)
    return past


class _PastStorage:
    """A storage of which the first ``n_known`` trials have results, and those from ``n_trials`` on are hidden."""

    def __init__(self, storage: BaseStorage, n_known: int, n_trials: int) -> None:
        self._whole = storage
        self._n_known, self._n_trials = n_known, n_trials

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._whole, name)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002  (Optuna's signature)
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """The trials as they may be seen, of those ``states``."""
        trials = self._whole.get_all_trials(study_id, deepcopy=False)[: self._n_trials]
        seen = trials[: self._n_known] + [_still_running(t) for t in trials[self._n_known :]]
        seen = [trial for trial in seen if states is None or trial.state in states]
        return copy.deepcopy(seen) if deepcopy else seen


def _still_running(trial: FrozenTrial) -> FrozenTrial:
    attributes = {k: v for k, v in trial.system_attrs.items() if k != CONSTRAINTS_KEY}
    return FrozenTrial(
        number=trial.number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=trial.datetime_start,
        datetime_complete=None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs=attributes,
        intermediate_values={},
        trial_id=trial._trial_id,
    )
