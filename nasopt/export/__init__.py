"""Trained networks for use elsewhere: every export is compared with PyTorch before it is written."""

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load

from nasopt.cost import BYTES_PER_VALUE, count_cost
from nasopt.errors import ExportError, SettingsError, UncheckedError
from nasopt.export.c_check import run_header
from nasopt.export.c_header import check_name, make_header, name_from
from nasopt.export.c_memory import plan_memory
from nasopt.export.onnx_file import make_onnx, run_onnx
from nasopt.export.torch_program import make_program, run_program
from nasopt.files import write_whole
from nasopt.model import SavedNetwork, build_model, load_network, pack_weights, run_model

__all__ = ["FORMATS", "Export", "ExportedFile", "choose_formats", "export_network"]

SUFFIXES = {"c": ".h", "onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
FORMATS = tuple(SUFFIXES)
MAX_CHECK_IMAGES, MAX_CHECK_BYTES = 64, 2**26
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file that was written.

    ``max_difference`` is the largest difference of a logit from PyTorch's over ``n_checked`` images; with
    none checked it is None, and ``unchecked`` says why.
    """

    format: str
    path: Path
    n_bytes: int
    n_checked: int
    max_difference: float | None
    unchecked: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """The files of one export, and what the network costs.

    ``flash_bytes`` are the weights, float32. ``ram_bytes`` are image, scratch and logits of the C header;
    ``least_ram_bytes`` the same where the image may be overwritten (:class:`nasopt.export.c_memory.MemoryPlan`).
    """

    genome: str
    n_params: int
    macs: int
    flash_bytes: int
    ram_bytes: int
    least_ram_bytes: int
    files: tuple[ExportedFile, ...]

    def to_json(self) -> dict[str, Any]:
        """The export as plain JSON values."""
        return asdict(self) | {
            "files": [asdict(file) | {"path": str(file.path)} for file in self.files]
        }


def choose_formats(words: Sequence[str]) -> tuple[str, ...]:
    """The formats that ``words`` name, each once; ``all`` names all.

    Raises:
        SettingsError: if a word names none.
    """
    for word in words:
        if word not in (*FORMATS, "all"):
            nearest = difflib.get_close_matches(word, (*FORMATS, "all"), n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise SettingsError(
                f"unknown format {word!r}; {hint}known are {', '.join(FORMATS)} and all"
            )
    return FORMATS if "all" in words else tuple(dict.fromkeys(words))


def export_network(
    path: Path, formats: Sequence[str], folder: Path, name: str | None = None
) -> Export:
    """Writes the network of the weights file ``path`` into ``folder``, in every one of ``formats``.

    Nothing is written before all have been made and compared with PyTorch.

    Args:
        path: a .safetensors file that nasopt wrote.
        formats: from :data:`FORMATS`.
        folder: where the files go; made where needed.
        name: what files and C identifiers begin with; taken from the file's name without it.

    Raises:
        DataError: if the weights cannot be read.
        SettingsError: if the name cannot begin a C identifier.
        ExportError: if an export cannot be made, or computes something else than PyTorch.
        OutputError: if a file cannot be written.
    """
    network = load_network(path)
    name = check_name(name_from(path.stem) if name is None else name)
    cost = count_cost(network.genome, network.image, network.n_classes)
    n_images = min(MAX_CHECK_IMAGES, max(1, MAX_CHECK_BYTES // cost.peak_bytes))
    images = np.random.default_rng(0).random((n_images, *network.image), dtype=np.float32)
    expected = run_model(network.model, images)
    made = []
    for kind in formats:
        content = _make(kind, network, name)
        target = folder / f"{name}{SUFFIXES[kind]}"
        try:
            difference = _compare(kind, _run(kind, content, name, network, images), expected)
        except UncheckedError as error:
            file = ExportedFile(kind, target, len(content), 0, None, str(error))
        else:
            file = ExportedFile(kind, target, len(content), len(images), difference, None)
        made.append((file, content))
    for file, content in made:
        write_whole(file.path, content)
    plan = plan_memory(cost, network.image)
    return Export(
        genome=str(network.genome),
        n_params=cost.n_params,
        macs=cost.macs,
        flash_bytes=BYTES_PER_VALUE * cost.n_params,
        ram_bytes=plan.ram_bytes,
        least_ram_bytes=plan.least_ram_bytes,
        files=tuple(file for file, _ in made),
    )


def _make(kind: str, network: SavedNetwork, name: str) -> bytes:
    match kind:
        case "c":
            return make_header(network, name)
        case "onnx":
            return make_onnx(network)
        case "torch":
            return make_program(network)
        case _:
            return pack_weights(network.model, network.metadata)


def _run(
    kind: str, content: bytes, name: str, network: SavedNetwork, images: NDArray[np.float32]
) -> NDArray[np.float32]:
    match kind:
        case "c":
            return run_header(content, name, images)
        case "onnx":
            return run_onnx(content, images)
        case "torch":
            return run_program(content, images)
        case _:
            model = build_model(network.genome, network.image, network.n_classes)
            model.load_state_dict(load(content))
            return run_model(model, images)


def _compare(kind: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference of a logit, refused where it is more than rounding."""
    difference = float(np.abs(found - expected).max())
    scale = max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE * scale:  # so that NaN is refused too
        raise ExportError(
            f"the export to {kind} differs from PyTorch by {difference:.3g} in a logit, at most {TOLERANCE * scale:.3g} is rounding; "
            "nothing was written, report this as a bug of nasopt"
        )
    return difference
