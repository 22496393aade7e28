"""What the native engine refuses, how it is stopped, and what happens where it is missing."""

import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from nasopt.data import Split, TrainVal
from nasopt.errors import DivergedError, EngineError, GenomeError, NasoptError, TooLargeError
from nasopt.genome import ACTIVATIONS, Genome, ImageShape
from nasopt.model import build_model
from nasopt.training import Recipe, native_engine, train
from nasopt.training.engines import choose_engine
from nasopt.training.native_engine import NativeNetwork, native_available
from nasopt.training.randomness import initial_weights
from nasopt.training.torch_engine import evaluate_with_torch
from tests.native_cases import EXAMPLE, FASHION, cut, each_isa, needs_native, random_split


@needs_native
class TestBadInput:
    def weights(self):
        return initial_weights(EXAMPLE, 1, 10, np.random.default_rng(0))

    def network(self):
        return NativeNetwork(EXAMPLE, FASHION, 10, self.weights())

    @each_isa
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_divergence_surfaces(self, activation):
        rng = np.random.default_rng(0)
        image = ImageShape(1, 8, 8)
        data = TrainVal(*(random_split(image, 40, 3, rng, as_float=True) for _ in range(2)), 3)
        genome = Genome.parse(f"RC 2 3 {activation};RC 2 2 {activation};FL {activation}")
        with pytest.raises(DivergedError, match="the loss became"):
            train(genome, Recipe(lr=3e38, epochs=3), 0, data, engine="native")

    @each_isa
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_weight_that_is_not_finite_gives_the_loss_of_torch(self, activation, value):
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
        with pytest.raises(
            EngineError, match=r"the weights of RC 4 3 relu.* are float32 arrays of shapes"
        ):
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
        with pytest.raises(ValueError, match=r"sizes|layer|kernel|activation"):
            native_engine._native.Trainer("generic", image, layers, head)

    @pytest.mark.parametrize("filters", [2**20, 2**13])
    def test_extension_refuses_absurd_sizes(self, filters):
        layers = [(1, filters, 7, 0), (1, filters, 7, 0)]
        with pytest.raises(OverflowError, match=r"8 GiB|parameters"):
            native_engine._native.Trainer("generic", (1, 64, 64), layers, (64, 10, 0))

    def test_errors_are_those_of_the_torch_engine(self):
        rng = np.random.default_rng(0)
        data = TrainVal(random_split(FASHION, 20, 10, rng), random_split(FASHION, 5, 10, rng), 10)
        huge = Genome.parse("NC 90000 7 relu;RC 90000 7 relu;RC 9 7 relu;FL relu")
        messages = []
        for engine in ("torch", "native"):
            with pytest.raises(NasoptError, match="GiB") as caught:
                train(huge, Recipe(), 0, data, engine=engine)
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
        order = np.tile(np.arange(6000), 100)  # in batches of one image half a minute
        network = NativeNetwork(
            EXAMPLE, FASHION, 10, initial_weights(EXAMPLE, 1, 10, np.random.default_rng(0))
        )
        previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        began = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                network.train(clothes.train, order, [1e-3] * len(order), Recipe(batch_size=1))
            assert time.monotonic() - began < 10
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    def test_other_threads_run_meanwhile(self, clothes):
        order = np.tile(np.arange(6000), 40)  # one call of a third of a second
        network = NativeNetwork(
            EXAMPLE, FASHION, 10, initial_weights(EXAMPLE, 1, 10, np.random.default_rng(0))
        )
        work = (clothes.train, order, [1e-3] * (len(order) // 128), Recipe())
        thread = threading.Thread(target=network.train, args=work)
        ticks = 0
        thread.start()
        while thread.is_alive():
            thread.join(0.005)
            ticks += 1
        assert ticks > 5  # 1 where the call lets no other thread run


class TestChoice:
    def test_auto_is_native_where_there_is_one(self):
        expected = "native" if native_available() else "torch"
        assert choose_engine("auto").name == expected

    def test_auto_is_torch_without_the_extension(self, monkeypatch, clothes):
        monkeypatch.setattr(native_engine, "_native", None)
        monkeypatch.setattr(
            native_engine, "_import_error", "No module named '_native'", raising=False
        )
        assert not native_available()
        data = TrainVal(cut(clothes.train, 100), cut(clothes.val, 50), 10)
        assert train(EXAMPLE, Recipe(epochs=1), 0, data).engine == "torch"

    def test_native_without_the_extension_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr(native_engine, "_native", None)
        monkeypatch.setattr(
            native_engine, "_import_error", "No module named '_native'", raising=False
        )
        with pytest.raises(
            EngineError, match=r"No module.*install a C\+\+ compiler.*make setup.*'torch'"
        ):
            choose_engine("native")

    def test_misspelt(self):
        with pytest.raises(EngineError, match=r"did you mean 'native'.*auto, torch, native"):
            choose_engine("nativ")


@needs_native
class TestTypesAreNeverConverted:
    def test_whole_numbers_in_a_recipe_change_no_image(self):
        recipe = Recipe(epochs=1, weight_decay=0)
        rng = np.random.default_rng(0)
        images = rng.random((64, 1, 8, 8), dtype=np.float32)
        split = Split(images, rng.integers(0, 4, 64))
        data = TrainVal(split, split, 4)
        whole = train(EXAMPLE, recipe, 0, data, engine="native")
        fractional = train(EXAMPLE, replace(recipe, weight_decay=0.0), 0, data, engine="native")
        assert whole.last == fractional.last

    @pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool"])
    def test_the_extension_takes_no_other_images(self, dtype):
        trainer = native_engine._extension().Trainer(
            "generic", (1, 8, 8), [(2, 1, 2, 0), (2, 1, 2, 0)], (64, 4, 0)
        )
        images, labels = np.ones((3, 1, 8, 8), dtype), np.zeros(3, np.int64)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            trainer.evaluate(images, labels, False)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            trainer.evaluate(images.astype(np.float32), labels.astype(np.int32), False)

    def test_labels_may_change_while_it_trains(self):
        rng = np.random.default_rng(0)
        split = random_split(FASHION, 4000, 10, rng)
        network = NativeNetwork(EXAMPLE, FASHION, 10, initial_weights(EXAMPLE, 1, 10, rng))
        stop = threading.Event()

        def spoil():
            while not stop.is_set():
                split.labels[:] = 10**8

        labels = split.labels.copy()
        thread = threading.Thread(target=spoil)
        thread.start()
        try:
            for _ in range(5):
                split.labels[:] = labels  # or it is refused before it begins
                with suppress(EngineError):
                    network.train(split, np.arange(4000), [0.01] * 32, Recipe())
        finally:
            stop.set()
            thread.join()
