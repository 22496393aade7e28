"""Tables and lines for people to read in a terminal."""

from collections.abc import Sequence

from rich.table import Table

from nasopt.candidates import CandidateSummary
from nasopt.cost import Cost
from nasopt.genome import Genome, ImageShape
from nasopt.racing import RaceVerdict
from nasopt.records import Race, Verification
from nasopt.selection import Selection
from nasopt.wording import format_share


def front_table(front: Sequence[CandidateSummary], bar: float) -> Table:
    """The Pareto front, smallest first; networks above the bar are marked."""
    table = Table(
        "parameters", "val. accuracy", "runs", "", "trial", "lr", "lr_decay", "genome", box=None
    )
    for column in (0, 1, 2, 4, 5, 6):
        table.columns[column].justify = "right"
    table.columns[7].overflow = "fold"
    for r in front:
        table.add_row(
            f"{r.n_params:,}",
            f"{r.val_accuracy:.2%}",
            str(r.n_runs),
            "above" if r.val_accuracy > bar else "",
            str(r.number),
            f"{r.candidate.lr:.3g}",
            f"{r.candidate.lr_decay:.3g}",
            str(r.candidate.genome),
        )
    return table


def cost_table(genome: Genome, cost: Cost, image: ImageShape) -> Table:
    """The layers of a network with shapes and costs."""
    table = Table(
        "layer",
        "output",
        "parameters",
        "MACs",
        title=str(genome),
        title_justify="left",
        show_footer=True,
        box=None,
    )
    for column, footer in enumerate(("total", "", f"{cost.n_params:,}", f"{cost.macs:,}")):
        table.columns[column].footer = footer
        table.columns[column].justify = "right" if column else "left"
    table.add_row("input", str(image), "0", "0")
    for layer in cost.layers:
        table.add_row(layer.name, str(layer.output), f"{layer.n_params:,}", f"{layer.macs:,}")
    return table


def describe_race(race: Race, bar: float, verdict: RaceVerdict) -> str:
    """A race so far, in a line."""
    return (
        f"trial {race.number}, {race.n_params:,} parameters, race: mean {race.mean:.2%} over {len(race.accuracies)} fresh seeds, "
        f"{race.n_above(bar)} above {format_share(bar)}: {verdict}"
    )


def describe_verification(verification: Verification, n_seeds: int) -> str:
    """A verification so far, in a line."""
    return (
        f"trial {verification.number}, {verification.n_params:,} parameters: {verification.n_passed} of {len(verification.seeds)} seeds "
        f"above {format_share(verification.bar)} on test ({len(verification.seeds)} of {n_seeds} trained), mean {verification.mean:.2%}"
    )


def selection_lines(selection: Selection) -> list[str]:
    """The chosen network with its numbers, and the reasons."""
    chosen, verification = selection.chosen, selection.verification
    lines = [f"No network is verified above {format_share(selection.rule.bar)}."]
    if chosen is not None and verification is not None:
        lines = [
            f"genome      {chosen.candidate.genome}",
            f"parameters  {chosen.n_params:,}",
            f"recipe      lr {chosen.candidate.lr:.6g}, lr_decay {chosen.candidate.lr_decay:.6g}",
            f"validation  {chosen.val_accuracy:.2%} in the search",
            f"test        {verification.mean:.2%} ± {verification.sd:.2%} over {len(verification.seeds)} seeds at the last epoch, "
            f"lowest {min(verification.accuracies):.2%}, {verification.n_passed} of them above {format_share(selection.rule.bar)}",
        ]
    return [*lines, "", *(f"- {reason}" for reason in selection.reasons), ""]
