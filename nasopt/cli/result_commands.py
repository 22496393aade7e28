"""The commands on what a search found: verify, floor, report, dashboard."""

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasopt.cli.options import (
    DEFAULT_STUDY,
    NOTHING_FOUND,
    AsJson,
    Data,
    Database,
    Quiet,
    Ray,
    Study,
    Workers,
    check_bar,
    err,
    out,
    print_json,
)

if TYPE_CHECKING:
    from nasopt.records import Race
    from nasopt.workflow import StudyContext


def verify(
    study: Study = DEFAULT_STUDY,
    *,
    bar: Annotated[
        float | None, typer.Option(callback=check_bar, help="Another bar than the study's.")
    ] = None,
    rule: Annotated[str, typer.Option(help="smallest, knee or best-under.")] = "smallest",
    under: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The most parameters of a network; with any rule, required for best-under.",
        ),
    ] = None,
    trial: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Only the network of this trial, whatever its accuracy in the search; may be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    ray: Ray = None,
    database: Database = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Choose the smallest network above the bar: raced over seeds, verified on test, and written out."""
    from nasopt import workflow
    from nasopt.selection import adapt_rule
    from nasopt.tables import describe_race, describe_verification, selection_lines

    context = workflow.open_context(study, database=database, data=data)
    chosen_rule = adapt_rule(context.settings.rule, rule, under, bar, trial or ())

    def show(text: str) -> None:
        if not (quiet or as_json):
            err.print(text, highlight=False)

    def show_race(race: "Race", position: int) -> None:
        race_rule = chosen_rule.race(position)
        if len(race.accuracies) in race_rule.rounds:
            show(describe_race(race, race_rule.bar, race_rule.judge(race.accuracies)))

    selection = workflow.run_selection(
        context,
        chosen_rule,
        workflow.Pool(workers, ray),
        show_race,
        lambda verification: show(describe_verification(verification, chosen_rule.n_seeds)),
    )
    workflow.make_report(context)
    if as_json:
        print_json(selection.to_json() | {"files": _files(context)})
    else:
        for line in selection_lines(selection):
            out.print(line, highlight=False)
        for name, path in _files(context).items():
            out.print(f"{name:<11} {path}", highlight=False)
        out.print(f"dashboard   {_dashboard_command(context)}", highlight=False)
    if selection.chosen is None:
        raise typer.Exit(NOTHING_FOUND)


def floor(
    study: Study = DEFAULT_STUDY,
    *,
    below: Annotated[int, typer.Option(min=1, help="Enumerate what has fewer parameters.")],
    depth: Annotated[int, typer.Option(min=2, help="The most convolutions.")] = 3,
    activation: Annotated[
        list[str] | None,
        typer.Option(
            help="One that all layers have, or tanh/gelu for convolutions and final layers, or tanh/swish/gelu where "
            "the convolutions change from one to the other; may be repeated. If not given, each that the study has for all layers."
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="The learning rate; if not given, that of the floor so far, or of the smallest network above the bar."
        ),
    ] = None,
    lr_decay: Annotated[
        float | None,
        typer.Option(
            help="Its decay; if not given, that of the floor so far, or of the smallest network above the bar."
        ),
    ] = None,
    trainings: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train at most so many genomes now; races come when none is left to train.",
        ),
    ] = None,
    workers: Workers = None,
    ray: Ray = None,
    database: Database = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train all networks below a size, within limits that are printed, and race those that come near the bar."""
    from nasopt import workflow
    from nasopt.floor import describe_floor

    context = workflow.open_context(study, database=database, data=data)
    names = tuple(activation) if activation else None
    limits = workflow.floor_limits(context, below, depth, names, (lr, lr_decay))

    def show(n_trained: int, n_genomes: int) -> None:
        if n_trained % 50 == 0 and not (quiet or as_json):
            err.print(f"{n_trained:,} of {n_genomes:,} genomes trained", highlight=False)

    done = workflow.run_floor(context, limits, workflow.Pool(workers, ray), trainings, show)
    if as_json:
        print_json(done.to_json())
    else:
        for line in describe_floor(done):
            out.print(line, highlight=False)
    if not done.passed:
        raise typer.Exit(NOTHING_FOUND)


def report(
    study: Study = DEFAULT_STUDY,
    *,
    database: Database = None,
    data: Data = None,
    figures: Annotated[
        bool,
        typer.Option(
            "--figures",
            help="Draw its figures as PNG and SVG too, into figures/ beside the report.",
        ),
    ] = False,
    baselines: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON", help="Other searches, as `make bench-real` writes, to draw beside it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report, one HTML file."""
    from nasopt import workflow

    context = workflow.open_context(study, database=database, data=data)
    path = workflow.make_report(context, figures=figures, baselines=baselines)
    if as_json:
        print_json({"report": str(path)})
    else:
        out.print(str(path), highlight=False)


def dashboard(
    study: Study = DEFAULT_STUDY,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8080,
    database: Database = None,
    data: Data = None,
) -> None:
    """Show a study in optuna-dashboard, with its networks drawn, until Ctrl-C."""
    from nasopt import workflow
    from nasopt.search.viewer import make_dashboard

    context = workflow.open_context(study, database=database, data=data)
    context.open(create=False)  # refuses what is not this study
    with make_dashboard(context.database, host, port) as server:
        out.print(f"http://{host}:{port}/dashboard  (Ctrl-C ends it)", highlight=False)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _files(context: "StudyContext") -> dict[str, str]:
    files = {
        "database": context.database,
        "report": context.report,
        "selection": context.selection,
        "weights": context.weights,
    }
    return {name: str(path) for name, path in files.items() if path.exists()}


def _dashboard_command(context: "StudyContext") -> str:
    program = "nasopt"
    if shutil.which(program) is None:  # it lies in an environment that is not active
        program = os.path.relpath(Path(sys.executable).with_name(program))
    return shlex.join([program, "dashboard", *context.words])
