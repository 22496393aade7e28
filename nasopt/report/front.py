"""The figure of all networks, by size and accuracy."""

from collections.abc import Sequence

import plotly.graph_objects as go

from nasopt.report.style import BLUE, GREEN, GREY, OCHRE, PINK, RED, add_bar, finish, log_ticks
from nasopt.report.view import Point, StudyView

MAX_POINTS = 2000
HOVER = (
    "trial %{customdata[0]}<br>%{x:,} parameters, %{y:.2f} %<br>%{customdata[1]}<extra></extra>"
)


def front_figure(view: StudyView, max_points: int = MAX_POINTS) -> go.Figure:
    """Accuracy against parameters: networks, the front, the bar, what was raced and what was opened on test, with intervals.

    Of more than ``max_points`` networks evenly spread ones are shown, and the front.
    """
    figure = go.Figure()
    front = view.front()
    shown = thin_out(view.points(), max_points)
    alive, dead = [p for p in shown if not p.dead], [p for p in shown if p.dead]
    grey, cross = {"color": GREY, "size": 5}, {"color": RED, "size": 6, "symbol": "x-thin-open"}
    _add_points(figure, alive, "network", grey, intervals=False)
    _add_points(figure, dead, "dead network", cross, intervals=False)
    _add_points(figure, front, "Pareto front (validation)", {"color": BLUE, "size": 7})
    figure.update_traces(
        mode="lines+markers",
        line={"color": BLUE, "shape": "hv"},
        selector={"name": "Pareto front (validation)"},
    )
    for points, name, color, symbol in (
        (view.raced(), "raced (mean in validation)", OCHRE, "x"),
        (view.verified(chosen=False), "contradicted (mean on test)", PINK, "diamond"),
        (view.verified(chosen=True), "chosen (mean on test)", GREEN, "star"),
    ):
        _add_points(figure, points, name, {"color": color, "size": 12, "symbol": symbol})
    add_bar(figure, view.bar)
    sizes = [p.n_params for p in [*shown, *front]] or [1]
    figure.update_xaxes(title="parameters (log scale)", **log_ticks(min(sizes), max(sizes)))
    figure.update_yaxes(title="accuracy (%)", range=_range(view, [*shown, *front]))
    return finish(figure, 540)


def thin_out(points: Sequence[Point], n: int) -> list[Point]:
    """At most ``n`` of ``points``, evenly spread over their order."""
    return [points[i * len(points) // n] for i in range(n)] if len(points) > n else list(points)


def _range(view: StudyView, points: Sequence[Point]) -> tuple[float, float]:
    """From just below the least accuracy shown, of races and tests too, to just above the end of the highest interval."""
    verified = [*view.verified(chosen=True), *view.verified(chosen=False), *view.raced()]
    lowest = min((p.accuracy for p in [*points, *verified]), default=1 / view.n_classes)
    highest = max((p.high for p in [*view.front(), *verified]), default=1.0)
    return 100 * min(lowest, view.bar) - 2, 100 * max(highest, view.bar) + 3


def _add_points(
    figure: go.Figure,
    points: Sequence[Point],
    name: str,
    marker: dict[str, object],
    *,
    intervals: bool = True,
) -> None:
    if points:
        figure.add_scatter(
            x=[p.n_params for p in points],
            y=[round(100 * p.accuracy, 3) for p in points],
            mode="markers",
            name=name,
            marker=marker,
            error_y=_error(points) if intervals else None,
            customdata=[[p.number, _details(p)] for p in points],
            hovertemplate=HOVER,
        )


def _error(points: Sequence[Point]) -> dict[str, object] | None:
    """The intervals of the means, where any has one."""
    if all(p.low == p.high for p in points):
        return None
    return {
        "array": [100 * (p.high - p.accuracy) for p in points],
        "arrayminus": [100 * (p.accuracy - p.low) for p in points],
        "thickness": 1,
        "width": 2,
    }


def _details(point: Point) -> str:
    return f"{point.genome}<br>{point.n_seeds} seed{'s' if point.n_seeds > 1 else ''}"
