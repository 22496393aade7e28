"""The few SVG elements that drawings are made of, as text; coordinates are pixels from the top left."""

from collections.abc import Sequence
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

Anchor = Literal["start", "middle", "end"]

FONT = "system-ui, sans-serif"
INK = "currentColor"


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = 12,
    bold: bool = False,
    anchor: Anchor = "start",
) -> str:
    """A line of text whose baseline is at ``y``."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{weight} text-anchor="{anchor}" fill="{INK}">'
        f"{escape(content)}</text>"
    )


def rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    """A box with a thin outline, filled with a CSS colour."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="1.5" '
        f'style="fill:{fill}" stroke="{INK}" stroke-width="1"/>'
    )


def line(
    x1: float, y1: float, x2: float, y2: float, *, dash: str = "", faint: bool = False
) -> str:
    """A straight line."""
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    opacity = ' stroke-opacity="0.25"' if faint else ""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}"{pattern}{opacity}/>'
    )


def path_through(points: Sequence[tuple[float, float]], stroke: str) -> str:
    """A line from point to point, in a CSS colour."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke-width="2" style="stroke:{stroke}"/>'


def dot(x: float, y: float, fill: str) -> str:
    """A small filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{fill}"/>'


def group(title: str, content: str) -> str:
    """Elements that belong together; ``title`` is what a pointer over them shows."""
    return f"<g><title>{escape(title)}</title>{content}</g>"


def picture(
    size: tuple[float, float], ident: str, title: str, description: str, content: str
) -> str:
    """A whole SVG element of ``size`` (width, height), named and described for those who do not see it.

    ``ident`` makes its ids unique in a page. It shrinks where the page is narrower.
    """
    width, height = size
    names = (f"{ident}-title", f"{ident}-desc")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-labelledby={quoteattr(" ".join(names))} font-family="{FONT}" '
        f'style="max-width:100%;height:auto">'
        f"<title id={quoteattr(names[0])}>{escape(title)}</title>"
        f"<desc id={quoteattr(names[1])}>{escape(description)}</desc>{content}</svg>"
    )
