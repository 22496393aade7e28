"""One network as a ``torch.export`` program (.pt2), which PyTorch runs without nasopt."""

import io
import json

import numpy as np
import torch
from numpy.typing import NDArray

from nasopt.model import SavedNetwork, run_model

METADATA_NAME = "nasopt.json"


def make_program(network: SavedNetwork) -> bytes:
    """The program, for any number of images at a time; the file's header as the extra file ``nasopt.json``."""
    example = torch.zeros(2, *network.image)
    program = torch.export.export(
        network.model, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    content = io.BytesIO()
    metadata = json.dumps(dict(network.metadata))
    torch.export.save(program, content, extra_files={METADATA_NAME: metadata})
    return content.getvalue()


def run_program(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits that the program computes."""
    return run_model(torch.export.load(io.BytesIO(content)).module(), images)
