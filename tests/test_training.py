import math

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional

from nasopt.data import Split, TrainVal
from nasopt.errors import DivergedError, EngineError, SettingsError, TooLargeError
from nasopt.genome import Genome
from nasopt.model import build_model, run_model
from nasopt.training import EarlyStopping, Recipe, train
from nasopt.training.randomness import epoch_orders, initial_weights, training_rngs
from nasopt.training.torch_engine import evaluate_with_torch
from tests.strategies import FASHION, genomes

GENOME = Genome.parse("RC 4 3 relu;RC 6 3 gelu;FL swish")
DEAD = Genome.parse("RC 1 1 relu;RC 1 1 relu;FL relu")


def test_the_learning_rate_falls_as_the_task_says():
    recipe = Recipe()
    steps = recipe.steps_per_epoch(60_000)
    assert steps == 469  # the last, partial batch counts
    assert recipe.learning_rate(0, steps) == 2e-3
    assert recipe.learning_rate(4690, steps) == pytest.approx(2e-3 * 0.05)
    assert recipe.learning_rate(2345, steps) == pytest.approx(2e-3 * math.sqrt(0.05))


def test_the_recipe_is_the_tasks():
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.patience, recipe.min_delta) == (
        10,
        128,
        2,
        0.005,
    )
    assert (recipe.beta1, recipe.beta2, recipe.eps, recipe.weight_decay) == (
        0.9,
        0.999,
        1e-7,
        1e-9,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "lr must be a number above 0, not 0.0"),
        ({"lr": float("nan")}, "lr must be a number above 0, not nan"),
        ({"lr_decay": -1.0}, "lr_decay must be"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"beta1": 1.0}, "beta1 must be a number from 0 to below 1, not 1.0"),
        ({"beta2": -0.1}, "beta2 must be a number from 0 to below 1, not -0.1"),
        ({"weight_decay": -5.0}, "weight_decay must be a number from 0 on, not -5.0"),
        ({"min_delta": float("nan")}, "min_delta must be a number from 0 on, not nan"),
        ({"patience": 0}, "patience must be at least 1 epoch, or None"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        Recipe(**changes)


def test_early_stopping_counts_epochs_without_enough_improvement():
    stopping = EarlyStopping(patience=2, min_delta=0.005)
    losses = [1.0, 0.9, 0.899, 0.8, 0.799, 0.798]
    assert [stopping.should_stop(loss) for loss in losses] == [False] * 5 + [True]
    never = EarlyStopping(patience=None, min_delta=0.005)
    assert not any(never.should_stop(1.0) for _ in range(50))


@given(genomes())
def test_initial_weights_are_glorot_uniform_with_zero_biases(genome):
    weights = initial_weights(genome, 1, 10, np.random.default_rng(0))
    shapes = [tuple(p.shape) for p in build_model(genome, FASHION, 10).parameters()]
    assert [w.shape for w in weights] == shapes
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        tensor = torch.empty(weight.shape)
        nn.init.xavier_uniform_(tensor)
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(tensor)
        assert np.abs(weight).max() <= math.sqrt(6 / (fan_in + fan_out)) * (1 + 1e-6)
        assert not bias.any()


def test_the_weights_and_orders_of_a_seed_are_fixed_for_ever():
    # Others would change every published result: the numbers were written down once.
    weights_rng, orders_rng = training_rngs(1)
    genome = Genome.parse("RC 2 3 relu;RC 2 2 relu;FL relu")
    first = initial_weights(genome, 1, 10, weights_rng)[0].reshape(-1)[:3]
    np.testing.assert_allclose(first, [0.18765157, -0.30703941, 0.13681906], rtol=1e-6)
    assert next(epoch_orders(10, orders_rng)).tolist() == [5, 0, 9, 3, 2, 4, 6, 1, 8, 7]


def test_orders_are_permutations_that_differ_from_epoch_to_epoch():
    orders = epoch_orders(100, np.random.default_rng(0))
    first, second = next(orders), next(orders)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist()


def train_by_hand(genome, recipe, seed, data):
    """The reference training, written down once more with PyTorch's own schedulers."""
    weights_rng, orders_rng = training_rngs(seed)
    model = build_model(genome, data.shape, 10, initial_weights(genome, 1, 10, weights_rng))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=1e-9
    )
    n_steps = math.ceil(len(data.train) / 128)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.lr_decay ** (step / (10 * n_steps))
    )
    images = torch.from_numpy(data.train.images).float() / 255
    labels = torch.from_numpy(data.train.labels)
    for _ in range(recipe.epochs):
        order = torch.from_numpy(orders_rng.permutation(len(images)))
        for index in order.split(128):
            loss = nn.CrossEntropyLoss()(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        logits = model(torch.from_numpy(data.val.images).float() / 255)
        return model, float(functional.cross_entropy(logits, torch.from_numpy(data.val.labels)))


def test_the_torch_engine_is_the_reference_training(small):
    recipe = Recipe(lr=0.01, epochs=3, patience=None)
    result = train(GENOME, recipe, 5, small, engine="torch")
    model, loss = train_by_hand(GENOME, recipe, 5, small)
    assert result.last.loss == pytest.approx(loss, rel=1e-5)
    for mine, theirs in zip(result.weights, model.parameters(), strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_training_is_a_pure_function_of_its_arguments(small):
    recipe = Recipe(lr=0.02, epochs=2)
    first, again, other = (
        train(GENOME, recipe, seed, small, engine="torch") for seed in (1, 1, 2)
    )
    assert first.epochs == again.epochs
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))
    assert first.epochs != other.epochs


