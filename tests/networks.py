"""Networks of random weights, for tests that need no training."""

import numpy as np

from nasopt.genome import Genome, ImageShape
from nasopt.model import SavedNetwork, build_model
from nasopt.training.randomness import initial_weights


def random_network(genome, image, n_classes, seed=0):
    """A network of that genome with Glorot's weights, and biases that are not zero."""
    genome, image = Genome.parse(str(genome)), ImageShape.parse(str(image))
    rng = np.random.default_rng(seed)
    weights = initial_weights(genome, image.channels, n_classes, rng)
    weights = [w + rng.normal(0, 0.1, w.shape).astype(np.float32) for w in weights]
    metadata = {"genome": str(genome), "image": str(image), "n_classes": str(n_classes)}
    model = build_model(genome, image, n_classes, weights).eval()
    return SavedNetwork(genome, image, n_classes, model, metadata)
