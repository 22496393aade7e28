"""Drawings of networks as SVG text: one network by itself, or a card with all that a trial told of it.

They use ``currentColor`` and the custom properties ``--map``, ``--reduction`` and ``--dense``, so that a page
themes them; a card brings colours of its own, for light and for dark, since it is opened as a file.
"""

from nasopt.drawing.card import draw_card
from nasopt.drawing.network import draw_network

__all__ = ["draw_card", "draw_network"]
