"""Images and labels in memory, and the types that keep test data away from a search.

``n`` is the number of images; ``c``, ``h`` and ``w`` are channels, height and width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasopt.errors import DataError
from nasopt.genome import ImageShape

SPLIT_SEED = 0
VAL_SHARE = 1 / 6


@dataclass(frozen=True, slots=True)
class Split:
    """Images, shape ``(n, c, h, w)``, with labels, shape ``(n,)``, int64 from 0.

    Images are uint8 (a model sees them divided by 255) or float32 (a model sees them as they are).

    Raises:
        DataError: if the two do not belong together, or a value is not usable.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"images must be uint8 or float32 of shape (n, channels, height, width), "
                f"not {self.images.dtype} of shape {self.images.shape}"
            )
        if 0 in self.images.shape[1:]:
            raise DataError(
                f"images have the shape {self.shape} (channels x height x width), without a pixel; give at least one"
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(f"labels must be whole numbers, not {self.labels.dtype}")
        if self.labels.shape != (len(self.images),):
            raise DataError(
                f"{len(self.images)} images need as many labels, got labels of shape {self.labels.shape}"
            )
        if len(self.images) == 0:
            raise DataError("there are no images in the split; give at least one")
        if self.labels.min() < 0:
            raise DataError(f"labels must count from 0, found {self.labels.min()}")
        if self.images.dtype == np.float32 and not np.isfinite(self.images).all():
            raise DataError("the images hold NaN or infinite values; replace them before training")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> ImageShape:
        """The shape of one image."""
        return ImageShape(*self.images.shape[1:])


@dataclass(frozen=True, slots=True)
class TrainVal:
    """All that a search may see: training and validation images.

    Raises:
        DataError: if a label has no place among ``n_classes``, or shapes or types of pixels differ.
    """

    train: Split
    val: Split
    n_classes: int

    def __post_init__(self) -> None:
        if self.train.shape != self.val.shape:
            raise DataError(
                f"training images are {self.train.shape}, validation images {self.val.shape}"
            )
        types = [split.images.dtype for split in (self.train, self.val)]
        if types[0] != types[1]:
            raise DataError(
                f"training images are {types[0]}, validation images {types[1]}; give both in one type"
            )
        _check_labels(self.train, self.n_classes, "training")
        _check_labels(self.val, self.n_classes, "validation")

    @property
    def shape(self) -> ImageShape:
        """The shape of one image."""
        return self.train.shape

    def all(self) -> Split:
        """Training and validation images together, for the final training."""
        return Split(
            np.concatenate([self.train.images, self.val.images]),
            np.concatenate([self.train.labels, self.val.labels]),
        )


@dataclass(frozen=True, slots=True)
class Test:
    """Test images: opened by the final verification, accepted by no part of a search."""

    __test__ = False  # not a test class, whatever its name tells pytest

    split: Split


def split_train_val(data: Split, n_classes: int) -> TrainVal:
    """``data`` split once and for all, stratified by class; the same data give the same split.

    Raises:
        DataError: if a class has too few images to be in both parts.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    in_val = np.zeros(len(data), dtype=bool)
    for label in range(n_classes):
        members = np.flatnonzero(data.labels == label)
        n_val = round(len(members) * VAL_SHARE)
        if len(members) and not 0 < n_val < len(members):
            raise DataError(
                f"class {label} has only {len(members)} training images; give it at least 4"
            )
        in_val[rng.permutation(members)[:n_val]] = True
    return TrainVal(_select(data, ~in_val), _select(data, in_val), n_classes)


def _select(data: Split, mask: NDArray[np.bool_]) -> Split:
    return Split(data.images[mask], data.labels[mask])


def _check_labels(split: Split, n_classes: int, name: str) -> None:
    if split.labels.max() >= n_classes:
        raise DataError(
            f"a {name} label is {split.labels.max()}, but there are {n_classes} classes (labels count from 0)"
        )
