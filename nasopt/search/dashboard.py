"""What optuna-dashboard shows beyond the trials: notes, roles, cards and figures.

Notes and figures are study attributes. A sampler reads these at every ask, and the dashboard goes through all of them for every
trial, so both are few: notes on the front only, figures without the mass of the trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from nasopt.candidates import CandidateSummary, pareto_front
from nasopt.drawing import draw_card
from nasopt.records import Race, TrialRecord, Verification
from nasopt.search.extras import trial_ids, write_extras
from nasopt.space import SearchSpace
from nasopt.wording import format_share

CHOSEN_KEY = "nasopt:chosen"
NOTED_KEY = "nasopt:noted"
MAX_NOTES = 20
MAX_CARDS = 2000


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is told of a study: its trials, what was raced and opened on test, the choice and why, and figures.

    ``chosen`` is one of ``verifications``, or None.
    """

    records: Sequence[TrialRecord]
    bar: float
    races: Sequence[Race] = ()
    verifications: Sequence[Verification] = ()
    chosen: Verification | None = None
    reasons: Sequence[str] = ()
    figures: Mapping[str, go.Figure] = field(default_factory=dict)

    def roles(self) -> dict[int, str]:
        """What became of the trials that something became of, by their number."""
        roles = {s.number: "front" for s in pareto_front(self.records)}
        roles |= {race.number: "raced" for race in self.races if race.accuracies}
        roles |= {v.number: "contradicted on test" for v in self.verifications}
        if self.chosen is not None:
            roles[self.chosen.number] = "chosen"
        return roles


def annotate_study(
    study: optuna.Study, database: Path, space: SearchSpace, annotation: Annotation
) -> None:
    """Writes into ``study`` and beside it what optuna-dashboard shows of ``annotation``; again at any time.

    Args:
        study: the study in ``database``.
        database: its SQLite file; cards go into the folder ``artifacts`` beside it.
        space: of the search, for the shape of an image and the number of classes.
        annotation: what to show.

    Raises:
        StudyError: if the database or its folder cannot be written.
    """
    roles = annotation.roles()
    write_extras(database, _cards(annotation, space, roles), roles)
    _write_notes(study, database, annotation)
    for name, figure in annotation.figures.items():
        save_plotly_graph_object(study, figure, graph_object_id=f"nasopt-{name}")
    study.set_user_attr(CHOSEN_KEY, annotation.chosen.number if annotation.chosen else None)


def _cards(
    annotation: Annotation, space: SearchSpace, roles: Mapping[int, str]
) -> Iterator[tuple[int, str]]:
    """Cards of trials that ended: of all that have a role, then of the latest, 2,000 in all."""
    ended = [r for r in annotation.records if r.state != "running"]
    ended.sort(key=lambda r: (r.number not in roles, -r.number))
    for record in ended[:MAX_CARDS]:
        yield record.number, draw_card(record, space.image, space.n_classes, annotation.bar)


def _write_notes(study: optuna.Study, database: Path, annotation: Annotation) -> None:
    """Notes on the study, the chosen trial and the front; those of earlier times are taken back."""
    front = pareto_front(annotation.records)
    nearest = sorted(front, key=lambda s: abs(s.val_accuracy - annotation.bar))[:MAX_NOTES]
    before: list[int] = study.user_attrs.get(NOTED_KEY, [])
    kept = {network.number for network in nearest}.union(before)
    notes = {
        network.number: _front_note(network, front[i - 1] if i else None)
        for i, network in enumerate(front)
        if network.number in kept
    }
    earlier = study.user_attrs.get(CHOSEN_KEY)
    if annotation.chosen is not None:
        choice = _choice_note(annotation.chosen, annotation.reasons)
        notes[annotation.chosen.number] = choice
        _save_note(study, choice)
    elif earlier is not None:
        _save_note(study, f"No network is chosen now; earlier it was trial {earlier}.")
    ids = trial_ids(database)
    gone = dict.fromkeys(before, "No longer on the front.")
    if earlier in gone:
        gone[earlier] = "No longer chosen, and not on the front."
    for number, text in (gone | notes).items():
        _save_note(optuna.trial.Trial(study, ids[number]), text)
    study.set_user_attr(NOTED_KEY, sorted(notes))


def _save_note(target: optuna.Study | optuna.trial.Trial, text: str) -> None:
    if get_note(target) != text:
        save_note(target, text)


def _front_note(network: CandidateSummary, smaller: CandidateSummary | None) -> str:
    runs = f"the mean of {network.n_runs} trainings" if network.n_runs > 1 else "one training"
    lines = [
        f"**On the front**: {network.n_params:,} parameters, {network.val_accuracy:.2%} in validation ({runs}); "
        "no network tried is smaller and as accurate.",
    ]
    if smaller is not None:
        lines += [
            "",
            f"The next smaller one on the front is trial {smaller.number} with {smaller.n_params:,} parameters "
            f"and {smaller.val_accuracy:.2%}.",
        ]
    return "\n".join(lines)


def _choice_note(verification: Verification, reasons: Sequence[str]) -> str:
    candidate = verification.candidate
    lines = [
        f"## Chosen: trial {verification.number}, {verification.n_params:,} parameters",
        "",
        f"`{candidate.genome}`",
        "",
        f"lr {candidate.lr:.4g}, lr_decay {candidate.lr_decay:.4g}; test accuracy {verification.mean:.2%} "
        f"± {verification.sd:.2%} over {len(verification.seeds)} seeds, {verification.n_passed} of them "
        f"above {format_share(verification.bar)}.",
        "",
        *(f"- {reason}" for reason in reasons),
    ]
    return "\n".join(lines)
