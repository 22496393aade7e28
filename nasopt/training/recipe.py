"""How a network is trained: the numbers that, with a genome, a seed and data, fix the result."""

from dataclasses import dataclass
from typing import Self

from nasopt.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training recipe; the defaults are those of the reference training function.

    The learning rate at a step is ``lr * lr_decay ** (step / (decay_epochs * steps_per_epoch))``.
    ``patience`` is the number of epochs without an improvement of the evaluation loss by
    ``min_delta`` after which training stops; None trains for all ``epochs``.

    Raises:
        SettingsError: if a number is out of its range.
    """

    lr: float = 2e-3
    lr_decay: float = 0.05
    epochs: int = 10
    batch_size: int = 128
    decay_epochs: int = 10
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-7
    weight_decay: float = 1e-9
    patience: int | None = 2
    min_delta: float = 0.005

    def __post_init__(self) -> None:
        for name in ("lr", "lr_decay", "eps"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SettingsError(f"{name} must be a number above 0, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(
                    f"{name} must be a number from 0 to below 1, not {getattr(self, name)}"
                )
        for name in ("weight_decay", "min_delta"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingsError(
                    f"{name} must be a number from 0 on, not {getattr(self, name)}"
                )
        for name in ("epochs", "batch_size", "decay_epochs"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise SettingsError(
                f"patience must be at least 1 epoch, or None to switch it off, not {self.patience}"
            )

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of ``step``, counted from 0 over the whole training."""
        return float(self.lr * self.lr_decay ** (step / (self.decay_epochs * steps_per_epoch)))

    def steps_per_epoch(self, n_images: int) -> int:
        """The number of batches in an epoch; the last, partial one counts."""
        return -(-n_images // self.batch_size)


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch told.

    ``train_loss`` and ``train_accuracy`` are running means over the epoch's batches, each taken
    before its update; ``loss`` and ``accuracy`` are over the evaluation images after the epoch.
    ``n_predicted_classes`` counts the distinct classes predicted there: 1 means a dead network.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    loss: float
    accuracy: float
    n_predicted_classes: int


class EarlyStopping:
    """Says when the evaluation loss has not fallen by ``min_delta`` for ``patience`` epochs."""

    def __init__(self, patience: int | None, min_delta: float) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self._best_loss = float("inf")
        self._n_waited = 0

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The early stopping that ``recipe`` asks for."""
        return cls(recipe.patience, recipe.min_delta)

    def should_stop(self, loss: float) -> bool:
        """Whether to stop after an epoch with this evaluation loss."""
        if loss < self._best_loss - self._min_delta:
            self._best_loss = loss
            self._n_waited = 0
            return False
        self._n_waited += 1
        return self._patience is not None and self._n_waited >= self._patience
