"""The figure of the seeds: every training of a raced or verified network, against the bar."""

from collections.abc import Sequence

import plotly.graph_objects as go

from nasopt.report.style import GREEN, INK, OCHRE, RED, add_bar, finish
from nasopt.report.view import Strip, StudyView

MAX_STRIPS = 8
ROW_HEIGHT = 66  # pixels
GOLDEN = (
    0.618034  # spreads seeds over their strip without chance and without neighbours on one line
)
LOST = 0.15  # a seed that far under the bar is drawn at the edge, so that the others can be told apart


def seeds_figure(view: StudyView) -> go.Figure:
    """Accuracy of every seed as a strip a network, with the mean and the lowest, and the bar.

    The chosen network on test is the top strip; further ones on test and races, in validation, follow, eight in all.
    Seeds that are far below the bar are drawn at the left edge.
    """
    strips = view.strips(MAX_STRIPS)
    figure = go.Figure()
    edge = _edge(strips, view.bar)
    for row, strip in enumerate(strips):
        _add_strip(figure, strip, row, (edge, view.bar))
    _add_summary(figure, strips, edge)
    add_bar(figure, view.bar, vertical=True)
    figure.update_xaxes(title="accuracy at the last epoch (%)")
    figure.update_yaxes(
        title="parameters",
        tickvals=list(range(len(strips))),
        ticktext=[f"{s.n_params:,}<br>{'test' if s.on_test else 'race'}" for s in strips],
        range=[len(strips) - 0.4, -0.6],
        showgrid=False,
    )
    figure.update_layout(showlegend=False)
    return finish(figure, 150 + ROW_HEIGHT * len(strips))


def _edge(strips: Sequence[Strip], bar: float) -> float:
    """The lowest accuracy that is drawn in its place."""
    shown = [a for strip in strips for a in strip.accuracies if a > bar - LOST]
    return min([*shown, bar]) - 0.005


def _add_strip(figure: go.Figure, strip: Strip, row: int, limits: tuple[float, float]) -> None:
    edge, bar = limits
    accuracies = strip.accuracies
    jitter = [0.5 * (GOLDEN * i % 1 - 0.5) for i in range(len(accuracies))]
    shape = "circle" if strip.on_test else "circle-open"
    figure.add_scatter(
        x=[100 * max(a, edge) for a in accuracies],
        y=[row + shift for shift in jitter],
        mode="markers",
        name=f"trial {strip.number}",
        marker={
            "color": [(GREEN if strip.chosen else OCHRE) if a > bar else RED for a in accuracies],
            "symbol": ["triangle-left" if a < edge else shape for a in accuracies],
            "size": 8,
            "opacity": 0.8,
        },
        customdata=[100 * a for a in accuracies],
        hovertemplate=f"trial {strip.number}: %{{customdata:.2f}} %<extra></extra>",
    )


def _add_summary(figure: go.Figure, strips: Sequence[Strip], edge: float) -> None:
    """The mean of every strip as a diamond, and its lowest seed with its value."""
    rows = list(range(len(strips)))
    figure.add_scatter(
        x=[100 * max(s.mean, edge) for s in strips],
        y=rows,
        mode="markers",
        name="mean",
        marker={"symbol": "diamond-tall-open", "size": 17, "color": INK, "line": {"width": 2}},
        customdata=[100 * s.mean for s in strips],
        hovertemplate="mean %{customdata:.2f} %<extra></extra>",
    )
    lowest = [min(s.accuracies) for s in strips]
    figure.add_scatter(
        x=[100 * max(a, edge) for a in lowest],
        y=[row + 0.4 for row in rows],
        mode="text",
        text=[f"lowest {100 * a:.1f}" for a in lowest],
        textposition="middle right",
        hoverinfo="skip",
    )
