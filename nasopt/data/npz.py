"""Data that users bring: one ``.npz`` file with ``x_train, y_train, x_test, y_test``."""

import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasopt.data.arrays import Split
from nasopt.errors import DataError

NAMES = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3, 4)
# What numpy, zipfile, zlib and Pillow raise for files that are cut off, damaged, or of another kind.
UNREADABLE = (
    *(OSError, ValueError, EOFError, AttributeError, TypeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(
        SyntaxError,
        tokenize.TokenError,
        RuntimeError,
    ),  # a malformed header; a password or method that is not known
    *(struct.error, IndexError),  # a picture's chunk that is too short
)


def read_npz(path: Path) -> tuple[Split, Split]:
    """The training and test images of the file at ``path``.

    Images are ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``. With four axes, channels are last, as Keras
    writes them, unless only the second axis has a usual number of channels (1, 3 or 4). Whole numbers
    from 0 to 255 are divided by 255 for the model; fractional numbers are used as they are.

    Raises:
        DataError: if the file or an array in it cannot be used, saying why.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in NAMES if name not in archive]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; save it with numpy.savez(path, {', '.join(f'{n}=…' for n in NAMES)})"
                )
            x_train, y_train, x_test, y_test = (np.asarray(archive[name]) for name in NAMES)
    except FileNotFoundError as error:
        raise DataError(f"there is no data file {path}; check the path") from error
    except UNREADABLE as error:
        raise DataError(
            f"{path} is not a readable .npz file ({error}); save it again with numpy.savez"
        ) from error
    train, test = _split("train", x_train, y_train), _split("test", x_test, y_test)
    if train.images.dtype != test.images.dtype:
        raise DataError(
            f"x_train is stored as {x_train.dtype} and x_test as {x_test.dtype}: whole numbers are divided by 255, fractional ones are "
            "not, so the two would differ in scale; store both alike"
        )
    if train.shape != test.shape:
        raise DataError(
            f"x_train has images of {train.shape}, x_test of {test.shape}; they must agree"
        )
    if test.labels.max() > train.labels.max():
        raise DataError(
            f"y_test has label {test.labels.max()}, y_train only up to {train.labels.max()}; every class needs training images"
        )
    classes = np.unique(train.labels)
    if len(classes) == 1:
        raise DataError("all labels of y_train are the same; there must be two classes or more")
    absent = np.flatnonzero(classes != np.arange(len(classes)))
    if len(absent):
        raise DataError(
            f"y_train has no image of class {absent[0]}, though of class {classes[-1]}; number the classes from 0 without gaps "
            "(numpy.unique(y, return_inverse=True)[1])"
        )
    return train, test


def _split(part: str, images: NDArray[np.generic], labels: NDArray[np.generic]) -> Split:
    values = _images(f"x_{part}", images), _labels(f"y_{part}", labels)
    try:
        return Split(*values)
    except DataError as error:
        raise DataError(f"x_{part} and y_{part}: {error}") from error


def _images(name: str, values: NDArray[np.generic]) -> NDArray[np.uint8] | NDArray[np.float32]:
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4:
        channels_first = values.shape[1] in CHANNELS and values.shape[3] not in CHANNELS
        values = values if channels_first else values.transpose(0, 3, 1, 2)
    else:
        raise DataError(
            f"{name} has shape {values.shape}; expected (n, height, width), (n, height, width, channels) or (n, channels, height, width)"
        )
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values, dtype=np.float32)
    if np.issubdtype(values.dtype, np.floating):
        return np.ascontiguousarray(values, dtype=np.float32)
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{name} holds {values.dtype}; expected numbers")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise DataError(
            f"{name} holds whole numbers from {values.min()} to {values.max()}; scale them to 0..255, or store float32"
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def _labels(name: str, values: NDArray[np.generic]) -> NDArray[np.int64]:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{name} has shape {values.shape}; expected one class number an image, not one-hot"
        )
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{name} holds {values.dtype}; expected whole class numbers from 0")
    return values.astype(np.int64)
