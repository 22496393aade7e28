"""Figures as PNG and SVG files, for papers: drawn by kaleido in a Chromium of this machine, offline."""

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from nasopt.errors import OutputError
from nasopt.report.style import PAPER

WIDTH = 720  # pixels; a PNG has twice as many
SCALE = 2
FORMATS = ("png", "svg")


def export_figures(folder: Path, figures: Mapping[str, go.Figure]) -> list[Path]:
    """Writes every figure as ``<name>.png`` and ``<name>.svg`` into ``folder``; the paths.

    Raises:
        OutputError: if kaleido or Chromium is missing, or a file cannot be written.
    """
    try:
        import kaleido
        from kaleido.errors import KaleidoError
    except ImportError as error:
        raise OutputError(
            "figures as PNG and SVG need the package kaleido; install it (in a clone of nasopt: pip install '.[figures]') "
            "and run the same command again"
        ) from error
    jobs = [
        {
            "fig": _on_paper(figure),
            "path": folder / f"{name}.{suffix}",
            "opts": {"format": suffix, "width": WIDTH, "scale": SCALE},
        }
        for name, figure in figures.items()
        for suffix in FORMATS
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without MathJax, which it would fetch from the network.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False}, cancel_on_error=True)
    except TimeoutError as error:
        raise OutputError(
            f"Chromium did not draw the figures in time ({error}); run the same command again, on a less busy machine"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write figures into {folder} ({error.strerror}); mend the permissions or free some space"
        ) from error
    except (RuntimeError, KaleidoError) as error:
        raise OutputError(
            f"figures as PNG and SVG are drawn by Chromium or Chrome, and none was found or it failed ({type(error).__name__}); "
            "install it (on Debian: apt-get install chromium) or name it in BROWSER_PATH, and run the same command again"
        ) from error
    return [job["path"] for job in jobs]


def _on_paper(figure: go.Figure) -> go.Figure:
    """A copy on white, for what comes without a page around it."""
    return go.Figure(figure).update_layout(paper_bgcolor=PAPER, plot_bgcolor=PAPER)
