"""The native engine against PyTorch: gradients, trajectories, accuracies; and that it can be repeated to the bit."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nasopt.data import TrainVal
from nasopt.errors import EngineError
from nasopt.genome import ACTIVATIONS, Genome, ImageShape
from nasopt.model import build_model
from nasopt.training import Recipe, train
from nasopt.training.native_engine import (
    ISA_VARIABLE,
    NativeNetwork,
    chosen_isa,
    native_isas,
    train_with_native,
)
from nasopt.training.randomness import epoch_orders, initial_weights, training_rngs
from nasopt.training.torch_engine import evaluate_with_torch, train_with_torch
from tests.native_cases import (
    EXAMPLE,
    FASHION,
    cut,
    each_isa,
    needs_native,
    random_split,
    random_weights,
)
from tests.strategies import genomes, image_shapes

ROUNDING = 1e-6  # of a sum of float32, as a share of such sums
FLOOR = 1e-3  # of the largest gradient; smaller ones are compared with that
EPSILON = 1e-7  # about that of float32
ROUNDED = 1e-5  # of 250 random cases the most is 6e-6, of two that were met in tests 3e-5 and 8e-4


def exact_gradients(genome, image, n_classes, weights, split):
    """By torch's autograd in float64."""
    model = build_model(genome, image, n_classes, weights).double()
    images = torch.from_numpy(split.images).double()
    if split.images.dtype == np.uint8:
        images /= 255
    functional.cross_entropy(model(images), torch.from_numpy(split.labels)).backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]


def is_at_a_kink(genome, image, n_classes, weights, split):
    """Whether float32 may decide otherwise than float64 on which side of zero an input of a relu lies.

    There is no gradient to compare with then: PyTorch's own of float32 differs from that of float64 by as much as ours.
    """
    model = build_model(genome, image, n_classes, weights).double()
    inputs = []
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].abs()))
    images = torch.from_numpy(split.images).double()
    with torch.no_grad():
        model(images / 255 if split.images.dtype == np.uint8 else images)
    # What is exactly zero, behind a dead layer, is so in float32 too.
    return any(bool(((z > 0) & (z < ROUNDING * z.mean())).any()) for z in inputs)


def loses_digits(genome, image, n_classes, weights, split):
    """Whether rounding alone, of the weights and for every image anew, would change the gradients by more than ``ROUNDED``.

    Sums that cancel lose digits so, within an image or over the images: float32 has none left that tell of the engine.
    """
    model = build_model(genome, image, n_classes, weights).double()
    images = torch.from_numpy(split.images).double()
    images = images / 255 if split.images.dtype == np.uint8 else images

    def loss(parameters, image, label):
        logits = torch.func.functional_call(model, parameters, (image[None],))
        return functional.cross_entropy(logits, label[None])

    def mean_gradients(weights):
        in_dims = (None if weights is exact else 0, 0, 0)
        of_each = torch.func.vmap(torch.func.grad(loss), in_dims=in_dims)
        each = of_each(weights, images, torch.from_numpy(split.labels))
        return [gradient.mean(0).numpy() for gradient in each.values()]

    rng = torch.Generator().manual_seed(0)
    exact = {name: p.detach() for name, p in model.named_parameters()}
    rounded = {
        name: p * (1 + EPSILON * torch.randn((len(images), *p.shape), generator=rng).double())
        for name, p in exact.items()
    }
    expected = mean_gradients(exact)
    return max(relative_errors(mean_gradients(rounded), expected, floor_of(expected))) > ROUNDED


def floor_of(exact):
    """Gradients that vanish, through saturated or dead layers, are compared with the size of the others."""
    return FLOOR * max(np.linalg.norm(array) for array in exact) + 1e-12


def relative_errors(found, exact, floor):
    return [
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), floor))
        for a, b in zip(found, exact, strict=True)
    ]


def check_gradients(genome, image, n_classes, split, weights):
    found = NativeNetwork(genome, image, n_classes, weights).gradients(split)
    exact = exact_gradients(genome, image, n_classes, weights, split)
    assert max(relative_errors(found, exact, floor_of(exact))) <= 1e-4


