"""Finds the smallest convolutional network that still clears an accuracy bar, and proves it."""

__version__ = "0.1.0"
