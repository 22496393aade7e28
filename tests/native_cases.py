"""What the tests of the native engine share: small data, random weights, every instruction set."""

import numpy as np
import pytest

from nasopt.data import Split
from nasopt.genome import Genome, ImageShape
from nasopt.training.native_engine import native_available, native_isas
from nasopt.training.randomness import initial_weights

FASHION = ImageShape(1, 28, 28)
EXAMPLE = Genome.parse("RC 4 3 relu;RC 8 3 swish;FL swish")
needs_native = pytest.mark.skipif(not native_available(), reason="the extension is not built")


def each_isa(test):
    """Runs a test once for every instruction set of this machine; needs the fixture ``force_isa``."""
    isas = native_isas() if native_available() else ["none"]
    return pytest.mark.usefixtures("force_isa")(pytest.mark.parametrize("isa", isas)(test))


def cut(split, n):
    return Split(split.images[:n], split.labels[:n])


def random_split(image, n, n_classes, rng, *, as_float=False):
    images = rng.integers(0, 256, (n, *image), dtype=np.uint8)
    if as_float:
        images = (images / 100 - 1).astype(np.float32)
    return Split(images, rng.integers(0, n_classes, n))


def random_weights(genome, image, n_classes, rng):
    """Initial weights, with biases that are not zero."""
    weights = initial_weights(genome, image.channels, n_classes, rng)
    return [array + rng.normal(0, 0.1, array.shape).astype(np.float32) for array in weights]
