"""The reference engine: PyTorch on one CPU thread."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nasopt.cost import images_at_once
from nasopt.data import Split, TrainVal
from nasopt.genome import Genome
from nasopt.model import build_model
from nasopt.training.randomness import Weights
from nasopt.training.recipe import EpochResult, Recipe

# oneDNN corrupts memory on 1x1 reductions of one filter (torch 2.14.1, AVX2): see docs/decisions.md. Benchmarks switch
# it on, to compare with PyTorch at its best.
use_onednn = False


def train_with_torch(
    genome: Genome,
    recipe: Recipe,
    data: TrainVal,
    weights: Weights,
    orders: Iterator[NDArray[np.int64]],
    on_epoch: Callable[[EpochResult], bool],
) -> Weights:
    """The weights after training from ``weights``, one permutation of ``orders`` an epoch.

    ``on_epoch`` is called after every epoch, and ends the training by returning True.
    """
    torch.set_num_threads(1)  # more do not help networks this small, and would change the sums
    torch.backends.mkldnn.enabled = use_onednn  # type: ignore[assignment]
    model = build_model(genome, data.shape, data.n_classes, weights)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
    )
    images, labels = _tensors(data.train)
    for epoch in range(1, recipe.epochs + 1):
        turn = (torch.from_numpy(next(orders)), epoch)
        train_loss, train_accuracy = _run_epoch(model, optimizer, recipe, (images, labels), turn)
        judged = evaluate_with_torch(model, data.val)
        if on_epoch(EpochResult(epoch, train_loss, train_accuracy, *judged)):
            break
    return [parameter.detach().numpy().copy() for parameter in model.parameters()]


def evaluate_with_torch(model: nn.Module, split: Split) -> tuple[float, float, int]:
    """The loss, the accuracy and the number of distinct predicted classes of ``model`` on ``split``."""
    images, labels = _tensors(split)
    batch_size = images_at_once(split.shape.height, split.shape.width)
    loss, n_correct = 0.0, 0
    predicted: set[int] = set()
    model.eval()
    with torch.inference_mode():
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(_as_input(batch))
            loss += float(functional.cross_entropy(logits, target, reduction="sum"))
            classes = logits.argmax(1)
            n_correct += int((classes == target).sum())
            predicted.update(classes.unique().tolist())
    model.train()
    return loss / len(split), n_correct / len(split), len(predicted)


def _run_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    data: tuple[Tensor, Tensor],
    turn: tuple[Tensor, int],
) -> tuple[float, float]:
    images, labels = data
    order, epoch = turn
    n_steps = recipe.steps_per_epoch(len(order))
    loss_sum, n_correct = 0.0, 0
    for step, index in enumerate(order.split(recipe.batch_size), start=(epoch - 1) * n_steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, n_steps)
        target = labels[index]
        logits = model(_as_input(images[index]))
        loss = functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(index)
        n_correct += int((logits.argmax(1) == target).sum())
    return loss_sum / len(order), n_correct / len(order)


def _tensors(split: Split) -> tuple[Tensor, Tensor]:
    # Contiguous, since torch takes no reversed arrays.
    images = np.ascontiguousarray(split.images)
    labels = np.ascontiguousarray(split.labels, dtype=np.int64)
    return torch.from_numpy(images), torch.from_numpy(labels)


def _as_input(batch: Tensor) -> Tensor:
    return batch.float().div_(255) if batch.dtype == torch.uint8 else batch
