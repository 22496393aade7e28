"""Images as PNG data URIs, so that a page holds them itself."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_data_uri(pixels: NDArray[np.uint8]) -> str:
    """``pixels``, shape ``(h, w)`` or ``(h, w, 3)``, as a PNG in a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
