"""Choosing: races, verification on test, and what is written of the choice."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna

from nasopt import __version__
from nasopt.data import load_train_val
from nasopt.evaluation import TrainingEvaluator
from nasopt.files import write_whole
from nasopt.model import build_model, read_metadata, save_weights
from nasopt.records import CandidateSummary, Race, TrialRecord, Verification
from nasopt.report import StudyView, dashboard_figures
from nasopt.search.dashboard import Annotation, annotate_study
from nasopt.search.storage import database_errors
from nasopt.search.study import (
    read_database,
    read_race,
    read_rule,
    read_verification,
    write_race,
    write_rule,
    write_verification,
)
from nasopt.selection import Selection, SelectionRule, select_smallest
from nasopt.training import TrainingResult
from nasopt.verification import FinalTraining, run_race, verify
from nasopt.workflow.context import Pool, StudyContext, driving, workers


def run_selection(
    context: StudyContext,
    rule: SelectionRule,
    pool: Pool,
    on_race: Callable[[Race, int], None],
    on_seed: Callable[[Verification], None],
) -> Selection:
    """Chooses the network of a study by racing, verifies it on test, and writes weights, numbers and report.

    What was verified in an earlier run is not trained again. The study remembers by which rule it was chosen.

    Raises:
        StudyError: if there is no such study, its database cannot be used, or another process drives it.
        DataError: if the data cannot be read.
    """
    context.open(create=False)  # so that a missing study is reported before anything is written
    engine = context.settings.training.engine
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, engine)
    final_training = FinalTraining(context.source, context.settings.recipe, engine)
    first_seeds: dict[int, TrainingResult] = {}
    with driving(context) as study, workers(engine, pool) as (executor, _):

        def race_network(network: CandidateSummary, position: int) -> Race:
            def after_seed(race: Race) -> None:
                write_race(study, race)
                on_race(race, position)

            start = read_race(study, network)
            seed = context.plan.seed
            return run_race(start, rule.race(position), seed, evaluator, executor, after_seed)

        def verify_record(record: CandidateSummary) -> Verification:
            start = read_verification(study, record, rule.bar)

            def after_seed(
                verification: Verification, replicate: int, result: TrainingResult | None
            ) -> None:
                write_verification(study, verification)
                if replicate == 1 and result is not None:
                    first_seeds[record.number] = result
                on_seed(verification)

            return verify(start, rule, context.plan.seed, final_training, executor, after_seed)

        write_rule(study, {"bar": rule.bar, "order": rule.order, "under": rule.under})
        records = read_database(context.database, context.plan.space)
        selection = select_smallest(records, rule, race_network, verify_record)
        document = json.dumps(selection.to_json(), indent=2)
        write_whole(context.selection, document.encode() + b"\n")
        chosen = selection.verification
        if chosen is not None:

            def train_first() -> TrainingResult:
                if chosen.number in first_seeds:
                    return first_seeds[chosen.number]
                seed = chosen.seeds[0].seed
                result: TrainingResult = executor.submit(
                    final_training, chosen.candidate, seed
                ).result()
                return result

            _write_model(context, chosen, train_first)
        _annotate(context, study, records, selection)
    return selection


def known_selection(context: StudyContext) -> Selection:
    """The selection as far as it was verified; trains nothing.

    Raises:
        StudyError: if there is no such study, or its database cannot be read.
    """
    with database_errors(context.database):
        study = context.open(create=False)
        rule = replace(context.settings.rule, **read_rule(study))
        records = read_database(context.database, context.plan.space)

        def recall_race(network: CandidateSummary, _position: int) -> Race:
            return read_race(study, network)

        def recall(network: CandidateSummary) -> Verification:
            return read_verification(study, network, rule.bar)

        return select_smallest(records, rule, recall_race, recall)


def _write_model(
    context: StudyContext, verification: Verification, train_first: Callable[[], TrainingResult]
) -> None:
    """Writes the weights of the verification's first seed, unless they lie there already."""
    image, n_classes = context.source.describe()
    candidate, seed = verification.candidate, verification.seeds[0]
    metadata = {
        "genome": str(candidate.genome),
        "image": str(image),
        "n_classes": str(n_classes),
        "n_params": str(verification.n_params),
        "data": context.source.identity(),
        "pixels": str(load_train_val(context.source).train.images.dtype),
        "lr": repr(candidate.lr),
        "lr_decay": repr(candidate.lr_decay),
        "epochs": str(context.settings.training.epochs),
        "batch_size": str(context.settings.training.batch_size),
        "seed": str(seed.seed),
        "test_accuracy": repr(seed.test_accuracy),
        "nasopt": __version__,
    }
    if context.weights.exists() and read_metadata(context.weights) == metadata:
        return
    result = train_first()
    model = build_model(candidate.genome, image, n_classes, result.weights)
    save_weights(model, context.weights, metadata)


def _annotate(
    context: StudyContext,
    study: optuna.Study,
    records: Sequence[TrialRecord],
    selection: Selection,
) -> None:
    """Writes what optuna-dashboard shows of the study; the caller drives it."""
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
