"""One architecture as a frozen value: parse, validate, format.

The grammar is a list of parts that end in ``;``::

    NC 10 2 sigmoid;RC 10 3 relu;RC 10 3 relu;FL relu;

``NC`` is a normal convolution (stride 1, padding same), ``RC`` a reduction convolution (stride 2,
padding valid); each has a number of filters, a kernel size and an activation. There are exactly two
``RC``. ``FL`` comes last and names the one activation of the final layers.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from nasopt.errors import GenomeError

LAYER_KINDS = ("NC", "RC")
ACTIVATIONS = ("relu", "sigmoid", "tanh", "swish", "gelu")
MIN_KERNEL = 1
MAX_KERNEL = 7
N_REDUCTIONS = 2
EXAMPLE = "NC 10 2 sigmoid;RC 10 3 relu;RC 10 3 relu;FL relu;"


class ImageShape(NamedTuple):
    """The shape of one image or feature map; prints as ``CxHxW``."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"

    @property
    def n_values(self) -> int:
        """How many numbers it holds."""
        return self.channels * self.height * self.width

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shape written as ``CxHxW``.

        Raises:
            GenomeError: if it is not three whole numbers of at least 1.
        """
        words = text.split("x")
        if len(words) != 3 or not all(re.fullmatch("0*[1-9][0-9]{0,17}", w) for w in words):
            raise GenomeError(
                f"an image shape is channels x height x width, like 1x28x28, not {text!r}"
            )
        return cls(*(int(word) for word in words))


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """One convolution of a genome.

    Raises:
        GenomeError: if a field is outside the space.
    """

    kind: str
    filters: int
    kernel: int
    activation: str

    def __post_init__(self) -> None:
        if self.kind not in LAYER_KINDS:
            raise GenomeError(
                f"unknown layer type {self.kind!r}; {_did_you_mean(self.kind, LAYER_KINDS)}"
            )
        if self.filters < 1:
            raise GenomeError(
                f"filters must be at least 1, not {self.filters}; write for example '{self.kind} 1 3 relu'"
            )
        if not MIN_KERNEL <= self.kernel <= MAX_KERNEL:
            raise GenomeError(
                f"kernel must be from {MIN_KERNEL} to {MAX_KERNEL}, not {self.kernel}; "
                "the kernel is the second number, after the filters"
            )
        _check_activation(self.activation)

    def __str__(self) -> str:
        return f"{self.kind} {self.filters} {self.kernel} {self.activation}"

    @property
    def stride(self) -> int:
        """1 for a normal, 2 for a reduction convolution."""
        return 1 if self.kind == "NC" else 2

    def output_size(self, size: int) -> int:
        """Height or width after this layer for an input of ``size`` pixels; below 1 if it does not fit."""
        return size if self.kind == "NC" else (size - self.kernel) // 2 + 1


@dataclass(frozen=True, slots=True)
class Genome:
    """A sequential network of the space; ``str(genome)`` is its canonical form.

    Raises:
        GenomeError: if there are not exactly two ``RC`` layers, or an activation is unknown.
    """

    layers: tuple[ConvLayer, ...]
    final_activation: str

    def __post_init__(self) -> None:
        n_reductions = [layer.kind for layer in self.layers].count("RC")
        if n_reductions != N_REDUCTIONS:
            raise GenomeError(
                f"a genome has exactly {N_REDUCTIONS} RC layers, this one has {n_reductions}; "
                + (
                    "add an RC layer"
                    if n_reductions < N_REDUCTIONS
                    else "turn the extra RC into NC or remove it"
                )
            )
        _check_activation(self.final_activation)

    def __str__(self) -> str:
        return "".join(f"{layer};" for layer in self.layers) + f"FL {self.final_activation};"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The genome written in ``text``; extra spaces and a missing last ``;`` are accepted.

        Raises:
            GenomeError: naming the part, its position, what was expected and how to mend it.
        """
        parts = [part.split() for part in text.split(";")]
        if not parts[-1]:
            parts.pop()
        if not parts:
            raise GenomeError(f"the genome is empty; write one like {EXAMPLE!r}")
        for position, words in enumerate(parts, start=1):
            if not words:
                raise GenomeError(f"part {position} is empty; remove the extra ';'")
            if words[0] == "FL" and position < len(parts):
                raise GenomeError(
                    f"part {position} ({' '.join(words)!r}): FL must be the last part, but "
                    f"{len(parts) - position} follow; move it to the end"
                )
        if parts[-1][0] != "FL":
            # A slip in a layer's type is reported as such before a missing FL.
            _parse_layers(parts)
            raise GenomeError(
                f"part {len(parts)} ({' '.join(parts[-1])!r}): the last part must be FL with the final "
                "activation; add for example 'FL relu;'"
            )
        layers = _parse_layers(parts[:-1])
        with _located(len(parts), parts[-1]):
            if len(parts[-1]) != 2:
                raise GenomeError("FL takes one activation; write for example 'FL relu'")
            _check_activation(parts[-1][1])
        return cls(layers, parts[-1][1])

    def feature_maps(self, image: ImageShape) -> tuple[ImageShape, ...]:
        """The feature map after every convolution, for input images of shape ``image``.

        Raises:
            GenomeError: if the kernel of an ``RC`` exceeds the feature map that it meets.
        """
        shapes: list[ImageShape] = []
        height, width = image.height, image.width
        for position, layer in enumerate(self.layers, start=1):
            if layer.kind == "RC" and layer.kernel > min(height, width):
                raise GenomeError(
                    f"part {position} ({str(layer)!r}): the kernel {layer.kernel} of this RC exceeds its input, "
                    f"a {height}x{width} feature map; use a kernel of at most {min(height, width)} here"
                    + (" or a smaller kernel in the RC before it" if shapes else "")
                )
            height, width = layer.output_size(height), layer.output_size(width)
            shapes.append(ImageShape(layer.filters, height, width))
        return tuple(shapes)


class _located:  # noqa: N801 - a context manager, used like a function
    """Puts the position and the text of a part in front of a GenomeError raised inside."""

    def __init__(self, position: int, words: list[str]) -> None:
        self._prefix = f"part {position} ({' '.join(words)!r}): "

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, GenomeError):
            raise GenomeError(self._prefix + str(error)) from None


def _parse_layers(parts: Iterable[list[str]]) -> tuple[ConvLayer, ...]:
    layers = []
    for position, words in enumerate(parts, start=1):
        with _located(position, words):
            layers.append(_parse_layer(words))
    return tuple(layers)


def _parse_layer(words: list[str]) -> ConvLayer:
    kind = words[0]
    if kind not in LAYER_KINDS:
        raise GenomeError(
            f"unknown layer type {kind!r}; {_did_you_mean(kind, (*LAYER_KINDS, 'FL'))}"
        )
    if len(words) != 4:
        raise GenomeError(
            f"{kind} takes 3 values (filters, kernel, activation), not {len(words) - 1}; write for example '{kind} 10 3 relu'"
        )
    return ConvLayer(
        kind, _parse_int("filters", words[1]), _parse_int("kernel", words[2]), words[3]
    )


def _parse_int(name: str, word: str) -> int:
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise GenomeError(f"{name} must be a whole number, not {word!r}; write for example 3")
    return int(word)


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise GenomeError(f"unknown activation {name!r}; {_did_you_mean(name, ACTIVATIONS)}")


def _did_you_mean(word: str, known: tuple[str, ...]) -> str:
    folded = {name.casefold(): name for name in known}
    nearest = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[nearest[0]]!r}? " if nearest else ""
    return f"{hint}known are {', '.join(known)}"
