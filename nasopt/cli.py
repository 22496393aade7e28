"""The command line: parse, call, print. Slow imports wait for the command that needs them."""

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nasopt import __version__
from nasopt.errors import NasoptError, SettingsError
from nasopt.genome import Genome, ImageShape

if TYPE_CHECKING:
    from nasopt.records import Verification
    from nasopt.workflow import StudyContext

NOTHING_FOUND, BAD_INPUT, INTERRUPTED = 1, 2, 130
DEFAULT_STUDY = Path("studies/fashion-mnist.toml")

app = typer.Typer(
    name="nasopt",
    help="Finds the smallest convolutional network that still clears an accuracy bar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, soft_wrap=True)

Study = Annotated[Path, typer.Argument(help="The study's TOML file.")]
GenomeText = Annotated[
    str, typer.Argument(metavar="GENOME", help="For example 'RC 4 3 relu;RC 8 3 relu;FL swish'.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Database = Annotated[
    Path | None,
    typer.Option(help="The SQLite file, instead of runs/<name>/study.db beside the study file."),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE", help="'fashion-mnist', a folder with its files, or an .npz file."
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="How many trainings run at once; the cores if not given.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


@app.callback(invoke_without_command=True)
def _nasopt(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # noqa: ARG001 - main reads it
    show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if show_version:
        out.print(f"nasopt {__version__}", highlight=False)
        raise typer.Exit


@app.command()
def search(
    study: Study = DEFAULT_STUDY,
    *,
    budget: Annotated[
        str | None, typer.Option(help="Search time of the whole study: 90s, 15m, 2h.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of the whole study, duplicates included.")
    ] = None,
    workers: Workers = None,
    database: Database = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search, or continue a search. Ctrl-C ends it after the running trials."""
    from nasopt import workflow
    from nasopt.display import SearchDisplay, describe_end, describe_progress
    from nasopt.search.driver import Limits
    from nasopt.settings import default_workers, parse_duration

    context = workflow.open_context(study, database=database, data=data)
    chosen = context.settings.search
    try:
        seconds = parse_duration(budget) if budget else chosen.budget
    except ValueError as error:
        raise SettingsError(f"--budget: {error}") from error
    limits = Limits(seconds, trials or chosen.max_trials)
    with _stop_on_signal() as stop, SearchDisplay(err, limits, quiet=quiet or as_json) as display:
        outcome = workflow.run_search(
            context, limits, workers or default_workers(), stop, display.update
        )
    if as_json:
        _print_json(
            _study_json(context) | {"stopped_by": outcome.cause} | outcome.progress.to_json()
        )
    else:
        out.print(describe_progress(outcome.progress), highlight=False)
        out.print(describe_end(outcome.cause, limits), highlight=False)
    if outcome.cause == "interrupted":
        raise typer.Exit(INTERRUPTED)


@app.command()
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
    from nasopt.search.driver import summarize

    context = workflow.open_context(study, database=database, data=data)
    progress = summarize(context.records(), context.plan.bar)
    if as_json:
        _print_json(_study_json(context) | progress.to_json())
    else:
        out.print(
            f"{context.settings.name}: {describe_progress(progress)}\n{context.database}",
            highlight=False,
        )


@app.command()
def front(
    study: Study = DEFAULT_STUDY,
    *,
    database: Database = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Print the Pareto front of a study."""
    from nasopt import workflow
    from nasopt.records import pareto_front
    from nasopt.tables import front_table

    context = workflow.open_context(study, database=database, data=data)
    records = pareto_front(context.records())
    if as_json:
        _print_json([record.to_json() for record in records])
    else:
        out.print(front_table(records, context.plan.bar))
    if not any(record.val_accuracy >= context.plan.bar for record in records):
        raise typer.Exit(NOTHING_FOUND)


@app.command()
def select(
    study: Study = DEFAULT_STUDY,
    *,
    workers: Workers = None,
    database: Database = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Choose the smallest network above the bar, verify it over seeds, and write it out."""
    from nasopt import workflow
    from nasopt.settings import default_workers
    from nasopt.tables import describe_verification, selection_lines

    context = workflow.open_context(study, database=database, data=data)
    n_seeds = context.settings.rule.n_seeds

    def show(verification: "Verification") -> None:
        if not (quiet or as_json):
            err.print(describe_verification(verification, n_seeds), highlight=False)

    selection = workflow.run_selection(context, workers or default_workers(), show)
    workflow.make_report(context)
    if as_json:
        _print_json(selection.to_json() | {"files": _files(context)})
    else:
        for line in selection_lines(selection):
            out.print(line, highlight=False, markup=False)
        for name, path in _files(context).items():
            out.print(f"{name:<11} {path}", highlight=False)
        out.print(f"dashboard   {_dashboard_command(context)}", highlight=False)
    if selection.chosen is None:
        raise typer.Exit(NOTHING_FOUND)


@app.command()
def train(
    genome: GenomeText,
    *,
    lr: Annotated[float, typer.Option(help="Learning rate at the first step.")] = 2e-3,
    lr_decay: Annotated[float, typer.Option(help="Its factor over ten epochs.")] = 0.05,
    epochs: Annotated[int, typer.Option(help="Epochs, unless stopped early.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted up from --seed.")] = 1,
    bar: Annotated[float, typer.Option(min=0, max=1, help="The accuracy to clear.")] = 0.75,
    data: Data = None,
    engine: Annotated[str, typer.Option(help="auto, or the name of an engine.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Train a genome by the reference recipe, with early stopping on the test loss."""
    from nasopt.data import FASHION_MNIST, DataSource
    from nasopt.reference import summarize_seeds, train_reference
    from nasopt.training import EpochResult, Recipe

    parsed = Genome.parse(genome)
    recipe = Recipe(lr=lr, lr_decay=lr_decay, epochs=epochs)
    source = DataSource.parse(data or FASHION_MNIST)

    def show(result: EpochResult) -> None:
        if not as_json:
            out.print(
                f"epoch {result.epoch:>3}  train loss {result.train_loss:.4f}  train accuracy {result.train_accuracy:.2%}  "
                f"test loss {result.loss:.4f}  test accuracy {result.accuracy:.2%}",
                highlight=False,
            )

    results = []
    for number in range(seed, seed + seeds):
        if not as_json:
            out.print(f"seed {number}: {parsed}", highlight=False)
        result = train_reference(parsed, recipe, number, source, engine=engine, on_epoch=show)
        results.append((number, result))
        if not as_json:
            out.print(
                f"best epoch {result.best.epoch}: test accuracy {result.best.accuracy:.2%}, train accuracy {result.best.train_accuracy:.2%}; "
                f"last epoch {result.last.epoch}: test accuracy {result.last.accuracy:.2%}; {result.n_params:,} parameters"
                + ("; dead: one class for every image" if result.dead else ""),
                highlight=False,
            )
    summary = summarize_seeds(results, bar)
    if as_json:
        _print_json(summary)
    elif seeds > 1:
        out.print(
            f"{seeds} seeds, last epoch: mean {summary['test_accuracy_mean']:.2%}, standard deviation {summary['test_accuracy_sd']:.2%}, "
            f"{summary['pass_rate']:.0%} above {bar:.1%}; best epoch: mean {summary['best_test_accuracy_mean']:.2%}, "
            f"{summary['best_pass_rate']:.0%} above",
            highlight=False,
        )


@app.command()
def describe(
    genome: GenomeText,
    *,
    image: Annotated[str, typer.Option(help="Channels x height x width.")] = "1x28x28",
    classes: Annotated[int, typer.Option(min=2, help="The number of classes.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Print the layer table of a genome: shapes, parameters, MACs."""
    from nasopt.cost import count_cost

    parsed, shape = Genome.parse(genome), ImageShape.parse(image)
    cost = count_cost(parsed, shape, classes)
    if as_json:
        layers = [
            {
                "name": row.name,
                "output": list(row.output),
                "n_params": row.n_params,
                "macs": row.macs,
            }
            for row in cost.layers
        ]
        _print_json(
            {
                "genome": str(parsed),
                "n_params": cost.n_params,
                "macs": cost.macs,
                "peak_bytes": cost.peak_bytes,
                "layers": layers,
            }
        )
    else:
        from nasopt.tables import cost_table

        out.print(cost_table(parsed, cost, shape))
        out.print(
            f"peak activation memory, one image, float32: {cost.peak_bytes:,} bytes",
            highlight=False,
        )


@app.command()
def report(
    study: Study = DEFAULT_STUDY,
    *,
    database: Database = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report, one HTML file."""
    from nasopt import workflow

    path = workflow.make_report(workflow.open_context(study, database=database, data=data))
    if as_json:
        _print_json({"report": str(path)})
    else:
        out.print(str(path), highlight=False)


@app.command()
def data(
    source: Annotated[
        str, typer.Argument(help="'fashion-mnist', a folder with its files, or an .npz file.")
    ] = "fashion-mnist",
    *,
    as_json: AsJson = False,
) -> None:
    """Find, fetch and check a data set."""
    from nasopt.data import DataSource, load_test, load_train_val

    parsed = DataSource.parse(source)
    train_val, test = load_train_val(parsed), load_test(parsed)
    numbers = {
        "source": str(parsed),
        "image": str(train_val.shape),
        "n_classes": train_val.n_classes,
        "n_train": len(train_val.train),
        "n_val": len(train_val.val),
        "n_test": len(test.split),
    }
    if as_json:
        _print_json(numbers)
    else:
        out.print(
            f"{numbers['source']}: {numbers['n_train']:,} training, {numbers['n_val']:,} validation and {numbers['n_test']:,} test images of "
            f"{numbers['image']}, {numbers['n_classes']} classes",
            highlight=False,
        )


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check that this machine has what nasopt needs, and say what to do if not."""
    from nasopt.doctor import examine

    checks = examine()
    if as_json:
        _print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            out.print(
                f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {check.finding}",
                highlight=False,
                markup=False,
            )
    if not all(check.ok for check in checks):
        raise typer.Exit(BAD_INPUT)


def main() -> None:
    """Runs the command line and exits with its code."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]  # it may stand anywhere
    try:
        code = app(arguments, standalone_mode=False)
    except NasoptError as error:
        code = _fail(error, str(error), debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted; nothing completed is lost, run the same command to go on")
        code = INTERRUPTED
    except Exception as error:
        # Typer's errors of usage are click's, or those of the copy of click in newer versions.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            code = BAD_INPUT
        else:
            message = f"a bug in nasopt: {error!r}; run again with --debug and report it"
            code = _fail(error, message, debug=debug)
    sys.exit(code)


def _fail(error: Exception, message: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    err.print(f"error: {message}", markup=False, highlight=False)
    return BAD_INPUT


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second ends the command at once."""
    stop = threading.Event()

    def handle(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        err.print(
            "stopping after the running trials; once more to stop now (they run again next time)"
        )

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))  # noqa: T201 - not through rich, which would wrap lines


def _files(context: "StudyContext") -> dict[str, str]:
    files = {
        "database": context.database,
        "report": context.report,
        "selection": context.selection,
        "weights": context.weights,
    }
    return {name: str(path) for name, path in files.items() if path.exists()}


def _study_json(context: "StudyContext") -> dict[str, str]:
    return {
        "study": context.settings.name,
        "database": str(context.database),
        "storage": context.storage_url,
    }


def _dashboard_command(context: "StudyContext") -> str:
    program = "optuna-dashboard"
    if (
        shutil.which(program) is None
    ):  # installed beside nasopt, in an environment that is not active
        program = os.path.relpath(Path(sys.executable).with_name(program))
    return f"{program} {context.storage_url}"
