"""The native engine: nasopt's own kernels, many times faster than PyTorch on networks this small.

The extension ``nasopt.training._native`` is built when nasopt is installed, if a C++ compiler is found; without it
training runs on PyTorch. The kernels are picked at run time for the widest vectors of the CPU; results differ by
rounding between instruction sets. The variable ``NASOPT_NATIVE_ISA`` (generic, avx2 or avx512) forces one.
"""

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasopt.cost import HIDDEN_UNITS
from nasopt.data import Split, TrainVal
from nasopt.errors import EngineError, TooLargeError
from nasopt.genome import ACTIVATIONS, Genome, ImageShape
from nasopt.training.randomness import Weights
from nasopt.training.recipe import EpochResult, Recipe

ISA_VARIABLE = "NASOPT_NATIVE_ISA"
INSTALL_HINT = (
    "install a C++ compiler and Python's headers (on Debian: apt install g++ python3-dev; on macOS: xcode-select --install), "
    "then build it: in a clone by 'rm .venv/.ready && make setup', elsewhere by installing nasopt again with pip's --force-reinstall --no-deps"
)


def _load() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("nasopt.training._native"), ""
    except ImportError as error:
        return None, str(error)


_native, _import_error = _load()


def native_available() -> bool:
    """Whether the native engine can be used here."""
    return why_not_native() is None


def why_not_native() -> str | None:
    """Why the native engine cannot be used here, and what to do; None if it can."""
    if _native is None:
        return (
            f"the extension nasopt.training._native is not there ({_import_error}); {INSTALL_HINT}"
        )
    return None


def native_isas() -> tuple[str, ...]:
    """The instruction sets with kernels that this CPU can run, fastest first."""
    return tuple(_extension().isas())


def lanes_and_peak(isa: str) -> tuple[int, float]:
    """How many images the kernels take at once, and the core's measured peak in GFLOP/s."""
    return _extension().lanes(isa), _extension().measure_peak(isa, 1.0)


def chosen_isa() -> str:
    """The instruction set that training uses: the fastest, unless ``NASOPT_NATIVE_ISA`` forces one.

    Raises:
        EngineError: if the extension is missing, or the forced set cannot run here.
    """
    usable = native_isas()
    forced = os.environ.get(ISA_VARIABLE)
    if not forced:
        return usable[0]
    if forced not in usable:
        raise EngineError(
            f"{ISA_VARIABLE} is {forced!r}, but this machine can run {', '.join(usable)}; choose one or unset it"
        )
    return forced


def train_with_native(
    genome: Genome,
    recipe: Recipe,
    data: TrainVal,
    weights: Weights,
    orders: Iterator[NDArray[np.int64]],
    on_epoch: Callable[[EpochResult], bool],
) -> Weights:
    """The weights after training from ``weights``, one permutation of ``orders`` an epoch.

    ``on_epoch`` is called after every epoch, and ends the training by returning True. Other threads run
    meanwhile; Ctrl-C is noticed within an epoch if this is the main thread.

    Raises:
        GenomeError: if the genome does not fit the images.
        TooLargeError: if the network needs more memory than the engine can address.
        EngineError: if the extension is missing, or it is given arrays of the wrong shape or type.
    """
    network = NativeNetwork(genome, data.shape, data.n_classes, weights)
    for epoch in range(1, recipe.epochs + 1):
        order = next(orders)
        n_steps = recipe.steps_per_epoch(len(order))
        rates = [
            recipe.learning_rate(step, n_steps)
            for step in range((epoch - 1) * n_steps, epoch * n_steps)
        ]
        train_loss, train_accuracy = network.train(data.train, order, rates, recipe)
        loss, accuracy, n_classes = network.evaluate(data.val)
        if on_epoch(EpochResult(epoch, train_loss, train_accuracy, loss, accuracy, n_classes)):
            break
    return network.weights()


