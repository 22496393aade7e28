"""From a genome to the PyTorch network, and from a network to a weights file and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from scipy.special import softmax
from torch import nn

from nasopt.cost import HIDDEN_UNITS, images_at_once
from nasopt.errors import DataError, GenomeError
from nasopt.files import write_whole
from nasopt.genome import ConvLayer, Genome, ImageShape

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
}

Weights = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """A network read from its file, with all that stands in the file's header."""

    genome: Genome
    image: ImageShape
    n_classes: int
    model: nn.Module
    metadata: Mapping[str, str]

    @property
    def weights(self) -> list[NDArray[np.float32]]:
        """The parameters in PyTorch's order and layout: weight and bias, layer after layer."""
        return [parameter.detach().numpy() for parameter in self.model.parameters()]


def build_model(
    genome: Genome, image: ImageShape, n_classes: int, weights: Weights | None = None
) -> nn.Module:
    """The network of ``genome``, from images ``(n, c, h, w)`` to logits ``(n, n_classes)``.

    The final activation stands on the logits too, as the task defines it.

    Args:
        genome: the architecture.
        image: the shape of one image.
        n_classes: the number of classes.
        weights: one array a parameter, in the order of ``model.parameters()``; PyTorch's own
            initialisation without it.

    Raises:
        GenomeError: if the genome does not fit the image.
    """
    genome.feature_maps(image)
    modules: list[nn.Module] = []
    n_channels = image.channels
    for layer in genome.layers:
        modules += _conv(n_channels, layer)
        n_channels = layer.filters
    final = ACTIVATION_MODULES[genome.final_activation]
    modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    modules += [
        nn.Linear(n_channels, HIDDEN_UNITS),
        final(),
        nn.Linear(HIDDEN_UNITS, n_classes),
        final(),
    ]
    model = nn.Sequential(*modules)
    if weights is not None:
        load_weights(model, weights)
    return model


def _conv(n_channels: int, layer: ConvLayer) -> list[nn.Module]:
    activation = ACTIVATION_MODULES[layer.activation]()
    if layer.kind == "RC":
        return [nn.Conv2d(n_channels, layer.filters, layer.kernel, stride=2), activation]
    if layer.kernel % 2:
        return [
            nn.Conv2d(n_channels, layer.filters, layer.kernel, padding=layer.kernel // 2),
            activation,
        ]
    # An even kernel pads one more on the right and at the bottom.
    before, after = (layer.kernel - 1) // 2, layer.kernel // 2
    return [
        nn.ZeroPad2d((before, after, before, after)),
        nn.Conv2d(n_channels, layer.filters, layer.kernel),
        activation,
    ]


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copies ``weights`` into ``model``, in the order of ``model.parameters()``.

    Raises:
        ValueError: if the number of arrays or a shape differs.
    """
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), weights, strict=True):
            if parameter.shape != array.shape:
                raise ValueError(
                    f"a parameter has shape {tuple(parameter.shape)}, its weights {array.shape}"
                )
            parameter.copy_(
                torch.from_numpy(np.array(array))
            )  # what Ray brought cannot be written


def pack_weights(model: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """The model's parameters as the content of a safetensors file, with ``metadata`` in the header."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    return save(state, dict(metadata))


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Writes the model's parameters to ``path`` as safetensors, with ``metadata`` in the header.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_whole(path, pack_weights(model, metadata))


def read_metadata(path: Path) -> dict[str, str]:
    """What :func:`save_weights` wrote in the header of the file at ``path``, sorted by key.

    Raises:
        DataError: if the file is missing or unreadable.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(sorted((file.metadata() or {}).items()))  # the library's order is random
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path} is not a readable .safetensors file ({error}); write it with 'nasopt verify'"
        ) from error


def load_network(path: Path) -> SavedNetwork:
    """The network that :func:`save_weights` wrote with its genome, image shape and number of classes.

    Raises:
        DataError: if the file is missing, unreadable or not written by nasopt.
    """
    metadata = read_metadata(path)
    missing = [key for key in ("genome", "image", "n_classes") if key not in metadata]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)} in its header; nasopt can only open files that it wrote"
        )
    try:
        genome, image = Genome.parse(metadata["genome"]), ImageShape.parse(metadata["image"])
        n_classes = int(metadata["n_classes"])
        model = build_model(genome, image, n_classes)
        model.load_state_dict(load_file(path))
    except (GenomeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"the header of {path} does not fit its weights ({reason}); write it again with 'nasopt verify'"
        ) from error
    return SavedNetwork(genome, image, n_classes, model.eval(), metadata)


def run_model(model: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits, shape ``(n, n_classes)``, of float images ``(n, c, h, w)`` as the model sees them."""
    # As in training: oneDNN has corrupted memory on networks of the space.
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
    return logits


def predict_probabilities(
    model: nn.Module, images: NDArray[np.uint8] | NDArray[np.float32]
) -> NDArray[np.float64]:
    """The probability of every class, shape ``(n, n_classes)``, for ``images`` as data sets hold them, uint8 or float32."""
    parts = []
    batch = images_at_once(*images.shape[2:])
    for start in range(0, len(images), batch):
        values = images[start : start + batch].astype(np.float32)
        if images.dtype == np.uint8:
            values /= np.float32(255)
        parts.append(softmax(run_model(model, values).astype(np.float64), axis=1))
    return np.concatenate(parts)
