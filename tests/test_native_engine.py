"""The native engine against PyTorch: gradients, trajectories, accuracies; and that it can be repeated and refuses nonsense."""

import itertools
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nasopt.data import DataSource, Split, TrainVal, load_train_val
from nasopt.errors import DivergedError, EngineError, GenomeError, NasoptError, TooLargeError
from nasopt.genome import ACTIVATIONS, Genome, ImageShape
from nasopt.model import build_model
from nasopt.training import Recipe, native_engine, train
from nasopt.training.engines import choose_engine
from nasopt.training.native_engine import (
    ISA_VARIABLE,
    NativeNetwork,
    chosen_isa,
    native_available,
    native_isas,
    train_with_native,
)
from nasopt.training.randomness import epoch_orders, initial_weights, training_rngs
from nasopt.training.torch_engine import evaluate_with_torch, train_with_torch
from tests.strategies import genomes, image_shapes

needs_native = pytest.mark.skipif(not native_available(), reason="the extension is not built")
each_isa = pytest.mark.parametrize("isa", native_isas() if native_available() else ["none"])
FASHION = ImageShape(1, 28, 28)
EXAMPLE = Genome.parse("RC 4 3 relu;RC 8 3 swish;FL swish")


@pytest.fixture(scope="module")
def clothes():
    """6,000 training and 1,000 validation images of Fashion-MNIST."""
    data = load_train_val(DataSource())
    return TrainVal(cut(data.train, 6000), cut(data.val, 1000), data.n_classes)


@pytest.fixture
def force_isa(monkeypatch, isa):
    monkeypatch.setenv(ISA_VARIABLE, isa)
    return isa


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


def exact_gradients(genome, image, n_classes, weights, split):
    """By torch's autograd in float64."""
    model = build_model(genome, image, n_classes, weights).double()
    images = torch.from_numpy(split.images).double()
    if split.images.dtype == np.uint8:
        images /= 255
    functional.cross_entropy(model(images), torch.from_numpy(split.labels)).backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]



def relative_errors(found, exact, floor):
    return [
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), floor))
        for a, b in zip(found, exact, strict=True)
    ]


def check_gradients(genome, image, n_classes, split, rng):
    weights = random_weights(genome, image, n_classes, rng)
    found = NativeNetwork(genome, image, n_classes, weights).gradients(split)
    exact = exact_gradients(genome, image, n_classes, weights, split)
    # Gradients that vanish, through saturated or dead layers, are compared to the size of the others.
    floor = 1e-3 * max(np.linalg.norm(array) for array in exact) + 1e-12
    assert max(relative_errors(found, exact, floor)) <= 1e-4


@needs_native
class TestGradients:
    @settings(max_examples=30, deadline=None)
    @given(genomes(), st.integers(1, 40), st.integers(0, 2**32 - 1))
    def test_equal_autograd_in_float64(self, genome, n, seed):
        rng = np.random.default_rng(seed)
        check_gradients(genome, FASHION, 10, random_split(FASHION, n, 10, rng), rng)

    @settings(max_examples=30, deadline=None)
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
        check_gradients(genome, image, k, split, rng)

    @each_isa
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_equal_on_every_instruction_set(self, force_isa, activation):
        genome = Genome.parse(
            f"NC 3 2 {activation};RC 7 3 {activation};NC 13 4 {activation};RC 5 7 {activation};FL {activation}"
        )
        rng = np.random.default_rng(1)
        image = ImageShape(2, 26, 23)
        check_gradients(genome, image, 7, random_split(image, 37, 7, rng), rng)

    @pytest.mark.parametrize("kernel", range(1, 8))
    @pytest.mark.parametrize("filters", [1, 2, 3, 4, 5, 6, 7, 8, 11, 13])
    def test_equal_for_every_kernel_and_block_of_filters(self, kernel, filters):
        genome = Genome.parse(
            f"NC {filters} {kernel} tanh;RC {filters} {min(kernel, 6)} tanh;RC {filters} 1 tanh;FL tanh"
        )
        rng = np.random.default_rng(kernel)
        image = ImageShape(1, 11, 8)
        check_gradients(genome, image, 3, random_split(image, 5, 3, rng), rng)


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
    def test_epoch_results_equal_torch(self, force_isa, clothes):
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
        ("n", "batch_size"), [(1, 1), (7, 128), (33, 16), (130, 65), (97, 96), (250, 64), (300, 299)]
    )
    def test_no_image_of_a_partial_batch_is_dropped(self, force_isa, n, batch_size):
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
    def test_weights_in_torch_give_the_same_accuracy(self, force_isa, clothes):
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
            [train(genome, recipe, seed, clothes, engine=e).last.accuracy for e in ("native", "torch")]
            for seed in range(8)
        ]
        ours, theirs = np.array(pairs).T
        noise = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / len(ours))
        assert abs(ours.mean() - theirs.mean()) <= 2 * noise + 2e-3


