"""What the commands do: the modules below put together for one study file."""

import json
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import optuna

from nasopt import __version__
from nasopt.data import FASHION_MNIST, DataSource, load_train_val
from nasopt.evaluation import TrainingEvaluator
from nasopt.executors import make_executor
from nasopt.files import write_whole
from nasopt.inspection import inspect_chosen
from nasopt.model import build_model, read_metadata, save_weights
from nasopt.records import CandidateSummary, Race, TrialRecord, Verification
from nasopt.report import (
    ReportInput,
    StudyView,
    dashboard_figures,
    export_figures,
    paper_figures,
    write_report,
)
from nasopt.search.dashboard import Annotation, annotate_study
from nasopt.search.driver import Limits, SearchDriver, StopCause
from nasopt.search.importance import accuracy_importances
from nasopt.search.plan import SearchPlan
from nasopt.search.progress import Progress
from nasopt.search.storage import database_errors, driver_lock, silence_optuna, storage_url
from nasopt.search.study import (
    open_study,
    read_database,
    read_race,
    read_rule,
    read_verification,
    working_copy,
    write_race,
    write_rule,
    write_verification,
)
from nasopt.selection import Selection, SelectionRule, select_smallest
from nasopt.settings import WEIGHTS_NAME, StudyFile, read_study_file, run_folder
from nasopt.training import TrainingResult
from nasopt.training.engines import choose_engine
from nasopt.verification import FinalTraining, run_race, verify


@dataclass(frozen=True, slots=True)
class StudyContext:
    """A study file, what it means on its data, and where its results go."""

    study_file: Path
    settings: StudyFile
    source: DataSource
    plan: SearchPlan
    database: Path

    @property
    def folder(self) -> Path:
        """The folder of the database; weights and report lie there too."""
        return self.database.parent

    @property
    def storage_url(self) -> str:
        """The database as Optuna and its dashboard name it."""
        return storage_url(self.database)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def weights(self) -> Path:
        """The weights of the chosen network."""
        return self.folder / WEIGHTS_NAME

    @property
    def selection(self) -> Path:
        """The numbers of the chosen network."""
        return self.folder / "selection.json"

    def records(self) -> list[TrialRecord]:
        """All trials so far.

        Raises:
            StudyError: if there is no such study, or its database cannot be read.
        """
        self.open(create=False)  # refuses what is not this study
        with database_errors(self.database):
            return read_database(self.database, self.plan.space)

    def open(self, *, create: bool) -> optuna.Study:
        """The Optuna study."""
        silence_optuna()
        return open_study(self.plan, self.database, create=create)


def open_context(
    study_file: Path, *, database: Path | None = None, data: str | None = None
) -> StudyContext:
    """The study of ``study_file``.

    Args:
        study_file: its TOML file.
        database: another place for the SQLite file than ``runs/<name>/study.db`` beside the study file.
        data: another data source than the study file's.

    Raises:
        SettingsError: if the study file is wrong.
        DataError: if the data source is.
    """
    settings = read_study_file(study_file)
    text = data or settings.data
    if data is None and text != FASHION_MNIST:
        text = str(study_file.parent / text)  # relative to the study file
    source = DataSource.parse(text)
    database = database or run_folder(study_file, settings) / "study.db"
    return StudyContext(study_file, settings, source, settings.plan(source), database)


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """Why a search ended, and where it stands."""

    cause: StopCause
    progress: Progress


def run_search(
    context: StudyContext,
    limits: Limits,
    n_workers: int,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> SearchOutcome:
    """Starts or continues the search of a study, until a limit is reached or ``stop`` is set.

    Raises:
        StudyError: if the database cannot be used, or another process drives the study.
        SearchStoppedError: if ten trials in a row failed.
    """
    engine = context.settings.training.engine
    load_train_val(
        context.source
    )  # once here, so that a problem is reported before any worker starts
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, engine)
    with (
        _driving(context) as stored,
        working_copy(stored, context.database) as study,
        workers(engine, n_workers) as executor,
    ):
        driver = SearchDriver(study, context.plan, evaluator, executor, n_workers, on_progress)
        on_progress(driver.progress)
        cause = driver.run(limits, stop)
        return SearchOutcome(cause, driver.progress)


def run_selection(
    context: StudyContext,
    rule: SelectionRule,
    n_workers: int,
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
    with _driving(context) as study, workers(engine, n_workers) as executor:

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


def make_report(context: StudyContext, *, figures: bool = False) -> Path:
    """Writes the study's HTML report; the path where it lies.

    Args:
        context: the study.
        figures: whether to draw its figures as PNG and SVG too, into ``figures/`` beside it.

    Raises:
        StudyError: if there is no such study, or its database cannot be read.
        DataError: if the data or the weights cannot be read.
        OutputError: if the report cannot be written, or the figures cannot be drawn on this machine.
    """
    data = report_input(context)
    write_report(context.report, data)
    if figures:
        export_figures(context.folder / "figures", paper_figures(data))
    return context.report


def report_input(context: StudyContext) -> ReportInput:
    """What the report of a study tells, as plain data; trains nothing."""
    image, n_classes = context.source.describe()
    settings = context.settings
    records, selection = context.records(), known_selection(context)
    n_trials = max((record.number + 1 for record in records), default=0)
    return ReportInput(
        settings.name,
        records,
        selection,
        image,
        n_classes,
        facts={
            "database": str(context.database),
            "data": f"{context.source} ({context.source.identity()})",
            "seed": f"{settings.seed}; those of trainings are derived from it, the genome and a count",
            "recipe": f"{settings.training.epochs} epochs, batches of {settings.training.batch_size}, AdamW",
            "engine": choose_engine(settings.training.engine).name,
            "sampler": settings.search.sampler,
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": f"{platform.platform()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "versions": ", ".join(
                f"{name} {version(name)}" for name in ("nasopt", "torch", "optuna", "numpy")
            ),
        },
        command=f"nasopt search {context.study_file} --trials {n_trials}\nnasopt verify {context.study_file}",
        study_file=context.study_file.read_text(encoding="utf-8"),
        inspection=inspect_chosen(context.weights, context.source, selection.verification),
        importances=accuracy_importances(context.database),
    )


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


@contextmanager
def _driving(context: StudyContext) -> Iterator[optuna.Study]:
    """The open study, locked against other drivers, with database errors made clear."""
    study = context.open(create=True)
    with driver_lock(context.database), database_errors(context.database):
        yield study


@contextmanager
def workers(engine: str, n_workers: int) -> Iterator[Executor]:
    """The workers for an engine; ended at once if the block is left by an error or a second Ctrl-C."""
    executor = make_executor(n_workers, in_threads=choose_engine(engine).releases_gil)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown(wait=True)