@needs_native
class TestGradients:
    @each_isa
    @pytest.mark.usefixtures("force_isa")
    @pytest.mark.parametrize("bias", [9.5, 12.0, 20.0])
    def test_a_saturated_tanh_learns_as_little_as_in_pytorch(self, bias):
        rng = np.random.default_rng(0)
        image = ImageShape(1, 8, 8)
        genome = Genome.parse("RC 2 3 tanh;RC 2 2 tanh;FL tanh")
        split = random_split(image, 50, 3, rng)
        *weights, last, _ = random_weights(genome, image, 3, rng)
        weights = [*weights, 0 * last, np.array([bias, -bias, bias], np.float32)]
        *_, gradient = NativeNetwork(genome, image, 3, weights).gradients(split)
        assert (gradient == 0).all()
        weights[-1] = weights[-1] / np.float32(bias) * 6
        *_, gradient = NativeNetwork(genome, image, 3, weights).gradients(split)
        assert (gradient != 0).all()

    @settings(max_examples=30)
    @given(genomes(), st.integers(1, 40), st.integers(0, 2**32 - 1))
    def test_equal_autograd_in_float64(self, genome, n, seed):
        rng = np.random.default_rng(seed)
        split = random_split(FASHION, n, 10, rng)
        weights = random_weights(genome, FASHION, 10, rng)
        assume(not is_at_a_kink(genome, FASHION, 10, weights, split))
        assume(not loses_digits(genome, FASHION, 10, weights, split))
        check_gradients(genome, FASHION, 10, split, weights)

    def test_a_kink_is_told_from_an_error(self):
        genome = Genome.parse("NC 9 6 swish;RC 12 3 swish;NC 10 6 relu;RC 2 4 relu;FL relu")
        rng = np.random.default_rng(625)
        split = random_split(FASHION, 7, 10, rng)
        weights = random_weights(genome, FASHION, 10, rng)
        assert is_at_a_kink(genome, FASHION, 10, weights, split)
        other = [w * np.float32(1.001) for w in weights]
        assert not is_at_a_kink(genome, FASHION, 10, other, split)
        check_gradients(genome, FASHION, 10, split, other)

    @pytest.mark.parametrize(
        ("genome", "image", "n", "n_classes", "seed"),
        [
            # The images' gradients cancel.
            ("RC 1 1 gelu;RC 4 1 gelu;FL gelu", ImageShape(1, 18, 4), 52, 7, 1),
            # So do the 64 terms of an image's gradient at the pooled value, which are 556 times their sum.
            (
                "RC 1 1 relu;RC 11 1 relu;NC 1 2 tanh;NC 11 3 sigmoid;NC 1 6 relu;FL relu",
                *(FASHION, 9, 10, 82425),
            ),
        ],
    )
    def test_sums_that_cancel_are_told_from_an_error(self, genome, image, n, n_classes, seed):
        genome, rng = Genome.parse(genome), np.random.default_rng(seed)
        split = random_split(image, n, n_classes, rng)
        weights = random_weights(genome, image, n_classes, rng)
        assert loses_digits(genome, image, n_classes, weights, split)
        other = random_weights(genome, image, n_classes, rng)
        assert not loses_digits(genome, image, n_classes, other, split)
        check_gradients(genome, image, n_classes, split, other)

    @settings(max_examples=30)
    @given(
        st.data(),
        image_shapes(),
        st.integers(2, 20),
        st.integers(1, 70),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )
    def test_equal_for_any_image_and_number_of_classes(self, data, image, k, n, seed, as_float):
        genome = data.draw(genomes(image=image))
        rng = np.random.default_rng(seed)
        split = random_split(image, n, k, rng, as_float=as_float)
        weights = random_weights(genome, image, k, rng)
        assume(not is_at_a_kink(genome, image, k, weights, split))
        assume(not loses_digits(genome, image, k, weights, split))
        check_gradients(genome, image, k, split, weights)

    @each_isa
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_equal_on_every_instruction_set(self, activation):
        genome = Genome.parse(
            f"NC 3 2 {activation};RC 7 3 {activation};NC 13 4 {activation};RC 5 7 {activation};FL {activation}"
        )
        rng = np.random.default_rng(1)
        image = ImageShape(2, 26, 23)
        split = random_split(image, 37, 7, rng)
        check_gradients(genome, image, 7, split, random_weights(genome, image, 7, rng))

    @pytest.mark.parametrize("kernel", range(1, 8))
    @pytest.mark.parametrize("filters", [1, 2, 3, 4, 5, 6, 7, 8, 11, 13])
    def test_equal_for_every_kernel_and_block_of_filters(self, kernel, filters):
        genome = Genome.parse(
            f"NC {filters} {kernel} tanh;RC {filters} {min(kernel, 6)} tanh;RC {filters} 1 tanh;FL tanh"
        )
        rng = np.random.default_rng(kernel)
        image = ImageShape(1, 11, 8)
        split = random_split(image, 5, 3, rng)
        check_gradients(genome, image, 3, split, random_weights(genome, image, 3, rng))


def losses_of_steps(engine, genome, data, n_steps):
    """The running loss of every single step, with each step as an epoch of its own batch."""
    recipe = Recipe(epochs=n_steps, batch_size=64, decay_epochs=n_steps, patience=None)
    weights_rng, orders_rng = training_rngs(3)
    start = initial_weights(genome, data.shape.channels, data.n_classes, weights_rng)
    order = next(epoch_orders(len(data.train), orders_rng))
    batches = iter(np.array_split(order[: 64 * n_steps], n_steps))
    losses = []

    def note(result):
        losses.append(result.train_loss)
        return False

    small = TrainVal(data.train, cut(data.val, 1), data.n_classes)
    engine(genome, recipe, small, start, batches, note)
    return np.array(losses)