@needs_native
class TestDeterminism:
    @each_isa
    def test_alone_and_beside_another_thread_give_the_same_bits(self, force_isa, clothes):
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
        for isa in native_isas():
            monkeypatch.setenv(ISA_VARIABLE, isa)
            assert chosen_isa() == isa
        monkeypatch.delenv(ISA_VARIABLE)
        assert chosen_isa() == native_isas()[0]
        monkeypatch.setenv(ISA_VARIABLE, "mmx")
        with pytest.raises(EngineError, match="NASOPT_NATIVE_ISA is 'mmx', but this machine can run .*generic"):
            chosen_isa()


@needs_native
class TestBadInput:
    def weights(self):
        return initial_weights(EXAMPLE, 1, 10, np.random.default_rng(0))

    def network(self):
        return NativeNetwork(EXAMPLE, FASHION, 10, self.weights())

    @each_isa
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_divergence_surfaces(self, force_isa, activation):
        rng = np.random.default_rng(0)
        image = ImageShape(1, 8, 8)
        data = TrainVal(
            random_split(image, 40, 3, rng, as_float=True), random_split(image, 40, 3, rng), 3
        )
        genome = Genome.parse(f"RC 2 3 {activation};RC 2 2 {activation};FL {activation}")
        with pytest.raises(DivergedError, match="the loss became"):
            train(genome, Recipe(lr=3e38, epochs=3), 0, data, engine="native")

    @each_isa
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_weight_that_is_not_finite_gives_the_loss_of_torch(self, force_isa, activation, value):
        rng = np.random.default_rng(0)
        image = ImageShape(1, 8, 8)
        genome = Genome.parse(f"RC 2 3 {activation};RC 2 2 {activation};FL {activation}")
        split = random_split(image, 20, 3, rng)
        weights = initial_weights(genome, 1, 3, rng)
        weights[-1][1] = value  # a logit
        ours, _, _ = NativeNetwork(genome, image, 3, weights).evaluate(split)
        theirs, _, _ = evaluate_with_torch(build_model(genome, image, 3, weights), split)
        assert np.isfinite(ours) == np.isfinite(theirs)

    @pytest.mark.parametrize("change", ["missing", "shape", "type"])
    def test_wrong_weights(self, change):
        weights = self.weights()
        if change == "missing":
            weights.pop()
        elif change == "shape":
            weights[0] = weights[0][:1]
        else:
            weights[0] = weights[0].astype(np.float64)
        with pytest.raises(EngineError, match="the weights of RC 4 3 relu.* are float32 arrays of shapes"):
            NativeNetwork(EXAMPLE, FASHION, 10, weights)

    def test_wrong_images_and_labels(self):
        rng = np.random.default_rng(0)
        small = random_split(ImageShape(1, 8, 8), 10, 10, rng)
        with pytest.raises(EngineError, match="images do not have the shape"):
            self.network().evaluate(small)
        many = random_split(FASHION, 50, 20, rng)
        with pytest.raises(EngineError, match="a label is not among the classes"):
            self.network().gradients(many)

    @pytest.mark.parametrize(
        "order", [[], [-1, 2], [0, 50], [[0, 1]]], ids=["empty", "below", "above", "2-D"]
    )
    def test_wrong_orders(self, order):
        split = random_split(FASHION, 50, 10, np.random.default_rng(0))
        with pytest.raises(EngineError, match="must hold indices of the 50 images"):
            self.network().train(split, np.array(order, dtype=np.int64), [1e-3], Recipe())

    def test_wrong_number_of_rates(self):
        split = random_split(FASHION, 50, 10, np.random.default_rng(0))
        with pytest.raises(EngineError, match="one learning rate a batch"):
            self.network().train(split, np.arange(50), [1e-3] * 2, Recipe())

    def test_genome_that_does_not_fit(self):
        image = ImageShape(1, 4, 4)
        genome = Genome.parse("RC 1 3 relu;RC 1 3 relu;FL relu")
        with pytest.raises(GenomeError, match="exceeds its input"):
            NativeNetwork(genome, image, 10, self.weights())

    def test_too_large(self):
        genome = Genome.parse("NC 40000 1 relu;RC 1 1 relu;RC 1 1 relu;FL relu")
        weights = initial_weights(genome, 1, 10, np.random.default_rng(0))
        with pytest.raises(TooLargeError, match="does not fit the native engine"):
            NativeNetwork(genome, ImageShape(1, 200, 200), 10, weights)

    @pytest.mark.parametrize(
        ("image", "layers", "head"),
        [
            ((0, 8, 8), [(2, 1, 1, 0)], (64, 10, 0)),
            ((1, 8, -8), [(2, 1, 1, 0)], (64, 10, 0)),
            ((1, 8, 8), [], (64, 10, 0)),
            ((1, 8, 8), [(3, 1, 1, 0)], (64, 10, 0)),
            ((1, 8, 8), [(1, 0, 1, 0)], (64, 10, 0)),
            ((1, 8, 8), [(1, 1, 8, 0)], (64, 10, 0)),
            ((1, 8, 8), [(1, 1, 1, 5)], (64, 10, 0)),
            ((1, 8, 8), [(1, 1, 1, 0)], (64, 0, 0)),
            ((1, 8, 8), [(1, 1, 1, 0)], (64, 10, -1)),
            ((1, 4, 4), [(2, 1, 5, 0)], (64, 10, 0)),
            ((2**21, 8, 8), [(2, 1, 1, 0)], (64, 10, 0)),
        ],
    )
    def test_extension_checks_sizes_itself(self, image, layers, head):
        with pytest.raises(ValueError, match="sizes|layer|kernel|activation"):
            native_engine._native.Trainer("generic", image, layers, head)

    @pytest.mark.parametrize("filters", [2**20, 2**13])
    def test_extension_refuses_absurd_sizes(self, filters):
        layers = [(1, filters, 7, 0), (1, filters, 7, 0)]
        with pytest.raises(OverflowError, match="8 GiB|parameters"):
            native_engine._native.Trainer("generic", (1, 64, 64), layers, (64, 10, 0))

    def test_errors_are_those_of_the_torch_engine(self):
        rng = np.random.default_rng(0)
        data = TrainVal(random_split(FASHION, 20, 10, rng), random_split(FASHION, 5, 10, rng), 10)
        huge = Genome.parse("NC 90000 7 relu;RC 90000 7 relu;RC 9 7 relu;FL relu")
        for genome, recipe in itertools.product([huge], [Recipe()]):
            messages = []
            for engine in ("torch", "native"):
                with pytest.raises(NasoptError, match="GiB") as caught:
                    train(genome, recipe, 0, data, engine=engine)
                messages.append(str(caught.value))
            assert messages[0] == messages[1]


