"""Pictures and arrays as one network wants to see them; whatever is changed on the way is said.

``c``, ``h`` and ``w`` are the channels, height and width of the network's images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nasopt.data.npz import UNREADABLE
from nasopt.errors import DataError
from nasopt.genome import ImageShape

FORMATS = ("PNG", "JPEG")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
READABLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
COLOURLESS = ("1", "L", "LA")
PIXEL_MAX = 255


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One image as a network sees it: ``values`` ``(c, h, w)``, and what was done to it."""

    name: str
    values: NDArray[np.float32]
    notes: tuple[str, ...] = ()


def read_image(path: Path, shape: ImageShape, *, pixels: str, invert: bool = False) -> ModelInput:
    """The image of ``path``, a picture or an ``.npy`` array, for a network of images of ``shape``.

    Args:
        path: the file.
        shape: the network's images.
        pixels: what the network was trained on: ``uint8`` (its images are divided by 255) or ``float32``.
        invert: whether to turn black into white.

    Raises:
        DataError: if the file cannot be read, or made into such an image without guessing.
    """
    if path.suffix == ".npy":
        image = _from_array(path, _read_array(path), shape, pixels)
    else:
        picture = _read_picture(path)
        if pixels != "uint8":
            raise DataError(
                f"{path} is a picture, but the network was trained on numbers of another scale than pixels; "
                "scale it like the training images and save it with numpy.save"
            )
        image = _from_picture(path, picture, shape)
    if not invert:
        return image
    if pixels != "uint8":
        raise DataError(
            "only pixels can be inverted, this network was trained on other numbers; leave --invert out"
        )
    return ModelInput(image.name, np.float32(1) - image.values, (*image.notes, "inverted"))


def _read_picture(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            return ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise DataError(f"there is no image {path}; check the path") from error
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is not a readable picture ({error}); give a PNG, a JPEG or an .npy file"
        ) from error


def _read_array(path: Path) -> NDArray[np.generic]:
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"there is no image {path}; check the path") from error
    except UNREADABLE as error:
        raise DataError(
            f"{path} is not a readable .npy file ({error}); save it again with numpy.save"
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif" or not values.size:
        raise DataError(
            f"{path} does not hold one array of numbers; save it again with numpy.save"
        )
    return values


def _from_array(
    path: Path, values: NDArray[np.generic], shape: ImageShape, pixels: str
) -> ModelInput:
    fractional = values.dtype.kind in "bf"
    if not fractional and pixels != "uint8":
        raise DataError(
            f"{path} holds whole numbers, but the network was trained on fractional ones; scale them like the training images"
        )
    if not fractional and not (values.min() >= 0 and values.max() <= PIXEL_MAX):
        raise DataError(
            f"{path} holds whole numbers outside of 0 to {PIXEL_MAX}; scale them to that"
        )
    fitting = _fit(values, shape)
    if fitting is None:
        if fractional or values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,), (4,)):
            raise DataError(
                f"{path} has shape {values.shape}, the network wants {shape} (channels x height x width); reshape it"
            )
        picture = Image.fromarray(values.astype(np.uint8))
        return _from_picture(path, picture, shape)
    result = np.ascontiguousarray(fitting, dtype=np.float32)
    if not np.isfinite(result).all():
        raise DataError(f"{path} holds NaN or infinite values; replace them")
    if not fractional:
        return ModelInput(str(path), result / np.float32(PIXEL_MAX))
    outside = pixels == "uint8" and (result.min() < 0 or result.max() > 1)
    notes = ("holds values outside of 0 to 1, which the network never saw",) if outside else ()
    return ModelInput(str(path), result, notes)


def _fit(values: NDArray[np.generic], shape: ImageShape) -> NDArray[np.generic] | None:
    """``values`` as ``(c, h, w)`` if they have that shape, without one channel, or with channels last."""
    if values.shape == tuple(shape):
        return values
    if shape.channels == 1 and values.shape == shape[1:]:
        return values[None]
    if values.shape == (*shape[1:], shape.channels):
        return values.transpose(2, 0, 1)
    return None


def _from_picture(path: Path, picture: Image.Image, shape: ImageShape) -> ModelInput:
    if shape.channels not in MODES:
        raise DataError(
            f"{path} is a picture, the network wants {shape.channels} channels; give an .npy file of shape {tuple(shape)}"
        )
    if picture.mode not in READABLE:
        raise DataError(
            f"{path} is a picture of mode {picture.mode}, with more than 8 bits a channel; save it with 8, or scaled to 0..1 as .npy"
        )
    notes: list[str] = []
    mode = MODES[shape.channels]
    if mode != "RGBA" and ("A" in picture.getbands() or "transparency" in picture.info):
        notes.append("transparency dropped")
    if mode == "L" and picture.mode not in COLOURLESS:
        notes.append("colours turned into grey")
    if mode != "L" and picture.mode in COLOURLESS:
        notes.append("grey spread over the colours")
    picture = picture.convert(mode)
    size = (shape.width, shape.height)
    if picture.size != size:
        width, height = picture.size
        stretched = width * shape.height != height * shape.width
        notes.append(
            f"resized from {height}x{width} to {shape.height}x{shape.width} (height x width)"
            + (", which changes its proportions" if stretched else "")
        )
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(picture, dtype=np.float32).reshape(*shape[1:], shape.channels)
    values = np.ascontiguousarray(values.transpose(2, 0, 1)) / np.float32(PIXEL_MAX)
    return ModelInput(str(path), values, tuple(notes))


def warn_of_bright_backgrounds(
    images: Sequence[ModelInput], *, inverted: bool
) -> list[ModelInput]:
    """The images, with a note on those whose border is brighter than grey, as Fashion-MNIST's never is."""
    change = "leave --invert out" if inverted else "try --invert"
    advice = f"has a bright background, Fashion-MNIST's is black: {change}"
    return [
        ModelInput(image.name, image.values, (*image.notes, advice))
        if _is_bright(image)
        else image
        for image in images
    ]


def _is_bright(image: ModelInput) -> bool:
    rows, columns = image.values[:, [0, -1], :], image.values[:, :, [0, -1]]
    return float(np.concatenate([rows.ravel(), columns.ravel()]).mean()) > 0.5
