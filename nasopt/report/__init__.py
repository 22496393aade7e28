"""The report: one self-contained HTML file for people, and its figures for papers and for the dashboard."""

from nasopt.report.baselines import read_baselines
from nasopt.report.content import Inspection, ReportInput, WrongImage
from nasopt.report.export import export_figures
from nasopt.report.front import front_figure
from nasopt.report.importance import importance_figure
from nasopt.report.page import (
    dashboard_figures,
    paper_figures,
    render_report,
    write_report,
)
from nasopt.report.progress import curves_figure, progress_figures
from nasopt.report.seeds import seeds_figure
from nasopt.report.view import StudyView

__all__ = [
    "Inspection",
    "ReportInput",
    "StudyView",
    "WrongImage",
    "curves_figure",
    "dashboard_figures",
    "export_figures",
    "front_figure",
    "importance_figure",
    "paper_figures",
    "progress_figures",
    "read_baselines",
    "render_report",
    "seeds_figure",
    "write_report",
]
