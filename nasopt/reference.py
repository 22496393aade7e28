"""The reference training function: how the task itself judges a genome.

It trains on all training images and stops early on the test loss, as the task defines it. A search never
does that: see :mod:`nasopt.evaluation` and :mod:`nasopt.verification`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np

from nasopt.data import FASHION_MNIST, DataSource
from nasopt.genome import Genome
from nasopt.training import EpochResult, Recipe, TrainingResult, train
from nasopt.verification import final_data


def train_reference(
    genome: Genome,
    recipe: Recipe,
    seed: int,
    source: DataSource,
    *,
    engine: str = "auto",
    on_epoch: Callable[[EpochResult], bool | None] = lambda _result: None,
) -> TrainingResult:
    """The network of ``genome`` trained by the reference recipe, its accuracies those on test images.

    Raises:
        DataError: if the data cannot be read.
        TrainingError: if the training gives no result.
    """
    return train(genome, recipe, seed, final_data(source), engine=engine, on_epoch=on_epoch)


def judge(
    genome: str, lr: float = 2e-3, lr_decay: float = 0.05, seed: int = 0
) -> tuple[float, float, int]:
    """The task's own verdict on Fashion-MNIST, as it words it.

    Returns:
        The best test accuracy over epochs, the train accuracy of that epoch, and the number of parameters.
    """
    recipe = Recipe(lr=lr, lr_decay=lr_decay)
    result = train_reference(Genome.parse(genome), recipe, seed, DataSource.parse(FASHION_MNIST))
    return result.best.accuracy, result.best.train_accuracy, result.n_params


def summarize_seeds(
    results: Sequence[tuple[int, TrainingResult]],
    bar: float,
    failures: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What ``(seed, result)`` pairs of one genome, one at least, say together, as plain JSON values.

    ``failures`` are the reasons why further seeds gave no result; they count as an accuracy of 0.
    """
    zeros = [0.0] * len(failures)
    last = [result.last.accuracy for _, result in results] + zeros
    best = [result.best.accuracy for _, result in results] + zeros
    _, first = results[0]
    return {
        "genome": str(first.genome),
        "n_params": first.n_params,
        "engine": first.engine,
        "bar": bar,
        "test_accuracy_mean": float(np.mean(last)),
        "test_accuracy_sd": float(np.std(last, ddof=1)) if len(last) > 1 else 0.0,
        "pass_rate": float(np.mean([accuracy > bar for accuracy in last])),
        "best_test_accuracy_mean": float(np.mean(best)),
        "best_pass_rate": float(np.mean([accuracy > bar for accuracy in best])),
        "seeds": [
            {
                "seed": seed,
                "test_accuracy": result.last.accuracy,
                "best_test_accuracy": result.best.accuracy,
                "best_epoch": result.best.epoch,
                "train_accuracy": result.best.train_accuracy,
                "last_train_accuracy": result.last.train_accuracy,
                "dead": result.dead,
                "duration_s": result.duration_s,
                "curve": [asdict(epoch) for epoch in result.epochs],
            }
            for seed, result in results
        ],
        "failures": [{"seed": seed, "reason": reason} for seed, reason in failures.items()],
    }