class NativeNetwork:
    """A network in the extension's memory, from ``weights`` in PyTorch's order and layout.

    Raises:
        GenomeError: if the genome does not fit the image.
        TooLargeError: if it needs more memory than the engine can address.
        EngineError: if the extension is missing, or the weights are not those of the genome.
    """

    def __init__(
        self, genome: Genome, image: ImageShape, n_classes: int, weights: Weights
    ) -> None:
        extension = _extension()
        genome.feature_maps(image)
        self._shapes = _weight_shapes(genome, image.channels, n_classes)
        found = [array.shape for array in weights]
        if found != self._shapes or any(array.dtype != np.float32 for array in weights):
            raise EngineError(
                f"the weights of {genome} are float32 arrays of shapes {self._shapes}, not {found}"
            )
        layers = [
            (layer.stride, layer.filters, layer.kernel, ACTIVATIONS.index(layer.activation))
            for layer in genome.layers
        ]
        head = (HIDDEN_UNITS, n_classes, ACTIVATIONS.index(genome.final_activation))
        try:
            self._trainer = extension.Trainer(chosen_isa(), tuple(image), layers, head)
        except (
            OverflowError,
            MemoryError,
            ValueError,
        ) as error:  # all but the sizes is checked above
            raise TooLargeError(
                f"{genome} does not fit the native engine ({error}); use fewer filters"
            ) from error
        self._trainer.weights = np.concatenate([array.ravel() for array in weights])

    def train(
        self, split: Split, order: NDArray[np.int64], rates: list[float], recipe: Recipe
    ) -> tuple[float, float]:
        """The running loss and accuracy over one pass through ``split`` in ``order``, one rate a batch."""
        if order.ndim != 1 or len(order) == 0 or order.min() < 0 or order.max() >= len(split):
            raise EngineError(
                f"an order must hold indices of the {len(split)} images, not an array of shape {order.shape}"
            )
        optimizer = (recipe.beta1, recipe.beta2, recipe.eps, recipe.weight_decay)
        loss_sum, n_correct = self._run(
            self._trainer.train,
            *_arrays(split),
            np.ascontiguousarray(order, dtype=np.int64),
            np.array(rates, dtype=np.float64),
            recipe.batch_size,
            optimizer,
            _in_main_thread(),
        )
        return loss_sum / len(order), n_correct / len(order)

    def evaluate(self, split: Split) -> tuple[float, float, int]:
        """The loss, the accuracy and the number of distinct predicted classes on ``split``."""
        loss_sum, n_correct, n_classes = self._run(
            self._trainer.evaluate, *_arrays(split), _in_main_thread()
        )
        return loss_sum / len(split), n_correct / len(split), n_classes

    def gradients(self, split: Split) -> Weights:
        """The gradients of the mean loss over all of ``split``, shaped like the weights."""
        return self._shaped(self._run(self._trainer.gradients, *_arrays(split)))

    def weights(self) -> Weights:
        """The weights as they are now, in PyTorch's order and layout."""
        return self._shaped(self._trainer.weights)

    def time_layer(self, index: int, repeats: int) -> list[float]:
        """Seconds for ``repeats`` runs of a layer's kernels: forward, gradients of its input and weights."""
        return list(self._run(self._trainer.time_layer, index, repeats))

    def _shaped(self, flat: NDArray[np.float32]) -> Weights:
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])[:-1]
        parts = np.split(flat, ends)
        return [
            part.reshape(shape).copy() for part, shape in zip(parts, self._shapes, strict=True)
        ]

    @staticmethod
    def _run(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - the extension is untyped
        try:
            return function(*arguments)
        except (ValueError, TypeError) as error:
            raise EngineError(f"the native engine refused its input: {error}") from error


def _extension() -> ModuleType:
    if _native is None:
        raise EngineError(f"the native engine cannot be used here: {why_not_native()}")
    return _native


def _weight_shapes(genome: Genome, n_channels: int, n_classes: int) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for layer in genome.layers:
        shapes += [(layer.filters, n_channels, layer.kernel, layer.kernel), (layer.filters,)]
        n_channels = layer.filters
    for n_in, n_out in ((n_channels, HIDDEN_UNITS), (HIDDEN_UNITS, n_classes)):
        shapes += [(n_out, n_in), (n_out,)]
    return shapes


def _arrays(split: Split) -> tuple[NDArray[Any], NDArray[np.int64]]:
    labels = np.ascontiguousarray(split.labels, dtype=np.int64)
    return np.ascontiguousarray(split.images), labels


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
