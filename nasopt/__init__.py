"""Searches for the smallest convolutional network that still clears an accuracy bar, and verifies it over seeds."""

__version__ = "0.1.0"
