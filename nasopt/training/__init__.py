"""Training: ``train(...)`` follows the same trajectory on every engine, up to rounding."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from nasopt.cost import BYTES_PER_VALUE, Cost, count_cost, images_at_once
from nasopt.data import TrainVal
from nasopt.errors import DivergedError, TooLargeError
from nasopt.genome import Genome
from nasopt.training.engines import ENGINES, choose_engine
from nasopt.training.randomness import Weights, epoch_orders, initial_weights, training_rngs
from nasopt.training.recipe import EarlyStopping, EpochResult, Recipe

__all__ = ["ENGINES", "EarlyStopping", "EpochResult", "Recipe", "TrainingResult", "train"]

MAX_TRAINING_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A trained network: its weights in PyTorch's order and layout, and what every epoch told."""

    genome: Genome
    n_params: int
    weights: Weights
    epochs: tuple[EpochResult, ...]
    engine: str
    duration_s: float

    @property
    def last(self) -> EpochResult:
        """The last epoch: what search and selection go by."""
        return self.epochs[-1]

    @property
    def best(self) -> EpochResult:
        """The first epoch of the highest accuracy: what the task's own definition goes by."""
        return max(self.epochs, key=lambda result: result.accuracy)

    @property
    def dead(self) -> bool:
        """Whether the network ended up predicting one class for every image, and not only since there is but one."""
        return self.last.n_predicted_classes == 1 and self.last.accuracy < 1


def train(
    genome: Genome,
    recipe: Recipe,
    seed: int,
    data: TrainVal,
    *,
    engine: str = "auto",
    on_epoch: Callable[[EpochResult], bool | None] = lambda _result: None,
) -> TrainingResult:
    """The network of ``genome`` trained on ``data.train`` and evaluated on ``data.val`` every epoch.

    The result is a pure function of the arguments, up to the rounding of the engine.

    Args:
        genome: the architecture.
        recipe: how to train.
        seed: fixes the initial weights and the order of the images.
        data: images to train on and to evaluate on.
        engine: ``torch``, ``native``, or ``auto`` for the fastest that works here.
        on_epoch: called after every epoch; training ends when it returns True.

    Raises:
        GenomeError: if the genome does not fit the images.
        TooLargeError: if training would need more memory than is sensible.
        DivergedError: if the loss becomes NaN or infinite.
        EngineError: if the engine is unknown or cannot be used here.
    """
    chosen = choose_engine(engine)
    cost = count_cost(genome, data.shape, data.n_classes)
    _check_memory(cost, recipe, data)
    weights_rng, orders_rng = training_rngs(seed)
    start = initial_weights(genome, data.shape.channels, data.n_classes, weights_rng)
    stopping = EarlyStopping.of(recipe)
    epochs: list[EpochResult] = []

    def after_epoch(result: EpochResult) -> bool:
        epochs.append(result)
        if not (math.isfinite(result.train_loss) and math.isfinite(result.loss)):
            raise DivergedError(
                f"the loss became {result.train_loss} (train) and {result.loss} (evaluation) in epoch {result.epoch} "
                f"of {genome} with lr {recipe.lr:g}; try a smaller lr"
            )
        stopped_outside = on_epoch(result)
        return stopping.should_stop(result.loss) or bool(stopped_outside)

    began = time.perf_counter()
    trained = chosen.run(
        genome, recipe, data, start, epoch_orders(len(data.train), orders_rng), after_epoch
    )
    return TrainingResult(
        genome, cost.n_params, trained, tuple(epochs), chosen.name, time.perf_counter() - began
    )


def _check_memory(cost: Cost, recipe: Recipe, data: TrainVal) -> None:
    """Refuses what would not fit: a batch's activations and gradients, or a layer's maps of all images that are evaluated at once."""
    n_batch = min(recipe.batch_size, len(data.train))
    n_at_once = min(len(data.val), images_at_once(data.shape.height, data.shape.width))
    values = sum(row.output.n_values for row in cost.layers)
    training = BYTES_PER_VALUE * (2 * values * n_batch + 4 * cost.n_params)
    evaluation = cost.peak_bytes * n_at_once
    if max(training, evaluation) <= MAX_TRAINING_BYTES:
        return
    limit = f"the limit is {MAX_TRAINING_BYTES / 2**30:.0f} GiB"
    if evaluation > training:
        raise TooLargeError(
            f"evaluating a network of {cost.n_params:,} parameters on {n_at_once} images at once would need "
            f"{evaluation / 2**30:.1f} GiB, {limit}; use fewer filters"
        )
    raise TooLargeError(
        f"training a network of {cost.n_params:,} parameters with batches of {n_batch} would need "
        f"{training / 2**30:.1f} GiB, {limit}; use fewer filters or a smaller batch"
    )
