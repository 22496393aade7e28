"""How figures look: colours that are told apart on white and on dark, and a layout that a phone can show.

A figure carries the light theme, for files and for the dashboard; the report's style sheet overrides its text and its
grid where the page is dark.
"""

from typing import Any

import plotly.graph_objects as go

from nasopt.wording import format_share

INK, GRID, PAPER = "#1f2328", "#dfe3e8", "#ffffff"
BLUE, ORANGE, GREEN, GREY = "#2a78c2", "#d95f02", "#1b9e77", "#7d848c"
RED, PURPLE, OCHRE, PINK = "#c2505a", "#8a6fc9", "#a6761d", "#c04f9a"
SERIES = (BLUE, GREEN, PURPLE, OCHRE, PINK, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MAX_TICKS = 9
CLEAR = "rgba(0,0,0,0)"

# Buttons that a keyboard reaches too; dragging is left to the page, so that a phone scrolls past a figure.
CONFIG: dict[str, Any] = {
    "responsive": True,
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtons": [["zoom2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
}


def finish(figure: go.Figure, height: int = 440) -> go.Figure:
    """``figure`` with the common layout; it is as wide as its place and ``height`` pixels high."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 8, "r": 12, "t": 44, "b": 8},
        font={"color": INK, "size": 13, "family": "system-ui, sans-serif"},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        dragmode=False,
        hoverlabel={"bgcolor": PAPER, "font": {"color": INK}},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0, "bgcolor": CLEAR},
        modebar={"bgcolor": CLEAR, "color": GREY, "activecolor": BLUE},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks for a logarithmic axis of whole numbers from ``low`` to ``high``, few enough to be read."""
    fine = [m * 10**e for e in range(8) for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    shown = [round(tick) for tick in fine if low <= tick <= high]
    if len(shown) > MAX_TICKS:
        shown = [tick for tick in shown if str(tick)[0] in "125" and set(str(tick)[1:]) <= {"0"}]
    if len(shown) < 2:  # a narrow axis between two of them
        shown = sorted({round(low), round(high)})
    return {"type": "log", "tickvals": shown, "ticktext": [f"{tick:,}" for tick in shown]}


def add_bar(figure: go.Figure, bar: float, *, vertical: bool = False) -> None:
    """Draws the accuracy to clear across ``figure``, whose accuracies are in percent."""
    line: dict[str, Any] = {"color": ORANGE, "dash": "dash", "width": 2}
    label = f"bar: {format_share(bar)}"
    if vertical:
        figure.add_vline(x=100 * bar, line=line, annotation_text=label, annotation_position="top")
    else:
        figure.add_hline(
            y=100 * bar, line=line, annotation_text=label, annotation_position="bottom right"
        )