@needs_native
class TestTrajectory:
    @pytest.mark.parametrize(
        "text",
        [f"NC 3 3 {a};RC 4 3 {a};RC 6 2 {a};FL {a}" for a in ACTIVATIONS]
        + ["RC 8 5 relu;RC 12 3 gelu;FL swish"],
    )
    def test_first_50_steps_equal_torch(self, clothes, text):
        genome = Genome.parse(text)
        ours = losses_of_steps(train_with_native, genome, clothes, 50)
        theirs = losses_of_steps(train_with_torch, genome, clothes, 50)
        assert np.abs(ours / theirs - 1).max() <= 1e-3

    @each_isa
    def test_epoch_results_equal_torch(self, clothes):
        recipe = Recipe(epochs=2, batch_size=100, lr=5e-3)
        ours = train(EXAMPLE, recipe, 5, clothes, engine="native")
        theirs = train(EXAMPLE, recipe, 5, clothes, engine="torch")
        assert ours.engine == "native"
        for a, b in zip(ours.epochs, theirs.epochs, strict=True):
            assert a.epoch == b.epoch
            assert a.train_loss == pytest.approx(b.train_loss, rel=2e-3)
            assert a.loss == pytest.approx(b.loss, rel=1e-2)
            assert a.train_accuracy == pytest.approx(b.train_accuracy, abs=5e-3)
            assert a.accuracy == pytest.approx(b.accuracy, abs=1e-2)
            assert a.n_predicted_classes == b.n_predicted_classes

    @each_isa
    @pytest.mark.parametrize(
        ("n", "batch_size"),
        [(1, 1), (7, 128), (33, 16), (130, 65), (97, 96), (250, 64), (300, 299)],
    )
    def test_no_image_of_a_partial_batch_is_dropped(self, n, batch_size):
        image = ImageShape(2, 9, 12)
        genome = Genome.parse("RC 3 3 tanh;NC 2 2 swish;RC 5 2 gelu;FL tanh")
        rng = np.random.default_rng(n)
        data = TrainVal(random_split(image, n, 4, rng), random_split(image, n, 4, rng), 4)
        recipe = Recipe(epochs=3, batch_size=batch_size, lr=1e-2)
        ours = train(genome, recipe, 0, data, engine="native")
        theirs = train(genome, recipe, 0, data, engine="torch")
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
        assert ours.last.loss == pytest.approx(theirs.last.loss, rel=1e-4)
        assert ours.last.train_loss == pytest.approx(theirs.last.train_loss, rel=1e-4)

    @each_isa
    def test_weights_in_torch_give_the_same_accuracy(self, clothes):
        genome = Genome.parse("NC 4 4 gelu;RC 6 3 swish;RC 8 5 tanh;FL swish")
        result = train(genome, Recipe(epochs=2, lr=1e-2), 1, clothes, engine="native")
        model = build_model(genome, FASHION, 10, result.weights)
        loss, accuracy, _ = evaluate_with_torch(model, clothes.val)
        assert abs(accuracy - result.last.accuracy) <= 2.5 / len(clothes.val)
        assert loss == pytest.approx(result.last.loss, rel=1e-4)

    @pytest.mark.slow
    def test_accuracies_over_seeds_are_equal_within_noise(self, clothes):
        genome = Genome.parse("RC 4 3 relu;RC 8 3 relu;FL swish")
        recipe = Recipe(epochs=6, lr=1e-2, patience=None)
        pairs = [
            [
                train(genome, recipe, seed, clothes, engine=e).last.accuracy
                for e in ("native", "torch")
            ]
            for seed in range(8)
        ]
        ours, theirs = np.array(pairs).T
        noise = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / len(ours))
        assert abs(ours.mean() - theirs.mean()) <= 2 * noise + 2e-3


@needs_native
class TestDeterminism:
    @each_isa
    def test_alone_and_beside_another_thread_give_the_same_bits(self, clothes):
        data = TrainVal(cut(clothes.train, 1000), cut(clothes.val, 200), 10)

        def run(seed):
            return train(EXAMPLE, Recipe(epochs=2), seed, data, engine="native")

        alone = [run(seed) for seed in range(4)]
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(run, range(4)))
        for a, b in zip(alone, together, strict=True):
            assert a.epochs == b.epochs
            assert all(np.array_equal(x, y) for x, y in zip(a.weights, b.weights, strict=True))

    def test_forcing_an_instruction_set(self, monkeypatch):
        rng = np.random.default_rng(0)
        weights, split = initial_weights(EXAMPLE, 1, 10, rng), random_split(FASHION, 50, 10, rng)
        gradients = []
        for isa in native_isas():
            monkeypatch.setenv(ISA_VARIABLE, isa)
            assert chosen_isa() == isa
            network = NativeNetwork(EXAMPLE, FASHION, 10, weights)
            gradients.append(np.concatenate([g.ravel() for g in network.gradients(split)]))
        # Each rounds in its own way, so that it can be seen to run.
        assert not any(np.array_equal(a, b) for a, b in combinations(gradients, 2))
        monkeypatch.delenv(ISA_VARIABLE)
        assert chosen_isa() == native_isas()[0]
        monkeypatch.setenv(ISA_VARIABLE, "mmx")
        with pytest.raises(
            EngineError, match=r"NASOPT_NATIVE_ISA is 'mmx', but this machine can run .*generic"
        ):
            chosen_isa()
