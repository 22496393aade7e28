"""The commands on a search: search, status, front."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from nasopt.cli.options import (
    DEFAULT_STUDY,
    INTERRUPTED,
    NOTHING_FOUND,
    AsJson,
    Data,
    Database,
    Quiet,
    Ray,
    Study,
    Workers,
    err,
    out,
    print_json,
)
from nasopt.errors import SettingsError

if TYPE_CHECKING:
    from nasopt.workflow import StudyContext


def search(
    study: Study = DEFAULT_STUDY,
    *,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Search time of the whole study: 90s, 15m, 2h. The study file's if neither this nor --trials is given."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of the whole study, duplicates included.")
    ] = None,
    workers: Workers = None,
    ray: Ray = None,
    database: Database = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search, or continue a search. Ctrl-C ends it after the running trials."""
    from nasopt import workflow
    from nasopt.display import SearchDisplay, describe_end, describe_progress
    from nasopt.search.driver import Limits
    from nasopt.settings import parse_duration
    from nasopt.training.engines import why_slow

    context = workflow.open_context(study, database=database, data=data)
    slow = why_slow(context.settings.training.engine)
    if slow and not (quiet or as_json):
        err.print(f"note: {slow}", highlight=False)
    chosen = context.settings.search
    try:
        seconds = None if budget is None else parse_duration(budget)
    except ValueError as error:
        raise SettingsError(f"--budget: {error}") from error
    # What is asked for is not cut short by the limits of the study file.
    asked = Limits(seconds, trials)
    limits = asked if asked != Limits() else Limits(chosen.budget, chosen.max_trials)
    with _stop_on_signal() as stop, SearchDisplay(err, limits, quiet=quiet or as_json) as display:
        outcome = workflow.run_search(
            context, limits, workflow.Pool(workers, ray), stop, display.update
        )
    if as_json:
        print_json(
            _study_json(context) | {"stopped_by": outcome.cause} | outcome.progress.to_json()
        )
    else:
        out.print(describe_progress(outcome.progress), highlight=False)
        ended = describe_end(outcome.cause, limits, outcome.progress.n_trials)
        out.print(ended, highlight=False)
    if outcome.cause == "interrupted":
        raise typer.Exit(INTERRUPTED)


def status(
    study: Study = DEFAULT_STUDY,
    *,
    database: Database = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show where a study stands, also while it runs."""
    from nasopt import workflow
    from nasopt.display import describe_progress
    from nasopt.search.progress import summarize

    context = workflow.open_context(study, database=database, data=data)
    progress = summarize(context.records(), context.plan.bar)
    if as_json:
        print_json(_study_json(context) | progress.to_json())
    else:
        out.print(
            f"{context.settings.name}: {describe_progress(progress)}\n{context.database}",
            highlight=False,
        )


def front(
    study: Study = DEFAULT_STUDY,
    *,
    database: Database = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Print the Pareto front of a study."""
    from nasopt import workflow
    from nasopt.candidates import pareto_front
    from nasopt.tables import front_table

    context = workflow.open_context(study, database=database, data=data)
    networks = pareto_front(context.records())
    if as_json:
        print_json([network.to_json() for network in networks])
    else:
        out.print(front_table(networks, context.plan.bar))
    if not any(network.val_accuracy > context.plan.bar for network in networks):
        raise typer.Exit(NOTHING_FOUND)


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second ends the command at once."""
    stop = threading.Event()

    def handle(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError, SystemExit):  # of a pipe that the same Ctrl-C has closed
            err.print(
                "stopping after the running trials; once more to stop now (they run again next time)"
            )

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _study_json(context: "StudyContext") -> dict[str, str]:
    return {
        "study": context.settings.name,
        "database": str(context.database),
        "storage": context.storage_url,
    }
