"""What the dashboard shows of a study: written after a search, and after a choice."""

from collections.abc import Sequence

from nasopt.candidates import CandidateSummary
from nasopt.records import Race, TrialRecord, Verification
from nasopt.report import StudyView, dashboard_figures
from nasopt.search.dashboard import Annotation, annotate_study
from nasopt.search.study import Study, read_race, read_rule, read_verification
from nasopt.selection import Selection, recall_rule, select_network
from nasopt.workflow.context import StudyContext


def recall_selection(
    context: StudyContext, study: Study, records: Sequence[TrialRecord]
) -> Selection:
    """The selection as far as ``study`` has its races and verifications; trains nothing."""
    rule = recall_rule(context.settings.rule, read_rule(study))

    def recall_race(network: CandidateSummary, _position: int) -> Race:
        return read_race(study, network)

    def recall(network: CandidateSummary) -> Verification:
        return read_verification(study, network, rule.bar)

    return select_network(records, rule, recall_race, recall)


def annotate(
    context: StudyContext,
    study: Study,
    records: Sequence[TrialRecord],
    selection: Selection,
) -> None:
    """Writes what optuna-dashboard shows of the study; the caller drives it.

    Raises:
        StudyError: if the database or its folder cannot be written.
    """
    space = context.plan.space
    annotation = Annotation(
        records,
        context.plan.bar,
        races=selection.races,
        verifications=selection.verifications,
        chosen=selection.verification,
        reasons=selection.reasons,
        figures=dashboard_figures(StudyView.of(records, selection, space.n_classes)),
    )
    annotate_study(study, context.database, space, annotation)
