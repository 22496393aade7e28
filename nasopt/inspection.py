"""What the chosen network gets wrong on the test images, computed from its weights file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nasopt.data import DataSource, Split, class_names, load_test
from nasopt.model import load_network, predict_probabilities
from nasopt.records import Verification
from nasopt.report.content import Inspection, WrongImage

MAX_WRONG = 12


def inspect_chosen(
    weights: Path, source: DataSource, chosen: Verification | None
) -> Inspection | None:
    """The inspection of the network in the file ``weights``; None if that is not the chosen one.

    Raises:
        DataError: if the file or the data cannot be read.
    """
    if chosen is None or not weights.exists():
        return None
    network = load_network(weights)
    candidate, seed = chosen.candidate, chosen.first_passed
    wanted = (candidate.genome, repr(candidate.lr), repr(candidate.lr_decay), str(seed.seed))
    told = [network.metadata.get(key) for key in ("lr", "lr_decay", "seed")]
    if (network.genome, *told) != wanted:
        return None  # of an earlier choice; the next 'nasopt verify' writes the new one
    names = class_names(source.identity(), network.n_classes)
    return inspect_model(network.model, load_test(source).split, names, seed.replicate)


def inspect_model(model: nn.Module, test: Split, names: tuple[str, ...], seed: int) -> Inspection:
    """The confusion matrix of ``model`` on ``test``, and its most wrong images.

    Args:
        model: from images to logits, one a class.
        test: the images.
        names: of the classes, in order.
        seed: the number of the one that the model was trained from, among those on test.
    """
    probabilities = predict_probabilities(model, test.images)
    predicted = probabilities.argmax(1)
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (test.labels, predicted), 1)
    for_label = probabilities[np.arange(len(test)), test.labels]
    wrong = np.flatnonzero(predicted != test.labels)
    worst = wrong[np.argsort(for_label[wrong], kind="stable")][:MAX_WRONG]
    images = tuple(
        WrongImage(
            index=int(i),
            label=int(test.labels[i]),
            predicted=int(predicted[i]),
            confidence=float(probabilities[i, predicted[i]]),
            for_label=float(for_label[i]),
            pixels=to_pixels(test.images[i]),
        )
        for i in worst
    )
    return Inspection(names, tuple(map(tuple, confusion.tolist())), images, seed)


def to_pixels(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image of shape ``(c, h, w)`` as a picture: ``(h, w, 3)`` for three channels, else its first as ``(h, w)``.

    Images of float32 are stretched from their lowest to their highest value.
    """
    low, high = (0, 255) if image.dtype == np.uint8 else (image.min(), image.max())
    scaled = 255 * (image.astype(np.float64) - low) / max(high - low, 1e-9)
    shown = scaled.transpose(1, 2, 0) if len(image) == 3 else scaled[0]
    return np.ascontiguousarray(np.round(shown).astype(np.uint8))
