"""The figure of what decided the accuracy."""

import re
from collections.abc import Mapping

import plotly.graph_objects as go

from nasopt.report.style import BLUE, finish

MAX_PARAMETERS = 12
_LAYER = re.compile(r"(type|filters|kernel|activation)_(\d+)")
_NAMES = {
    "lr": "learning rate",
    "lr_decay": "learning rate decay",
    "final_activation": "final activation",
}


def importance_figure(importances: Mapping[str, float]) -> go.Figure:
    """The twelve parameters of the largest shares as bars, the largest on top."""
    top = list(importances.items())[:MAX_PARAMETERS]
    figure = go.Figure()
    figure.add_bar(
        x=[100 * share for _, share in top],
        y=[parameter_name(name) for name, _ in top],
        orientation="h",
        marker={"color": BLUE},
        text=[f"{share:.0%}" for _, share in top],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
    )
    figure.update_xaxes(title="share of importance (%)")
    figure.update_yaxes(autorange="reversed")
    return finish(figure, 120 + 26 * len(top))


def parameter_name(name: str) -> str:
    """An Optuna parameter in words: ``filters_0`` is ``filters of layer 1``."""
    match = _LAYER.fullmatch(name)
    if match:
        return f"{match[1]} of layer {int(match[2]) + 1}"
    return _NAMES.get(name, name)
