"""The report: one self-contained HTML file for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import plotly.io
import plotly.offline

from nasopt.cost import Cost, count_cost
from nasopt.files import write_whole
from nasopt.genome import ImageShape
from nasopt.records import TrialRecord, completed, pareto_front
from nasopt.report.figures import curves_figure, front_figure, progress_figure
from nasopt.search.stopping import judge_stopping
from nasopt.selection import Selection


@dataclass(frozen=True, slots=True)
class ReportInput:
    """All that a report tells; ``facts`` are shown as a table, in their order."""

    name: str
    records: Sequence[TrialRecord]
    selection: Selection
    image: ImageShape
    n_classes: int
    facts: Mapping[str, str]

    @property
    def chosen_cost(self) -> Cost | None:
        """The layer table of the chosen network."""
        chosen = self.selection.chosen
        if chosen is None:
            return None
        return count_cost(chosen.candidate.genome, self.image, self.n_classes)


def render_report(data: ReportInput) -> str:
    """The report as one HTML document that needs no network."""
    bar = data.selection.rule.bar
    figures = {
        "front": front_figure(data.records, data.selection, data.n_classes),
        "progress": progress_figure(data.records, bar, data.n_classes),
        "curves": curves_figure(data.records, bar),
    }
    states = Counter("duplicates" if r.duplicate_of is not None else r.state for r in data.records)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nasopt.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        data=data,
        chosen=data.selection.chosen,
        verification=data.selection.verification,
        cost=data.chosen_cost,
        front=pareto_front(data.records),
        states=states,
        n_done=len(completed(data.records)),
        n_too_large=sum(r.state == "pruned" and r.evaluation is None for r in data.records),
        stopping=judge_stopping(data.records),
        plotly_js=plotly.offline.get_plotlyjs(),
        figures={
            name: plotly.io.to_html(
                figure,
                full_html=False,
                include_plotlyjs=False,
                div_id=f"figure-{name}",
                config={"responsive": True, "displaylogo": False},
            )
            for name, figure in figures.items()
        },
    )


def write_report(path: Path, data: ReportInput) -> None:
    """Writes the report to ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_whole(path, render_report(data).encode())
