"""The training engines by name; each follows the same contract."""

import difflib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasopt.data import TrainVal
from nasopt.errors import EngineError
from nasopt.genome import Genome
from nasopt.training.native_engine import native_available, train_with_native, why_not_native
from nasopt.training.randomness import Weights
from nasopt.training.recipe import EpochResult, Recipe
from nasopt.training.torch_engine import train_with_torch

ENGINES = ("auto", "torch", "native")

TrainFunction = Callable[
    [
        Genome,
        Recipe,
        TrainVal,
        Weights,
        Iterator[NDArray[np.int64]],
        Callable[[EpochResult], bool],
    ],
    Weights,
]


class Engine(NamedTuple):
    """A training engine: its name, the function that runs all epochs, and whether threads scale it."""

    name: str
    run: TrainFunction
    releases_gil: bool


def why_slow(name: str) -> str | None:
    """That PyTorch trains for want of the native engine, and what to do; None if it was asked for, or the native one trains."""
    reason = why_not_native() if name == "auto" else None
    return reason and f"trainings use PyTorch, many times slower than the native engine: {reason}"


def choose_engine(name: str) -> Engine:
    """The engine of that name; ``auto`` is the fastest that works on this machine.

    Raises:
        EngineError: if there is no such engine, or it cannot be used here.
    """
    if name not in ENGINES:
        nearest = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise EngineError(f"unknown engine {name!r}; {hint}known are {', '.join(ENGINES)}")
    if name == "torch" or (name == "auto" and not native_available()):
        return Engine("torch", train_with_torch, releases_gil=False)
    reason = why_not_native()
    if reason is not None:
        raise EngineError(
            f"the native engine cannot be used here: {reason}; or choose the engine 'torch'"
        )
    return Engine("native", train_with_native, releases_gil=True)
