import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from nasopt.data import Split
from nasopt.errors import DataError, GenomeError
from nasopt.genome import Genome, ImageShape
from nasopt.model import (
    build_model,
    load_network,
    predict_probabilities,
    read_metadata,
    save_weights,
)
from nasopt.training.randomness import initial_weights
from nasopt.training.torch_engine import evaluate_with_torch
from tests.strategies import FASHION, genomes

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "swish": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * torch.special.ndtr(torch.from_numpy(x)).numpy(),
}


def forward_by_hand(genome, weights, image):
    """The network written out with loops, for one image ``(c, h, w)``, in float64."""
    x = image.astype(np.float64)
    arrays = iter(np.float64(w) for w in weights)
    for layer in genome.layers:
        weight, bias, k = next(arrays), next(arrays), layer.kernel
        if layer.kind == "NC":
            before, after = (k - 1) // 2, k - 1 - (k - 1) // 2
            x = np.pad(x, ((0, 0), (before, after), (before, after)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
        windows = windows[:, :: layer.stride, :: layer.stride]
        x = np.einsum("chwij,fcij->fhw", windows, weight) + bias[:, None, None]
        x = ACTIVATIONS[layer.activation](x)
    x = x.mean(axis=(1, 2))
    for _ in range(2):
        weight, bias = next(arrays), next(arrays)
        x = ACTIVATIONS[genome.final_activation](weight @ x + bias)
    return x


@given(genomes(max_normal=2, max_filters=4))
@settings(max_examples=25)
def test_the_network_computes_what_the_task_says(genome):
    rng = np.random.default_rng(0)
    weights = initial_weights(genome, 1, 10, rng)
    weights = [w + rng.normal(0, 0.1, w.shape).astype(np.float32) for w in weights]
    image = rng.random((1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        logits = build_model(genome, FASHION, 10, weights)(torch.from_numpy(image[None]))[
            0
        ].numpy()
    np.testing.assert_allclose(
        logits, forward_by_hand(genome, weights, image), rtol=1e-4, atol=1e-5
    )


def test_a_network_that_does_not_fit_is_refused():
    genome = Genome.parse("RC 1 7 relu;RC 1 7 relu;FL relu")
    with pytest.raises(GenomeError, match="exceeds its input"):
        build_model(genome, ImageShape(1, 12, 12), 10)


def test_weights_must_have_the_networks_shapes():
    genome = Genome.parse("RC 1 1 relu;RC 1 1 relu;FL relu")
    weights = initial_weights(genome, 1, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"a parameter has shape"):
        build_model(genome, FASHION, 10, [w.T.copy() if w.ndim == 2 else w for w in weights])
    with pytest.raises(ValueError, match="zip"):
        build_model(genome, FASHION, 10, weights[:-1])


def test_weights_come_back_from_their_file(tmp_path):
    genome = Genome.parse("RC 4 3 relu;RC 8 3 relu;FL swish")
    model = build_model(genome, FASHION, 10)
    metadata = {"genome": str(genome), "image": str(FASHION), "n_classes": "10"}
    save_weights(model, tmp_path / "model.safetensors", metadata)
    again = load_network(tmp_path / "model.safetensors").model
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(model(x), again(x))
    assert read_metadata(tmp_path / "model.safetensors") == metadata


def test_files_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(DataError, match="not a readable .safetensors"):
        load_network(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(DataError, match="not a readable .safetensors"):
        load_network(tmp_path / "text.safetensors")
    save_weights(torch.nn.Linear(1, 1), tmp_path / "other.safetensors", {})
    with pytest.raises(DataError, match="lacks genome, image, n_classes"):
        load_network(tmp_path / "other.safetensors")


class Counting(nn.Module):
    """A network that answers nothing, and counts the images that it is given at once."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return torch.zeros(len(images), 2)


@pytest.mark.parametrize(
    ("size", "seen"), [(8, [1000, 40]), (28, [1000, 40]), (224, [15] * 69 + [5])]
)
def test_fewer_large_images_are_given_to_a_network_at_once(size, seen):
    images = np.zeros((1040, 1, size, size), np.uint8)
    for_prediction, for_training = Counting(), Counting()
    assert predict_probabilities(for_prediction, images).shape == (1040, 2)
    evaluate_with_torch(for_training, Split(images, np.zeros(1040, np.int64)))
    assert for_prediction.seen == for_training.seen == seen
