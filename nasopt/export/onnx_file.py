"""One network as ONNX, with its weights inside and any number of images at a time."""

import importlib

import numpy as np
import torch
from numpy.typing import NDArray

from nasopt.errors import ExportError, UncheckedError
from nasopt.model import SavedNetwork

INSTALL = "install the extra, in a clone of nasopt: pip install '.[onnx]'"
INPUT, OUTPUT = "image", "logits"


def make_onnx(network: SavedNetwork) -> bytes:
    """The ONNX model: input ``image`` ``(n, c, h, w)``, output ``logits``; the file's header as metadata.

    Raises:
        ExportError: if the packages for it are not installed.
    """
    try:
        for name in ("onnx", "onnxscript"):  # torch needs both
            importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"the format onnx needs the packages onnx and onnxscript ({error}); {INSTALL}"
        ) from error
    example = torch.zeros(2, *network.image)
    try:
        program = torch.onnx.export(
            network.model,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"PyTorch could not write ONNX ({error}); update the packages, in a clone of nasopt: pip install -U '.[onnx]'"
        ) from error
    assert program is not None  # it is, since no path was given
    program.model.metadata_props.update(network.metadata)
    content: bytes = program.model_proto.SerializeToString()
    return content


def run_onnx(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits that onnxruntime computes.

    Raises:
        UncheckedError: if onnxruntime is not installed.
        ExportError: if it cannot run the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UncheckedError(f"onnxruntime is not installed; {INSTALL}") from error
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        logits: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
    except Exception as error:  # onnxruntime's own errors share no other base
        raise ExportError(
            f"onnxruntime {onnxruntime.__version__} cannot run the ONNX file ({error}); update the packages, "
            "in a clone of nasopt: pip install -U '.[onnx]'"
        ) from error
    return logits