def test_training_learns_and_reports_it(small):
    seen = []
    result = train(
        GENOME,
        Recipe(lr=0.03, epochs=6, patience=None),
        1,
        small,
        engine="torch",
        on_epoch=seen.append,
    )
    assert [r.epoch for r in seen] == [1, 2, 3, 4, 5, 6]
    assert tuple(seen) == result.epochs
    assert result.last.accuracy > 0.45
    assert result.last.loss < result.epochs[0].loss
    assert result.best.accuracy == max(r.accuracy for r in seen)
    assert not result.dead
    model = build_model(GENOME, small.shape, 10, result.weights)
    assert evaluate_with_torch(model, small.val)[1] == result.last.accuracy


def test_training_stops_early_or_when_it_is_told_to(small):
    slow = Recipe(lr=1e-9, epochs=10)
    assert (
        len(train(GENOME, slow, 1, small, engine="torch").epochs) == 3
    )  # the first, and two without progress
    stopped = train(
        GENOME, Recipe(epochs=9), 1, small, engine="torch", on_epoch=lambda r: r.epoch == 2
    )
    assert len(stopped.epochs) == 2


def test_pytorch_runs_without_onednn(small):
    """It has corrupted memory on networks of the space: docs/decisions.md."""
    genome = Genome.parse("RC 1 3 relu;RC 1 3 relu;FL relu")
    torch.backends.mkldnn.enabled = True
    train(genome, Recipe(epochs=1), 1, small, engine="torch")
    assert not torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = True
    run_model(nn.Identity(), np.zeros((1, 1, 2, 2), np.float32))
    assert not torch.backends.mkldnn.enabled


def test_a_dead_network_is_told_from_a_small_one(small):
    # Of one filter and relu everywhere, some seeds cannot learn at all.
    dead = [train(DEAD, Recipe(epochs=1), seed, small, engine="torch").dead for seed in range(12)]
    assert any(dead)
    assert not train(GENOME, Recipe(lr=0.03, epochs=2), 1, small, engine="torch").dead


def test_a_training_that_diverges_says_so(small):
    with pytest.raises(DivergedError, match=r"the loss became nan .* try a smaller lr"):
        train(
            Genome.parse("RC 4 3 relu;RC 8 3 relu;FL swish"),
            Recipe(lr=1e30),
            1,
            small,
            engine="torch",
        )


def test_networks_that_cannot_fit_are_refused_before_they_are_built(small):
    huge = Genome.parse("NC 100000 7 relu;RC 1 1 relu;RC 1 1 relu;FL relu")
    with pytest.raises(TooLargeError, match=r"would need .* GiB, the limit is 8 GiB"):
        train(huge, Recipe(), 1, small)
    # Small in a batch of one image, and not with all that are evaluated at once.
    many = Genome.parse("NC 9000 1 relu;RC 1 1 relu;RC 1 1 relu;FL relu")
    with pytest.raises(TooLargeError, match=r"images at once would need .*; use fewer filters$"):
        train(many, Recipe(batch_size=1), 1, small)


def test_a_batch_is_no_larger_than_the_training_images(small):
    large = Genome.parse("RC 64 3 relu;RC 1 1 relu;FL relu")
    whole = train(large, Recipe(batch_size=len(small.train), epochs=1), 1, small, engine="torch")
    beyond = train(large, Recipe(batch_size=10**7, epochs=1), 1, small, engine="torch")
    assert [r.train_loss for r in beyond.epochs] == [r.train_loss for r in whole.epochs]


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_images_in_any_order_in_memory_are_the_same_images(small, engine):
    turned = Split(small.train.images[::-1], small.train.labels[::-1])
    straight = Split(turned.images.copy(), turned.labels.copy())
    recipe = Recipe(epochs=1)
    epochs = [
        train(GENOME, recipe, 1, TrainVal(split, small.val, 10), engine=engine).epochs
        for split in (turned, straight)
    ]
    assert epochs[0] == epochs[1]


def test_a_network_that_is_always_right_is_not_dead(small):
    shirts = small.val.labels == 6
    only = TrainVal(*[Split(small.val.images[shirts], small.val.labels[shirts])] * 2, 10)
    result = train(GENOME, Recipe(lr=0.03, epochs=5), 1, only, engine="torch")
    assert (result.last.accuracy, result.last.n_predicted_classes, result.dead) == (1, 1, False)


def test_an_unknown_engine_is_named(small):
    with pytest.raises(EngineError, match="unknown engine 'toch'; did you mean 'torch'"):
        train(GENOME, Recipe(), 1, small, engine="toch")
