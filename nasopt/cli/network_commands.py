"""The commands on one network or on the machine: train, describe, data, doctor."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated

import typer

from nasopt.cli.options import (
    BAD_INPUT,
    AsJson,
    GenomeText,
    check_bar,
    err,
    out,
    print_json,
)
from nasopt.errors import TrainingError
from nasopt.genome import Genome, ImageShape
from nasopt.wording import format_share


def train(
    genome: GenomeText,
    *,
    lr: Annotated[float, typer.Option(help="Learning rate at the first step.")] = 2e-3,
    lr_decay: Annotated[float, typer.Option(help="Its factor over ten epochs.")] = 0.05,
    epochs: Annotated[int, typer.Option(help="Epochs, unless stopped early.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted up from --seed.")] = 1,
    bar: Annotated[
        float,
        typer.Option(
            callback=check_bar,
            help="The accuracy to clear; only for the summary of several seeds.",
        ),
    ] = 0.75,
    all_epochs: Annotated[
        bool,
        typer.Option(
            "--all-epochs",
            help="Train all epochs, as races and verifications do; without it the test loss may end a training early.",
        ),
    ] = False,
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="'fashion-mnist', a folder with its files, or an .npz file."
        ),
    ] = "fashion-mnist",
    engine: Annotated[
        str, typer.Option(help="auto, native or torch; auto is native where it was built.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Train a genome on all training images by the reference recipe, with early stopping on the test loss."""
    from nasopt.data import DataSource
    from nasopt.reference import summarize_seeds, train_reference
    from nasopt.training import EpochResult, Recipe, TrainingResult

    parsed = Genome.parse(genome)
    recipe = Recipe(lr=lr, lr_decay=lr_decay, epochs=epochs)
    if all_epochs:
        recipe = replace(recipe, patience=None)
    source = DataSource.parse(data)

    def show(number: int, result: EpochResult) -> None:
        if not as_json:
            out.print(
                f"seed {number}  epoch {result.epoch:>3}  train loss {result.train_loss:.4f}  train accuracy {result.train_accuracy:.2%}  "
                f"test loss {result.loss:.4f}  test accuracy {result.accuracy:.2%}",
                highlight=False,
            )

    results: list[tuple[int, TrainingResult]] = []
    failures: dict[int, TrainingError] = {}
    for number in range(seed, seed + seeds):
        try:
            result = train_reference(
                parsed, recipe, number, source, engine=engine, on_epoch=partial(show, number)
            )
        except TrainingError as error:
            failures[number] = error
            err.print(f"seed {number} gave no result: {error}", highlight=False)
            continue
        results.append((number, result))
        if not as_json:
            out.print(
                f"seed {number}  best epoch {result.best.epoch}: test accuracy {result.best.accuracy:.2%}, train accuracy {result.best.train_accuracy:.2%}; "
                f"last epoch {result.last.epoch}: test accuracy {result.last.accuracy:.2%}; {result.n_params:,} parameters"
                + ("; dead: one class for every image" if result.dead else ""),
                highlight=False,
            )
    if not results:
        raise failures[seed]
    reasons = {number: str(error) for number, error in failures.items()}
    summary = summarize_seeds(results, bar, reasons)
    if as_json:
        print_json(summary)
    elif seeds > 1:
        out.print(
            f"{seeds} seeds{_zeros(failures)}, last epoch: mean {summary['test_accuracy_mean']:.2%}, standard deviation {summary['test_accuracy_sd']:.2%}, "
            f"{summary['pass_rate']:.0%} above {format_share(bar)}; best epoch: mean {summary['best_test_accuracy_mean']:.2%}, "
            f"{summary['best_pass_rate']:.0%} above",
            highlight=False,
        )


def _zeros(failures: Mapping[int, TrainingError]) -> str:
    return f", {len(failures)} without a result as 0 %" if failures else ""


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
        print_json(
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
        print_json(numbers)
    else:
        out.print(
            f"{numbers['source']}: {numbers['n_train']:,} training, {numbers['n_val']:,} validation and {numbers['n_test']:,} test images of "
            f"{numbers['image']}, {numbers['n_classes']} classes",
            highlight=False,
        )


def doctor(*, as_json: AsJson = False) -> None:
    """Check that this machine has what nasopt needs, and say what to do if not."""
    from nasopt.doctor import examine

    checks = examine()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            out.print(
                f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {check.finding}",
                highlight=False,
            )
    if not all(check.ok for check in checks):
        raise typer.Exit(BAD_INPUT)
