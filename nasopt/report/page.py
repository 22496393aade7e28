"""The report's page: figures, drawing and tables in one template."""

from collections import Counter
from pathlib import Path

import jinja2
import plotly.graph_objects as go
import plotly.io
import plotly.offline

from nasopt.candidates import completed
from nasopt.drawing import draw_network
from nasopt.files import write_whole
from nasopt.report.content import ReportInput
from nasopt.report.front import front_figure
from nasopt.report.images import png_data_uri
from nasopt.report.importance import importance_figure
from nasopt.report.progress import curves_figure, progress_figures
from nasopt.report.savings import judge_savings
from nasopt.report.seeds import MAX_STRIPS, seeds_figure
from nasopt.report.style import CONFIG, PAPER
from nasopt.report.view import StudyView
from nasopt.wording import format_share, number_of

MAX_DASHBOARD_POINTS = 250
DASHBOARD_HEIGHT = 440  # pixels; the dashboard cuts off what is below
DASHBOARD_TITLES = {
    "front": "Networks by size and accuracy",
    "seeds": "Seed by seed",
    "volume-trials": "Hypervolume",
    "smallest-trials": "Smallest network above the bar",
}
MAX_CONFUSION_CLASSES = 20  # a larger matrix is not readable; its most frequent mistakes are


def render_report(data: ReportInput) -> str:
    """The report as one HTML document that needs no network."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nasopt.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "share": format_share,
        "number_of": number_of,
        "count": _count,
        "duration": _duration,
    }
    environment.globals["png"] = png_data_uri
    chosen = data.selection.chosen
    view = StudyView.of(data.records, data.selection, data.n_classes)
    states = Counter(
        "duplicates" if r.duplicate_of is not None and r.state == "complete" else r.state
        for r in data.records
    )
    return environment.get_template("report.html.jinja").render(
        data=data,
        chosen=chosen,
        verification=data.selection.verification,
        cost=data.chosen_cost,
        drawing=draw_network(chosen.candidate.genome, data.image, data.n_classes)
        if chosen
        else "",
        front=view.front_networks(),
        states=states,
        n_done=len(completed(data.records)),
        n_too_large=sum(r.is_too_large for r in data.records),
        savings=judge_savings(data.records),
        max_confusion=MAX_CONFUSION_CLASSES,
        n_strips=(len(view.strips(MAX_STRIPS)), len(view.strips())),
        plotly_js=plotly.offline.get_plotlyjs(),
        figures={name: _to_html(name, figure) for name, figure in _figures(data, view).items()},
    )


def write_report(path: Path, data: ReportInput) -> None:
    """Writes the report to ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_whole(path, render_report(data).encode())


def paper_figures(data: ReportInput) -> dict[str, go.Figure]:
    """The report's figures by name; without seeds where none was trained, and without importances where there are none."""
    view = StudyView.of(data.records, data.selection, data.n_classes)
    return _figures(data, view)


def dashboard_figures(view: StudyView) -> dict[str, go.Figure]:
    """Figures to keep in the study for optuna-dashboard, on white, and light: it reads them with every page."""
    figures = {"front": front_figure(view, max_points=MAX_DASHBOARD_POINTS)}
    if view.strips(1):
        figures["seeds"] = seeds_figure(view)
    progress = progress_figures(view)
    figures |= {name: progress[name] for name in ("volume-trials", "smallest-trials")}
    for name, figure in figures.items():
        figure.update_layout(
            title=DASHBOARD_TITLES[name],
            height=DASHBOARD_HEIGHT,
            margin_t=60,
            paper_bgcolor=PAPER,
            plot_bgcolor=PAPER,
        )
    return figures


def _figures(data: ReportInput, view: StudyView) -> dict[str, go.Figure]:
    figures = {"front": front_figure(view)}
    if view.strips(1):
        figures["seeds"] = seeds_figure(view)
    figures |= progress_figures(view, data.baselines)
    figures["curves"] = curves_figure(view)
    if data.importances:
        figures["importance"] = importance_figure(data.importances)
    return figures


def _to_html(name: str, figure: go.Figure) -> str:
    html: str = plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=CONFIG
    )
    return html


def _percent(share: float, digits: int = 2) -> str:
    return f"{share:.{digits}%}"


def _count(number: int) -> str:
    return f"{number:,}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