@needs_native
class TestCallbacks:
    def test_true_ends_the_training(self, clothes):
        data = TrainVal(cut(clothes.train, 200), cut(clothes.val, 100), 10)
        result = train(
            EXAMPLE, Recipe(epochs=9), 0, data, engine="native", on_epoch=lambda r: r.epoch == 2
        )
        assert len(result.epochs) == 2

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
    def test_ctrl_c_is_noticed_within_an_epoch(self, clothes):
        order = np.tile(np.arange(6000), 100)  # half a minute
        network = NativeNetwork(
            EXAMPLE, FASHION, 10, initial_weights(EXAMPLE, 1, 10, np.random.default_rng(0))
        )
        previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                network.train(clothes.train, order, [1e-3] * -(-len(order) // 128), Recipe())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    def test_other_threads_run_meanwhile(self, clothes):
        ticks = 0
        done = threading.Event()

        def work():
            train(EXAMPLE, Recipe(epochs=3), 0, clothes, engine="native")
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        while not done.wait(0.005):
            ticks += 1
        thread.join()
        assert ticks >= 3


class TestChoice:
    def test_auto_is_native_where_there_is_one(self):
        expected = "native" if native_available() else "torch"
        assert choose_engine("auto").name == expected

    def test_auto_is_torch_without_the_extension(self, monkeypatch, clothes):
        monkeypatch.setattr(native_engine, "_native", None)
        monkeypatch.setattr(native_engine, "_import_error", "No module named '_native'", raising=False)
        assert not native_available()
        data = TrainVal(cut(clothes.train, 100), cut(clothes.val, 50), 10)
        assert train(EXAMPLE, Recipe(epochs=1), 0, data).engine == "torch"

    def test_native_without_the_extension_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr(native_engine, "_native", None)
        monkeypatch.setattr(native_engine, "_import_error", "No module named '_native'", raising=False)
        with pytest.raises(EngineError, match=r"No module.*install a C\+\+ compiler.*reinstall nasopt.*'torch'"):
            choose_engine("native")

    def test_misspelt(self):
        with pytest.raises(EngineError, match="did you mean 'native'.*auto, torch, native"):
            choose_engine("nativ")
