"""The Optuna study of a search: its identity, and its trials as records."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nasopt.candidates import CandidateSummary
from nasopt.cost import count_cost
from nasopt.errors import GenomeError, StudyError
from nasopt.records import (
    Candidate,
    Evaluation,
    Race,
    SeedResult,
    StopRule,
    TrialRecord,
    Verification,
)
from nasopt.records import TrialState as RecordState
from nasopt.search.archive import ArchivedStorage, open_connection, read_trials
from nasopt.search.past import CONSTRAINTS_KEY
from nasopt.search.plan import SearchPlan
from nasopt.search.samplers import make_sampler
from nasopt.search.stopping import is_control
from nasopt.search.storage import database_errors, only_begun, open_storage
from nasopt.space import SearchSpace

Study = optuna.Study  # for those who hand it on

METRIC_NAMES = ("val_accuracy", "n_params")
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
IDENTITY_KEY = "nasopt:identity"
RACE_KEY = "nasopt:race:"
RULE_KEY = "nasopt:rule"
VERIFICATION_KEY = "nasopt:verification:"
TEST_IMAGES_KEY = "nasopt:test_images"
ENVIRONMENTS_KEY = "nasopt:environments"
FORMAT_KEY = "nasopt:format"
FORMAT = 1
REPLICATE_KEY = "replicate"
MAX_CHANGE_LENGTH = 120  # of what a message tells of a setting

_STATES: dict[TrialState, RecordState] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def open_study(plan: SearchPlan, database: Path, *, create: bool) -> optuna.Study:
    """The study of ``plan`` in the SQLite file ``database``.

    Raises:
        StudyError: if it is missing and not to be created, or is not the study of this plan.
    """
    storage = open_storage(database, create=create)
    sampler = make_sampler(plan)
    with database_errors(database):
        names = optuna.get_all_study_names(storage)
        if names and plan.name not in names:
            raise StudyError(
                f"{database} holds the study {names[0]!r}, not {plan.name!r}; choose another file with --database"
            )
        if len(names) > 1:
            others = ", ".join(repr(name) for name in names if name != plan.name)
            raise StudyError(
                f"{database} holds other studies too ({others}), and nasopt keeps one in a file; take them out with "
                "optuna.delete_study, or choose another file with --database"
            )
        if not names and not create:
            raise StudyError(
                f"there is no study in {database} yet; run 'nasopt search STUDY' with this study file first"
            )
        if names:
            study = optuna.load_study(study_name=plan.name, storage=storage, sampler=sampler)
            _check_identity(study, plan, database, create=create)
            return study
        study = optuna.create_study(
            study_name=plan.name, storage=storage, sampler=sampler, directions=DIRECTIONS
        )
        _write_identity(study, plan)
        return study


def _write_identity(study: optuna.Study, plan: SearchPlan) -> None:
    study.set_metric_names(list(METRIC_NAMES))
    study.set_user_attr(IDENTITY_KEY, dict(plan.identity))
    study.set_user_attr(FORMAT_KEY, FORMAT)  # last: it says that all the rest is there


def _check_identity(
    study: optuna.Study, plan: SearchPlan, database: Path, *, create: bool
) -> None:
    found_format = study.user_attrs.get(FORMAT_KEY)
    if found_format is None:
        # A driver killed while it created the study left neither trials nor a format.
        if study.directions != DIRECTIONS or study.get_trials(deepcopy=False):
            raise StudyError(
                f"the study {plan.name!r} in {database} was not made by nasopt; choose another file with --database"
            )
        if not create:
            raise only_begun(database)
        _write_identity(study, plan)
        return
    if found_format != FORMAT:
        raise StudyError(
            f"{database} has study format {found_format}, this nasopt writes format {FORMAT}; "
            "use the version of nasopt that wrote it, or choose another file with --database"
        )
    before, now = study.user_attrs.get(IDENTITY_KEY) or {}, dict(plan.identity)
    changed = [
        key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)
    ]
    if changed and create and not study.get_trials(deepcopy=False):
        study.set_user_attr(IDENTITY_KEY, now)  # nothing was trained by the earlier settings
    elif changed:
        details = "; ".join(_describe_change(k, before.get(k), now.get(k)) for k in changed)
        raise StudyError(
            f"{database} belongs to a study with other settings ({details}); "
            "undo the change, give the study another name, or choose another file with --database"
        )


def _describe_change(key: str, before: object, now: object) -> str:
    text = f"{key} was {before}, is {now}"
    return text if len(text) <= MAX_CHANGE_LENGTH else f"{key} has changed"


@contextmanager
def working_copy(study: optuna.Study, database: Path) -> Iterator[optuna.Study]:
    """``study`` in memory, for its driver; every trial is written to ``database`` as it goes."""
    storage = ArchivedStorage(database)
    try:
        storage.load(study)
        yield optuna.load_study(
            study_name=study.study_name, storage=storage, sampler=study.sampler
        )
    finally:
        storage.close()


def read_database(database: Path, space: SearchSpace) -> list[TrialRecord]:
    """The trials in the SQLite file ``database`` as records."""
    with closing(open_connection(database)) as connection:
        records = (to_record(trial, space) for trial in read_trials(connection))
        return [record for record in records if record is not None]


def read_records(study: optuna.Study, space: SearchSpace) -> list[TrialRecord]:
    """The trials of ``study`` as records; what :func:`to_record` makes nothing of is left out."""
    records = (to_record(trial, space) for trial in study.get_trials(deepcopy=False))
    return [record for record in records if record is not None]


def to_record(trial: FrozenTrial, space: SearchSpace) -> TrialRecord | None:
    """The record of one trial, or None if its candidate is not complete yet, or another program told it."""
    attrs = trial.user_attrs
    if trial.state == TrialState.COMPLETE and "curve" not in attrs:
        return None
    try:
        candidate = space.from_params(trial.params)
    except GenomeError:
        return None
    cost = count_cost(candidate.genome, space.image, space.n_classes)
    evaluation = None
    if "curve" in attrs and trial.state.is_finished():
        evaluation = Evaluation(
            val_accuracy=attrs["curve"][-1],
            train_accuracy=attrs["train_accuracy"],
            curve=tuple(attrs["curve"]),
            dead=attrs["dead"],
            duration_s=attrs["duration_s"],
            stopped=trial.state == TrialState.PRUNED,
        )
    return TrialRecord(
        number=trial.number,
        state=_STATES[trial.state],
        candidate=candidate,
        n_params=cost.n_params,
        macs=cost.macs,
        peak_bytes=cost.peak_bytes,
        seed=attrs.get("seed", 0),
        evaluation=evaluation,
        elapsed_s=attrs.get("elapsed_s", 0.0),
        duplicate_of=attrs.get("duplicate_of"),
        reason=attrs.get("reason"),
        rule=StopRule(tuple(attrs.get("stop_below", ()))),
        control=is_control(trial.number),
        replicate=attrs.get(REPLICATE_KEY, 0),
    )


def write_race(study: optuna.Study, race: Race) -> None:
    """Stores a race, of however many seeds so far, in the study."""
    study.set_user_attr(f"{RACE_KEY}{race.number}", list(race.accuracies))


def read_race(study: optuna.Study, network: CandidateSummary) -> Race:
    """The race of ``network`` that the study has so far, perhaps of no seed."""
    accuracies = tuple(study.user_attrs.get(f"{RACE_KEY}{network.number}", []))
    return Race(network.number, network.candidate, network.n_params, accuracies)


def write_environment(study: optuna.Study, environment: Mapping[str, str]) -> None:
    """Stores where the study was worked on, each place once."""
    known = read_environments(study)
    if environment not in known:
        study.set_user_attr(ENVIRONMENTS_KEY, [*known, dict(environment)])


def read_environments(study: optuna.Study) -> list[dict[str, str]]:
    """Where the study was worked on, in order of time."""
    return list(study.user_attrs.get(ENVIRONMENTS_KEY, []))


def write_rule(study: optuna.Study, rule: Mapping[str, Any]) -> None:
    """Stores by what rule the study's network is chosen, as far as it may differ from the study file's."""
    study.set_user_attr(RULE_KEY, dict(rule))


def read_rule(study: optuna.Study) -> dict[str, Any]:
    """What the study's network was chosen by last; empty if it was not yet."""
    return dict(study.user_attrs.get(RULE_KEY, {}))


