"""Trains every network on the front of some studies from many fresh seeds, opens it on test, and publishes the table.

A study is a track: ``fashion-mnist`` tunes the learning rate, ``fashion-mnist-fixed`` leaves it at the
reference defaults. Seeds are those of final trainings, which no search has used, and no network is chosen by them.
What the file holds already is not trained again:

    python studies/make_front.py studies/fashion-mnist.toml studies/fashion-mnist-fixed.toml
"""

import argparse
import json
from concurrent.futures import Future
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from running import run_script

from nasopt.candidates import CandidateSummary, pareto_front
from nasopt.errors import DivergedError
from nasopt.records import Candidate, trial_seed
from nasopt.report import export_figures
from nasopt.report.style import SERIES, add_bar, finish, log_ticks
from nasopt.report.view import mean_interval
from nasopt.training import TrainingResult
from nasopt.verification import FinalTraining
from nasopt.workflow import Pool, StudyContext, open_context
from nasopt.workflow.context import workers

PUBLISHED = Path(__file__).parent / "results" / "fashion-mnist-front.json"
FIGURES = Path(__file__).parents[1] / "docs" / "results"  # where the site shows its figure
MIN_ACCURACY = 0.2  # in the search; below it is a network that guesses

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="study files that were searched")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--min-params", type=int, default=0, help="of what is trained")
    parser.add_argument(
        "--track", help="what the rows are called; the name of the study if not given"
    )
    parser.add_argument("--out", type=Path, default=PUBLISHED)
    args = parser.parse_args()
    if args.track and len(args.studies) > 1:
        parser.error("--track names the rows of one study; give one")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = json.loads(args.out.read_text()) if args.out.exists() else []
    for study in args.studies:
        context = open_context(study)
        track = args.track or context.settings.name
        front = [
            n
            for n in pareto_front(context.records())
            if n.val_accuracy >= MIN_ACCURACY and n.n_params >= args.min_params
        ]
        wanted = {key(network.candidate) for network in front}
        # What has left the front since, or was trained from fewer seeds, makes room.
        rows = [
            row
            for row in rows
            if row["track"] != track
            or (row_key(row) in wanted and len(row["seeds"]) >= args.seeds)
        ]
        known = {row_key(row) for row in rows if row["track"] == track}
        write(args.out, rows)
        for network in front:
            if key(network.candidate) not in known:
                rows.append({"track": track} | measure(context, network, args.seeds))
                write(args.out, rows)
    for row in sorted(rows, key=lambda row: (row["track"], row["n_params"])):
        print(line(row))
    export_figures(figure_folder(args.out), {args.out.stem: draw(rows)})


def write(path: Path, rows: list[Row]) -> None:
    """Writes the file."""
    path.write_text(json.dumps(rows, indent=1) + "\n")


def figure_folder(out: Path) -> Path:
    """Where the figure of the file ``out`` goes: beside it, or into the site if it is the published one."""
    return FIGURES if out.resolve() == PUBLISHED.resolve() else out.parent


def key(candidate: Candidate) -> tuple[str, float, float]:
    """What makes two rows the same."""
    return str(candidate.genome), candidate.lr, candidate.lr_decay


def row_key(row: Row) -> tuple[str, float, float]:
    """The same of a row."""
    return row["genome"], row["lr"], row["lr_decay"]


def measure(context: StudyContext, network: CandidateSummary, n_seeds: int) -> Row:
    """The row of one network."""
    candidate, settings = network.candidate, context.settings
    training = FinalTraining(context.source, settings.recipe, settings.training.engine)
    with workers(settings.training.engine, Pool()) as (executor, _):
        seeds = [
            trial_seed(context.plan.seed, candidate.genome, i, "final")
            for i in range(1, n_seeds + 1)
        ]
        futures = [executor.submit(training, candidate, seed) for seed in seeds]
        accuracies = [accuracy_of(future) for future in futures]
    genome, lr, lr_decay = key(candidate)
    return {
        "study_seed": context.plan.seed,
        "bar": settings.bar,
        "genome": genome,
        "n_params": network.n_params,
        "lr": lr,
        "lr_decay": lr_decay,
        "val_accuracy": round(network.val_accuracy, 4),
        "seeds": seeds,
        "test_accuracies": accuracies,
    }


def accuracy_of(future: Future[TrainingResult]) -> float:
    """The test accuracy at the last epoch, 0 where the training diverged."""
    try:
        return future.result().last.accuracy
    except DivergedError:
        return 0.0


def line(row: Row) -> str:
    """A row of the Markdown table."""
    accuracies = row["test_accuracies"]
    low, high = mean_interval(accuracies)
    return (
        f"| {row['n_params']:,} | {np.mean(accuracies):.2%} ({low:.2%} to {high:.2%}) | {min(accuracies):.2%} | "
        f"`{row['genome']}` | {row['lr']:.4g} | {row['lr_decay']:.3g} |"
    )


def draw(rows: list[Row]) -> go.Figure:
    """Mean test accuracy with its 95 % interval against parameters, a colour a track, and the bars of the studies."""
    figure = go.Figure()
    for track, color in zip(sorted({row["track"] for row in rows}), cycle(SERIES), strict=False):
        own = sorted((r for r in rows if r["track"] == track), key=lambda r: r["n_params"])
        means = [100 * float(np.mean(r["test_accuracies"])) for r in own]
        bounds = [mean_interval(r["test_accuracies"]) for r in own]
        figure.add_scatter(
            x=[r["n_params"] for r in own],
            y=means,
            error_y={
                "array": [100 * high - m for (_, high), m in zip(bounds, means, strict=True)],
                "arrayminus": [m - 100 * low for (low, _), m in zip(bounds, means, strict=True)],
            },
            mode="markers",
            marker={"color": color, "size": 7},
            name=track,
        )
    for bar in sorted({row["bar"] for row in rows}):
        add_bar(figure, bar)
    sizes = [r["n_params"] for r in rows]
    figure.update_xaxes(title="parameters", **log_ticks(min(sizes), max(sizes)))
    figure.update_yaxes(title="test accuracy (%), mean over seeds")
    return finish(figure)


if __name__ == "__main__":
    run_script(main)
