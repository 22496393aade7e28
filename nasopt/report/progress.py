"""The figures of how a search went: hypervolume and the smallest network above the bar, and learning curves."""

import math
from collections.abc import Callable
from functools import partial
from itertools import cycle

import plotly.graph_objects as go

from nasopt.pareto import hypervolume
from nasopt.report.baselines import Baselines
from nasopt.report.style import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    OCHRE,
    PINK,
    RED,
    SERIES,
    add_bar,
    finish,
)
from nasopt.report.view import Point, StudyView

HEIGHT = 300
OTHERS = (RED, OCHRE, GREY, PINK)  # the colours of other searches
History = list[tuple[float, Point]]
Loss = tuple[float, float]  # error, log10 of the parameters
Steps = tuple[list[float], list[float | None]]  # where something changed, and to what


def progress_figures(view: StudyView, baselines: Baselines | None = None) -> dict[str, go.Figure]:
    """Hypervolume and the smallest network above the bar, each against trials and against search time.

    The runs of ``baselines`` are drawn beside the study against time, thinly, with the study's own reference point.
    """
    figures = {}
    for axis, by_time in (("trials", False), ("time", True)):
        history = list(view.history(by_time=by_time))
        title = "search time (minutes)" if by_time else "trial"
        largest = math.log10(max((p.n_params for _, p in history), default=10))
        reference = (1 - 1 / view.n_classes, largest)
        measures: tuple[tuple[str, str, str, Callable[[History], Steps]], ...] = (
            ("volume", "hypervolume", BLUE, partial(_volume_steps, reference=reference)),
            ("smallest", "parameters", GREEN, partial(_smallest_steps, bar=view.bar)),
        )
        for name, y_title, color, measure in measures:
            figure = _stairs(measure(history), title, y_title, color)
            if by_time:
                _add_baselines(figure, measure, baselines or {})
            figures[f"{name}-{axis}"] = figure
    return figures


def _add_baselines(
    figure: go.Figure, measure: Callable[[History], Steps], baselines: Baselines
) -> None:
    if baselines:
        figure.update_traces(name="this study", showlegend=True)
    for (name, runs), color, dash in zip(
        baselines.items(), cycle(OTHERS), cycle(DASHES[1:]), strict=False
    ):
        for i, run in enumerate(runs):
            steps = measure([(seconds / 60, point) for seconds, point in run])
            figure.add_scatter(
                x=steps[0],
                y=steps[1],
                mode="lines",
                line={"shape": "hv", "width": 1, "color": color, "dash": dash},
                name=name,
                legendgroup=name,
                showlegend=i == 0,
            )


def _stairs(steps: Steps, x_title: str, y_title: str, color: str) -> go.Figure:
    figure = go.Figure()
    figure.add_scatter(
        x=steps[0], y=steps[1], mode="lines", line={"color": color, "shape": "hv"}, name=y_title
    )
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, separatethousands=True)
    return finish(figure, HEIGHT)


def _volume_steps(history: History, reference: Loss) -> Steps:
    """Hypervolume of error and log10 of the parameters, up to guessing and the largest network of the study."""
    known: dict[int, Loss] = {}
    front: dict[int, Loss] = {}
    at: list[float] = []
    values: list[float | None] = []
    for x, point in history:
        known[point.number] = loss = (1 - point.accuracy, math.log10(point.n_params))
        if point.number in front:  # its mean has moved, and may have given way to others
            front = _front(known)
        elif not any(other[0] <= loss[0] and other[1] <= loss[1] for other in front.values()):
            front = _front(front | {point.number: loss})
        else:
            continue
        at.append(x)
        values.append(hypervolume(list(front.values()), reference))
    return _to_the_end(history, at, values)


def _front(losses: dict[int, Loss]) -> dict[int, Loss]:
    """Those of ``losses`` that none before them in the order of size is better than."""
    front: dict[int, Loss] = {}
    least = math.inf
    for number, loss in sorted(losses.items(), key=lambda item: (item[1][1], item[1][0])):
        if loss[0] < least:
            front[number], least = loss, loss[0]
    return front


def _smallest_steps(history: History, bar: float) -> Steps:
    above: dict[int, int] = {}
    at: list[float] = []
    values: list[float | None] = []
    smallest: int | None = None
    for x, point in history:
        before = above.pop(point.number, None)
        if point.accuracy > bar:
            above[point.number] = point.n_params
        concerns = smallest is None or point.n_params <= smallest
        if concerns and above.get(point.number) != before:
            smallest = min(above.values(), default=None)
            at.append(x)
            values.append(smallest)
    return _to_the_end(history, at, values)


def _to_the_end(history: History, at: list[float], values: list[float | None]) -> Steps:
    """The steps with a start without value, so that axes begin together, and the last value held."""
    if not history:
        return [], []
    return [0.0, *at, history[-1][0]], [None, *values, values[-1] if values else None]


def curves_figure(view: StudyView) -> go.Figure:
    """Validation accuracy after every epoch of the first training, for the networks of the front nearest to the bar."""
    figure = go.Figure()
    nearest = view.near_the_bar(len(SERIES))
    for network, color, dash in zip(nearest, SERIES, DASHES, strict=False):
        evaluation = network.first.evaluation
        curve = evaluation.curve if evaluation else ()
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)),
            y=[100 * accuracy for accuracy in curve],
            mode="lines+markers",
            line={"color": color, "dash": dash},
            name=f"{network.n_params:,} (trial {network.number})",
        )
    add_bar(figure, view.bar)
    n_epochs = max((len(trace.x) for trace in figure.data), default=1)
    figure.update_xaxes(title="epoch", dtick=1 + n_epochs // 20)
    figure.update_yaxes(title="validation accuracy (%)")
    return finish(figure)
