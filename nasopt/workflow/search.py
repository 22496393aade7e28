"""Searching: the driver on a study of its own, with workers that train."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from nasopt.data import load_train_val
from nasopt.evaluation import TrainingEvaluator
from nasopt.search.driver import Limits, SearchDriver, StopCause
from nasopt.search.progress import Progress
from nasopt.search.study import read_database, working_copy, write_environment
from nasopt.workflow.annotation import annotate, recall_selection
from nasopt.workflow.context import Pool, StudyContext, driving, workers
from nasopt.workflow.environment import describe_environment


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """Why a search ended, and where it stands."""

    cause: StopCause
    progress: Progress


def run_search(
    context: StudyContext,
    limits: Limits,
    pool: Pool,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> SearchOutcome:
    """Starts or continues the search of a study, until a limit is reached or ``stop`` is set.

    Then the study is given what the dashboard shows beside its trials.

    Raises:
        StudyError: if the database cannot be used, or another process drives the study.
        DataError: if the data cannot be read.
        EngineError: if the engine cannot be used.
        SearchStoppedError: if ten trials in a row failed.
    """
    engine = context.engine
    load_train_val(context.source)  # so that a problem is reported before any worker starts
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, engine)
    with driving(context) as stored:
        write_environment(stored, {"task": "search"} | describe_environment(engine))
        with (
            working_copy(stored, context.database) as study,
            workers(engine, pool) as (executor, n_workers),
        ):
            driver = SearchDriver(study, context.plan, evaluator, executor, n_workers, on_progress)
            on_progress(driver.progress)
            cause = driver.run(limits, stop)
        records = read_database(context.database, context.plan.space)
        annotate(context, stored, records, recall_selection(context, stored, records))
    return SearchOutcome(cause, driver.progress)
