"""The figures of a report, made with plotly from records alone."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nasopt.pareto import hypervolume
from nasopt.records import (
    Candidate,
    CandidateSummary,
    TrialRecord,
    Verification,
    completed,
    front_of,
    pareto_front,
    summarize_candidates,
)
from nasopt.selection import Selection

BLUE, ORANGE, GREEN, GREY = "#1f6fb2", "#d95f02", "#1b9e77", "#9aa0a6"
MAX_CURVES = 12


def front_figure(
    records: Sequence[TrialRecord], selection: Selection, n_classes: int
) -> go.Figure:
    """Accuracy against parameters: all trials, the front, the bar, and what was verified on test."""
    done = [r for r in completed(records) if r.duplicate_of is None]
    front = pareto_front(records)
    figure = go.Figure()
    _add_points(
        figure, [r for r in done if not r.evaluation or not r.evaluation.dead], "trial", GREY
    )
    _add_points(
        figure, [r for r in done if r.evaluation and r.evaluation.dead], "dead network", "#d9a0a0"
    )
    figure.add_scatter(
        x=[r.n_params for r in front],
        y=[100 * r.val_accuracy for r in front],
        mode="lines+markers",
        name="Pareto front (validation)",
        line={"color": BLUE, "shape": "hv"},
        customdata=[[r.number, str(r.candidate.genome)] for r in front],
        hovertemplate="trial %{customdata[0]}<br>%{x:,} parameters, %{y:.2f} %<br>%{customdata[1]}<extra></extra>",
    )
    chosen = selection.chosen.number if selection.chosen else None
    rejected = [v for v in selection.verifications if v.number != chosen]
    _add_verified(figure, rejected, "rejected on test (range of seeds)", ORANGE, "x")
    accepted = [v for v in selection.verifications if v.number == chosen]
    _add_verified(figure, accepted, "chosen, on test (range of seeds)", GREEN, "star")
    figure.add_hline(
        y=100 * selection.rule.bar,
        line={"color": ORANGE, "dash": "dash"},
        annotation_text=f"bar: {selection.rule.bar:.1%}",
        annotation_position="bottom right",
    )
    figure.update_xaxes(title="parameters (log scale)", type="log", dtick="D2", tickformat=",")
    lowest = min((r.val_accuracy for r in front), default=1 / n_classes)
    figure.update_yaxes(title="accuracy (%)", range=[100 * min(lowest, 1 / n_classes) - 2, 100])
    return _finish(figure, "Every network tried, by size and accuracy")


def _add_points(figure: go.Figure, records: Sequence[TrialRecord], name: str, color: str) -> None:
    if not records:
        return
    figure.add_scatter(
        x=[r.n_params for r in records],
        y=[100 * r.val_accuracy for r in records],
        mode="markers",
        name=name,
        marker={"color": color, "size": 6},
        customdata=[[r.number, str(r.candidate.genome)] for r in records],
        hovertemplate="trial %{customdata[0]}<br>%{x:,} parameters, %{y:.2f} %<br>%{customdata[1]}<extra></extra>",
    )


def _add_verified(
    figure: go.Figure, verified: Sequence[Verification], name: str, color: str, symbol: str
) -> None:
    if not verified:
        return
    figure.add_scatter(
        x=[v.n_params for v in verified],
        y=[100 * v.mean for v in verified],
        error_y={
            "array": [100 * (max(v.accuracies) - v.mean) for v in verified],
            "arrayminus": [100 * (v.mean - min(v.accuracies)) for v in verified],
        },
        mode="markers",
        name=name,
        marker={"color": color, "size": 13, "symbol": symbol},
    )


def progress_figure(records: Sequence[TrialRecord], bar: float, n_classes: int) -> go.Figure:
    """Hypervolume and the smallest network above the bar, over trials and over time."""
    done = completed(records)
    steps = _steps(done, bar, n_classes)
    figure = make_subplots(
        2,
        2,
        shared_xaxes="columns",
        shared_yaxes="rows",
        vertical_spacing=0.06,
        horizontal_spacing=0.04,
        row_titles=["hypervolume", "smallest above the bar"],
    )
    axes = (
        [r.number for r in done],
        [r.elapsed_s / 60 for r in sorted(done, key=lambda r: r.elapsed_s)],
    )
    orders = (steps, _steps(sorted(done, key=lambda r: r.elapsed_s), bar, n_classes))
    for column, (x, order) in enumerate(zip(axes, orders, strict=True), start=1):
        for row, color in ((1, BLUE), (2, GREEN)):
            figure.add_scatter(
                x=x,
                y=[step[row - 1] for step in order],
                mode="lines",
                line={"color": color, "shape": "hv"},
                showlegend=False,
                row=row,
                col=column,
            )
    figure.update_xaxes(title="trial", row=2, col=1)
    figure.update_xaxes(title="search time (minutes)", row=2, col=2)
    figure.update_yaxes(type="log", dtick="D2", tickformat=",", row=2)
    return _finish(figure, "How the search went")


def _steps(
    records: Sequence[TrialRecord], bar: float, n_classes: int
) -> list[tuple[float, int | None]]:
    """Hypervolume and smallest feasible size after each of ``records``."""
    largest = math.log10(max((r.n_params for r in records), default=10))
    steps: list[tuple[float, int | None]] = []
    front: list[CandidateSummary] = []
    runs: dict[Candidate, list[TrialRecord]] = {}
    smallest: int | None = None
    volume = 0.0
    for record in records:
        before = front
        own = runs.setdefault(record.candidate, [])
        own.append(record)
        if len(own) == 1:
            front = front_of([*front, *summarize_candidates(own)])
        else:  # a mean has moved
            front = pareto_front([r for seen in runs.values() for r in seen])
        if front != before:
            losses = [(1 - r.val_accuracy, math.log10(r.n_params)) for r in front]
            volume = hypervolume(losses, (1 - 1 / n_classes, largest))
        if record.val_accuracy >= bar:
            smallest = min(smallest or record.n_params, record.n_params)
        steps.append((volume, smallest))
    return steps


def curves_figure(records: Sequence[TrialRecord], bar: float) -> go.Figure:
    """Validation accuracy after every epoch, for members of the front nearest to the bar."""
    front = sorted(pareto_front(records), key=lambda r: abs(r.val_accuracy - bar))[:MAX_CURVES]
    figure = go.Figure()
    for record in sorted(front, key=lambda r: r.n_params):
        evaluation = record.first.evaluation
        curve = evaluation.curve if evaluation else ()
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)),
            y=[100 * accuracy for accuracy in curve],
            mode="lines+markers",
            name=f"{record.n_params:,} parameters (trial {record.number})",
        )
    figure.add_hline(y=100 * bar, line={"color": ORANGE, "dash": "dash"})
    figure.update_xaxes(title="epoch", dtick=1)
    figure.update_yaxes(title="validation accuracy (%)")
    return _finish(figure, "Learning curves along the front, near the bar")


def _finish(figure: go.Figure, title: str) -> go.Figure:
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=520,
        margin={"l": 60, "r": 30, "t": 60, "b": 60},
        legend={"orientation": "h", "y": -0.18},
    )
    return figure
