"""What the commands do: the modules below put together for one study file."""

from nasopt.workflow.context import Pool, StudyContext, open_context
from nasopt.workflow.floor import floor_limits, run_floor
from nasopt.workflow.report import make_report
from nasopt.workflow.search import SearchOutcome, run_search
from nasopt.workflow.selection import run_selection

__all__ = [
    "Pool",
    "SearchOutcome",
    "StudyContext",
    "floor_limits",
    "make_report",
    "open_context",
    "run_floor",
    "run_search",
    "run_selection",
]