def write_verification(study: optuna.Study, verification: Verification) -> None:
    """Stores a verification, of however many seeds so far, in the study."""
    seeds = [asdict(result) for result in verification.seeds]
    study.set_user_attr(TEST_IMAGES_KEY, verification.n_images)
    study.set_user_attr(f"{VERIFICATION_KEY}{verification.number}", seeds)


def read_verification(study: optuna.Study, network: CandidateSummary, bar: float) -> Verification:
    """The verification of ``network`` that the study has so far, perhaps of no seed."""
    attributes = study.user_attrs
    stored = attributes.get(f"{VERIFICATION_KEY}{network.number}", [])
    seeds = tuple(SeedResult(**seed) for seed in stored)
    n_images = int(attributes.get(TEST_IMAGES_KEY, 0))
    return Verification(network.number, network.candidate, network.n_params, bar, seeds, n_images)


def write_candidate(
    trial: optuna.Trial,
    candidate: Candidate,
    space: SearchSpace,
    seed: int,
    rule: StopRule,
    replicate: int,
) -> None:
    """Stores what is known before the training, where the dashboard shows it."""
    cost = count_cost(candidate.genome, space.image, space.n_classes)
    trial.set_user_attr("genome", str(candidate.genome))
    trial.set_user_attr("macs", cost.macs)
    trial.set_user_attr("peak_bytes", cost.peak_bytes)
    trial.set_user_attr("seed", seed)
    if replicate:
        trial.set_user_attr(REPLICATE_KEY, replicate)
    if rule.minimum:
        trial.set_user_attr("stop_below", list(rule.minimum))
    if isinstance(trial.storage, ArchivedStorage):
        trial.storage.write(trial._trial_id)


def write_evaluation(trial: optuna.Trial, evaluation: Evaluation, constraint: float) -> None:
    """Stores what the training told, and the constraint (feasible <= 0)."""
    trial.set_user_attr("train_accuracy", evaluation.train_accuracy)
    trial.set_user_attr("curve", list(evaluation.curve))
    trial.set_user_attr("dead", evaluation.dead)
    trial.set_user_attr("duration_s", evaluation.duration_s)
    # Not trial.set_constraint: optuna-dashboard 0.21 reads only this attribute, Optuna 5 both.
    trial.storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS_KEY, [constraint])
