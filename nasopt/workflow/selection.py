"""Choosing: races, verification on test, and what is written of the choice."""

import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

from nasopt import __version__
from nasopt.candidates import CandidateSummary
from nasopt.data import load_test, load_train_val
from nasopt.errors import DataError, EngineError
from nasopt.evaluation import TrainingEvaluator
from nasopt.files import write_whole
from nasopt.model import build_model, read_metadata, save_weights
from nasopt.records import Evaluator, Race, SeedResult, Verification
from nasopt.search.study import (
    Study,
    read_database,
    read_race,
    read_verification,
    write_environment,
    write_race,
    write_rule,
    write_verification,
)
from nasopt.selection import Selection, SelectionRule, check_trials, select_network
from nasopt.training import TrainingResult
from nasopt.verification import FinalTraining, run_race, verify
from nasopt.workflow.annotation import annotate
from nasopt.workflow.context import Pool, StudyContext, driving, workers
from nasopt.workflow.environment import describe_environment


def run_selection(
    context: StudyContext,
    rule: SelectionRule,
    pool: Pool,
    on_race: Callable[[Race, int], None],
    on_seed: Callable[[Verification], None],
) -> Selection:
    """Chooses the network of a study by racing, verifies it on test, and writes weights and numbers.

    What was verified in an earlier run is not trained again. The study remembers by which rule it was chosen.
    Weights of an earlier choice are put aside where nothing is chosen.

    Raises:
        StudyError: if there is no such study, its database cannot be used, or another process drives it.
        DataError: if the data cannot be read.
        OutputError: if the weights or the numbers cannot be written.
        EngineError: if the weights of an earlier verification are lost, and this machine trains others.
        SettingsError: if the rule names a trial whose network cannot be raced.
    """
    # So that a missing study, or data that cannot be read, are reported before anything is written.
    context.open(create=False)
    load_train_val(context.source)
    engine = context.engine
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, engine)
    final_training = FinalTraining(context.source, context.settings.recipe, engine)
    with driving(context) as study, workers(engine, pool) as (executor, _):
        records = read_database(context.database, context.plan.space)
        check_trials(records, rule)
        write_environment(study, {"task": "verification"} | describe_environment(engine))
        walk = _Walk(context, study, rule, evaluator, final_training, executor, on_race, on_seed)
        write_rule(study, rule.asked)
        selection = select_network(records, rule, walk.race, walk.verify)
        # The weights first: whatever ends this between the two, no numbers stand beside another network's weights.
        if selection.verification is not None:
            _write_model(context, selection.verification, walk)
        elif context.weights.exists():
            context.weights.replace(context.weights.with_name(f"earlier-{context.weights.name}"))
        document = json.dumps(selection.to_json(), indent=2)
        write_whole(context.selection, document.encode() + b"\n")
        annotate(context, study, records, selection)
    return selection


@dataclass(frozen=True, slots=True)
class _Walk:
    """The trainings that a walk through the candidates asks for, kept in ``study`` as they end."""

    context: StudyContext
    study: Study
    rule: SelectionRule
    evaluator: Evaluator
    final_training: FinalTraining
    executor: Executor
    on_race: Callable[[Race, int], None]
    on_seed: Callable[[Verification], None]
    _results: dict[tuple[int, int], TrainingResult] = field(default_factory=dict)

    def race(self, network: CandidateSummary, position: int) -> Race:
        def after_seed(race: Race) -> None:
            write_race(self.study, race)
            self.on_race(race, position)

        start, rule = read_race(self.study, network), self.rule.race(position)
        seed = self.context.plan.seed
        return run_race(start, rule, seed, self.evaluator, self.executor, after_seed)

    def verify(self, network: CandidateSummary) -> Verification:
        n_images = len(load_test(self.context.source).split)
        known = read_verification(self.study, network, self.rule.bar)

        def after_seed(
            verification: Verification, replicate: int, result: TrainingResult | None
        ) -> None:
            write_verification(self.study, verification)
            if result is not None:
                self._results[network.number, replicate] = result
            self.on_seed(verification)

        start, seed = replace(known, n_images=n_images), self.context.plan.seed
        return verify(start, self.rule, seed, self.final_training, self.executor, after_seed)

    def train(self, verification: Verification, seed: SeedResult) -> TrainingResult:
        """The training of that seed, done again if it was done by an earlier run.

        Raises:
            EngineError: if it was above the bar then and is not now.
        """
        known = self._results.get((verification.number, seed.replicate))
        if known is not None:
            return known
        result: TrainingResult = self.executor.submit(
            self.final_training, verification.candidate, seed.seed
        ).result()
        if seed.test_accuracy > verification.bar >= result.last.accuracy:
            raise EngineError(
                f"seed {seed.replicate} came to {seed.test_accuracy:.2%} on test when it was verified and to "
                f"{result.last.accuracy:.2%} now: this processor or version rounds differently; run 'nasopt verify' where the study "
                "was verified, or search and verify anew here"
            )
        return result


def _write_model(context: StudyContext, verification: Verification, walk: _Walk) -> None:
    """Writes the weights of the verification's first seed above the bar, unless they lie there already."""
    image, n_classes = context.source.describe()
    candidate, seed = verification.candidate, verification.first_passed
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
    }
    if metadata.items() <= _metadata_there(context.weights).items():
        return
    result = walk.train(verification, seed)
    model = build_model(candidate.genome, image, n_classes, result.weights)
    # Of these very weights: trained on another processor than the verification, they may differ by some images.
    told = {"test_accuracy": repr(result.last.accuracy), "nasopt": __version__}
    save_weights(model, context.weights, metadata | told)


def _metadata_there(weights: Path) -> dict[str, str]:
    """The metadata of a weights file; none where there is no such file, or one that cannot be read."""
    try:
        return read_metadata(weights) if weights.exists() else {}
    except DataError:
        return {}
