"""Drawings of networks as SVG text: one network by itself, or a card with all that a trial told of it.

A network uses ``currentColor`` and the custom properties ``--input``, ``--map``, ``--reduction`` and ``--dense``, so that
a page themes it; a card brings colours of its own, for light and for dark, since it is opened as a file.
"""

from nasopt.drawing.card import draw_card
from nasopt.drawing.network import draw_network

__all__ = ["draw_card", "draw_network"]
