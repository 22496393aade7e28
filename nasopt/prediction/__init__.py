"""What a trained network says to images, for a look."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasopt.data import FASHION_MNIST, DataSource, class_names, content_of, load_test
from nasopt.errors import DataError, SettingsError
from nasopt.model import SavedNetwork, predict_probabilities
from nasopt.prediction.images import ModelInput, read_image, warn_of_bright_backgrounds

__all__ = ["Prediction", "predict_files", "predict_test"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image's answer: the class, the probability of every class, and what was done to the image."""

    image: str
    class_number: int
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    notes: tuple[str, ...]
    true_class: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The prediction as plain JSON values."""
        pairs = zip(self.class_names, self.probabilities, strict=True)
        document: dict[str, Any] = {
            "image": self.image,
            "class": self.class_number,
            "class_name": self.class_names[self.class_number],
            "probabilities": dict(pairs),
            "notes": list(self.notes),
        }
        if self.true_class is not None:
            document["true_class"] = self.true_class
        return document


def predict_files(
    network: SavedNetwork, paths: Sequence[Path], *, invert: bool = False
) -> list[Prediction]:
    """What ``network`` says to pictures or ``.npy`` arrays, turned into its channels and size.

    Raises:
        SettingsError: if there are no paths.
        DataError: if a file cannot be used.
    """
    if not paths:
        raise SettingsError("give at least one image, or --test N for the first N test images")
    pixels = network.metadata.get("pixels", "uint8")
    inputs = [read_image(path, network.image, pixels=pixels, invert=invert) for path in paths]
    if network.metadata.get("data") == FASHION_MNIST:
        inputs = warn_of_bright_backgrounds(inputs, inverted=invert)
    return _predict(network, inputs, [None] * len(inputs))


def predict_test(network: SavedNetwork, n_images: int, source: str | None) -> list[Prediction]:
    """What ``network`` says to the first ``n_images`` test images of its data, with the true classes.

    Args:
        network: the network.
        n_images: at least 1; all where there are fewer.
        source: where the data lie; not needed for Fashion-MNIST.

    Raises:
        DataError: if the data cannot be read, or are not those that the network was trained on.
    """
    trained_on = network.metadata.get("data")
    if source is None and trained_on != FASHION_MNIST:
        raise DataError(
            f"the network was trained on {trained_on or 'data that its file does not name'}; say with --data where they lie"
        )
    parsed = DataSource.parse(FASHION_MNIST if source is None else source)
    if trained_on is not None and content_of(parsed.identity()) != content_of(trained_on):
        raise DataError(
            f"the network was trained on {trained_on}, but these are {parsed.identity()}; name the same data with --data"
        )
    test = load_test(parsed).split
    if test.shape != network.image:
        raise DataError(
            f"the network wants images of {network.image}, those of {parsed} are {test.shape}; name its own data"
        )
    values = test.images[:n_images].astype(np.float32)
    if test.images.dtype == np.uint8:
        values /= np.float32(255)
    inputs = [ModelInput(f"test {i}", image) for i, image in enumerate(values)]
    return _predict(network, inputs, [int(label) for label in test.labels[:n_images]])


def _predict(
    network: SavedNetwork, inputs: Sequence[ModelInput], true_classes: Sequence[int | None]
) -> list[Prediction]:
    names = class_names(network.metadata.get("data", ""), network.n_classes)
    rows = predict_probabilities(network.model, np.stack([image.values for image in inputs]))
    return [
        Prediction(
            image=image.name,
            class_number=int(row.argmax()),
            class_names=names,
            probabilities=tuple(row.tolist()),
            notes=image.notes,
            true_class=label,
        )
        for image, row, label in zip(inputs, rows, true_classes, strict=True)
    ]
