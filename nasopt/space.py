"""The search space: which genomes are in bounds, how to sample one, and its Optuna parameters.

The parameters are conditional. ``depth`` comes first, then for each layer ``i`` its ``type_i``,
``filters_i``, ``kernel_i`` and ``activation_i``, then ``final_activation``, ``lr`` and ``lr_decay``.
A parameter that leaves no choice (a type forced by the two reductions, a fixed learning rate) does not exist.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nasopt.cost import count_macs, count_params
from nasopt.errors import GenomeError, SettingsError
from nasopt.genome import (
    ACTIVATIONS,
    LAYER_KINDS,
    MAX_KERNEL,
    MIN_KERNEL,
    N_REDUCTIONS,
    ConvLayer,
    Genome,
    ImageShape,
)
from nasopt.records import Candidate

ParamValue = str | int | float


class Suggester(Protocol):
    """The part of ``optuna.Trial`` that sampling needs."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from ``low`` to ``high``, both included."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of ``choices``."""
        ...


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Bounds on the genomes and hyperparameters of a study; every range includes both its ends.

    ``depth`` counts the convolutions, reductions included. A range of equal ends fixes a value.
    ``max_params`` and ``max_macs`` are caps on the size of a network and on its work for one image, or None.

    Raises:
        SettingsError: if no genome can be in bounds.
    """

    image: ImageShape
    n_classes: int
    depth: tuple[int, int] = (2, 6)
    filters: tuple[int, int] = (1, 16)
    kernel: tuple[int, int] = (1, 5)
    activations: tuple[str, ...] = ACTIVATIONS
    final_activations: tuple[str, ...] = ACTIVATIONS
    lr: tuple[float, float] = (2e-3, 1e-1)
    lr_decay: tuple[float, float] = (0.01, 1.0)
    max_params: int | None = None
    max_macs: int | None = None

    def __post_init__(self) -> None:
        for name in ("depth", "filters", "kernel", "lr", "lr_decay"):
            low, high = getattr(self, name)
            if low > high:
                raise SettingsError(
                    f"space.{name} is reversed: {low} is above {high}; write [{high}, {low}]"
                )
        self._check_low("depth", N_REDUCTIONS, "a genome has exactly two RC layers")
        self._check_low("filters", 1, "a layer has at least one filter")
        self._check_low("kernel", MIN_KERNEL, "the smallest kernel is 1x1")
        if self.kernel[1] > MAX_KERNEL:
            raise SettingsError(
                f"space.kernel ends at {self.kernel[1]}; the largest kernel is {MAX_KERNEL}"
            )
        for name in ("lr", "lr_decay"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:  # not a number is refused too
                raise SettingsError(
                    f"space.{name} must be above 0 and finite: it is sampled on a log scale (found [{low}, {high}])"
                )
        for name in ("activations", "final_activations"):
            chosen = getattr(self, name)
            unknown = [a for a in chosen if a not in ACTIVATIONS]
            if unknown or not chosen or len(set(chosen)) < len(chosen):
                raise SettingsError(
                    f"space.{name} must be distinct names of {', '.join(ACTIVATIONS)}, not {list(chosen)}"
                )
        self._check_smallest()

    def _check_low(self, name: str, smallest: int, why: str) -> None:
        low, high = getattr(self, name)
        if low < smallest:
            raise SettingsError(
                f"space.{name} is [{low}, {high}], but {why}; start it at {smallest} or more"
            )

    def _check_smallest(self) -> None:
        low = self.kernel[0]
        smallest = self._narrowest(low, low)
        try:
            smallest.feature_maps(self.image)
        except GenomeError as error:
            raise SettingsError(
                f"space.kernel leaves no room for two reductions of a {self.image} image: {error}"
            ) from error
        reason = self.why_too_large(smallest)
        if reason is None:
            return
        # A larger kernel of a reduction leaves a smaller map, on which later layers cost less.
        narrowest = [self._narrowest(*kernels) for kernels in self._kernels_of_reductions()]
        if all(self.why_too_large(genome) for genome in narrowest):
            fewest = min(count_macs(genome, self.image, self.n_classes) for genome in narrowest)
            hint = "" if self.max_macs is None else f"; no network takes fewer than {fewest} MACs"
            raise SettingsError(
                f"the smallest network of this space is too large: {reason}{hint}; raise that or lower space.depth, "
                "space.filters or space.kernel"
            )

    def _narrowest(self, *kernels: int) -> Genome:
        """The fewest and narrowest layers, the reductions first, with these kernels."""
        filters, low, activation = self.filters[0], self.kernel[0], self.activations[0]
        reductions = [ConvLayer("RC", filters, kernel, activation) for kernel in kernels]
        normal = [ConvLayer("NC", filters, low, activation)] * (self.depth[0] - len(kernels))
        return Genome((*reductions, *normal), self.final_activations[0])

    def _kernels_of_reductions(self) -> Iterator[tuple[int, int]]:
        """All pairs that fit when the reductions come first."""
        low, size = self.kernel[0], min(self.image.height, self.image.width)
        for first in range(low, self.max_kernel("RC", size, 2) + 1):
            left = (size - first) // 2 + 1
            for second in range(low, self.max_kernel("RC", left, 1) + 1):
                yield first, second

    def why_too_large(self, genome: Genome, n_params: int | None = None) -> str | None:
        """Which cap ``genome``, whose ``n_params`` may be known, exceeds, in words; None if it exceeds none."""
        if self.max_params is not None:
            n_params = self.n_params(genome) if n_params is None else n_params
            if n_params > self.max_params:
                return f"{n_params} parameters are more than space.max_params = {self.max_params}"
        if self.max_macs is not None:
            macs = count_macs(genome, self.image, self.n_classes)
            if macs > self.max_macs:
                return f"{macs} MACs are more than space.max_macs = {self.max_macs}"
        return None

    def suggest(self, trial: Suggester) -> Candidate:
        """The candidate that ``trial`` chooses, always in bounds but for the caps."""
        depth = _suggest_int(trial, "depth", *self.depth)
        layers: list[ConvLayer] = []
        sizes = [min(self.image.height, self.image.width)]
        n_reductions = 0
        for i in range(depth):
            kind = self._suggest_kind(trial, i, depth - i, N_REDUCTIONS - n_reductions)
            filters = _suggest_int(trial, f"filters_{i}", *self.filters, log=True)
            kernel = _suggest_int(
                trial,
                f"kernel_{i}",
                self.kernel[0],
                self.max_kernel(kind, sizes[-1], N_REDUCTIONS - n_reductions),
            )
            activation = _suggest_one(trial, f"activation_{i}", self.activations)
            layers.append(ConvLayer(kind, filters, kernel, activation))
            sizes.append(layers[-1].output_size(sizes[-1]))
            n_reductions += kind == "RC"
        final_activation = _suggest_one(trial, "final_activation", self.final_activations)
        return Candidate(
            Genome(tuple(layers), final_activation),
            lr=_suggest_float(trial, "lr", *self.lr),
            lr_decay=_suggest_float(trial, "lr_decay", *self.lr_decay),
        )

    def _suggest_kind(self, trial: Suggester, i: int, n_left: int, n_reductions_left: int) -> str:
        if n_reductions_left == 0:
            return "NC"
        if n_reductions_left == n_left:
            return "RC"
        return trial.suggest_categorical(f"type_{i}", LAYER_KINDS)

    def max_kernel(self, kind: str, size: int, n_reductions_left: int) -> int:
        """The largest kernel that fits a map of ``size`` and leaves room for the reductions to come."""
        high = self.kernel[1]
        if kind == "RC":
            needed = self.kernel[0] if n_reductions_left > 1 else 1
            while (size - high) // 2 + 1 < needed:
                high -= 1
        return high

    def to_params(self, candidate: Candidate) -> dict[str, ParamValue]:
        """The Optuna parameters of ``candidate``: those that make :meth:`suggest` return it.

        Raises:
            GenomeError: if the candidate is not in this space.
        """
        self._check_fixed(candidate)
        genome = candidate.genome
        values: dict[str, ParamValue] = {
            "depth": len(genome.layers),
            "final_activation": genome.final_activation,
            "lr": candidate.lr,
            "lr_decay": candidate.lr_decay,
        }
        for i, layer in enumerate(genome.layers):
            values |= {
                f"type_{i}": layer.kind,
                f"filters_{i}": layer.filters,
                f"kernel_{i}": layer.kernel,
                f"activation_{i}": layer.activation,
            }
        genome.feature_maps(self.image)  # says what does not fit
        replay = _Fixed(values)
        if self.suggest(replay) != candidate:
            raise GenomeError(f"{genome} is outside of the space")
        return replay.asked

    def _check_fixed(self, candidate: Candidate) -> None:
        """Refuses what differs from a value that the space fixes, which no parameter stands for."""
        layers = candidate.genome.layers
        found: dict[str, Sequence[ParamValue]] = {
            "depth": [len(layers)],
            "filters": [layer.filters for layer in layers],
            "kernel": [layer.kernel for layer in layers],
            "activations": [layer.activation for layer in layers],
            "final_activations": [candidate.genome.final_activation],
            "lr": [candidate.lr],
            "lr_decay": [candidate.lr_decay],
        }
        for name, values in found.items():
            fixed, *others = set(getattr(self, name))
            strange = [value for value in values if value != fixed]
            if strange and not others:
                leave = "leave it out, or " if name in ("lr", "lr_decay") else ""
                raise GenomeError(
                    f"{name} {strange[0]}, but space.{name} is fixed at {fixed}; {leave}widen space.{name}"
                )

    def from_params(self, params: Mapping[str, ParamValue]) -> Candidate:
        """The candidate of a trial's Optuna parameters.

        Raises:
            GenomeError: if a parameter is missing or out of bounds.
        """
        return self.suggest(_Fixed(params))

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A random candidate, every choice uniform on its scale."""
        return self.suggest(_Random(rng))

    def n_params(self, genome: Genome) -> int:
        """The parameters of ``genome`` on this space's images."""
        return count_params(genome, self.image.channels, self.n_classes)


def _suggest_int(trial: Suggester, name: str, low: int, high: int, *, log: bool = False) -> int:
    return low if low == high else trial.suggest_int(name, low, high, log=log)


def _suggest_float(trial: Suggester, name: str, low: float, high: float) -> float:
    return low if low == high else trial.suggest_float(name, low, high, log=True)


def _suggest_one(trial: Suggester, name: str, choices: tuple[str, ...]) -> str:
    return choices[0] if len(choices) == 1 else trial.suggest_categorical(name, choices)


class _Random:
    """Chooses uniformly, on a log scale where asked to."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def suggest_int(self, _name: str, low: int, high: int, *, log: bool = False) -> int:
        if log:  # as Optuna does: whole numbers own the interval of half a unit around them
            value = np.exp(self._rng.uniform(np.log(low - 0.5), np.log(high + 0.5)))
            return int(np.clip(np.rint(value), low, high))
        return int(self._rng.integers(low, high + 1))

    def suggest_float(self, _name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(np.clip(np.exp(self._rng.uniform(np.log(low), np.log(high))), low, high))
        return float(self._rng.uniform(low, high))

    def suggest_categorical(self, _name: str, choices: Sequence[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]


class _Fixed:
    """Chooses what a mapping of parameters says, and keeps those that it was asked for."""

    def __init__(self, params: Mapping[str, ParamValue]) -> None:
        self._params = params
        self.asked: dict[str, ParamValue] = {}

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:  # noqa: ARG002
        return int(self._within(name, low, high))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002
        return self._within(name, low, high)

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        value = self._get(name)
        if value not in choices:
            raise GenomeError(f"{name} is {value!r}, outside of the space's {', '.join(choices)}")
        return str(value)

    def _within(self, name: str, low: float, high: float) -> float:
        value = self._get(name)
        if isinstance(value, str) or not low <= value <= high:
            raise GenomeError(f"{name} is {value!r}, outside of the space's {low} to {high}")
        return value

    def _get(self, name: str) -> ParamValue:
        if name not in self._params:
            raise GenomeError(f"the parameter {name} is missing")
        self.asked[name] = self._params[name]
        return self._params[name]
