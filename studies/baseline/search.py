"""A search for small CNNs on Fashion-MNIST with Optuna and PyTorch alone, as one would write it today.

    python studies/baseline/search.py --budget 900

Maximises validation accuracy and minimises parameters over the space of ``studies/fashion-mnist.toml`` with
Optuna's NSGA-II, and resumes when started again.
"""

import argparse
import json
import os
from datetime import datetime
from pathlib import Path

import optuna
import torch
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
}
MAX_PARAMS, MAX_MACS = 3000, 100_000
EPOCHS, BATCH_SIZE, N_VAL = 10, 128, 10_000


def load_data(folder: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then validation images and labels; the test images are not touched."""
    data = FashionMNIST(folder, train=True, download=True)
    images, labels = data.data.unsqueeze(1).float() / 255, data.targets
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, val = order[N_VAL:], order[:N_VAL]
    return images[train], labels[train], images[val], labels[val]


def build_model(trial: optuna.Trial) -> nn.Sequential:
    depth = trial.suggest_int("depth", 2, 5)
    layers: list[nn.Module] = []
    channels, size, macs, reductions_left = 1, 28, 0, 2
    for i in range(depth):
        if reductions_left in (0, depth - i):
            kind = "RC" if reductions_left else "NC"
        else:
            kind = trial.suggest_categorical(f"type_{i}", ["NC", "RC"])
        filters = trial.suggest_int(f"filters_{i}", 1, 16, log=True)
        kernel = trial.suggest_int(f"kernel_{i}", 1, min(5, size))
        activation = trial.suggest_categorical(f"activation_{i}", list(ACTIVATIONS))
        if kind == "NC":
            layers.append(nn.Conv2d(channels, filters, kernel, padding="same"))
        else:
            layers.append(nn.Conv2d(channels, filters, kernel, stride=2))
            size = (size - kernel) // 2 + 1
            reductions_left -= 1
        layers.append(ACTIVATIONS[activation]())
        macs += channels * filters * kernel**2 * size**2
        channels = filters
    macs += channels * 64 + 64 * 10
    final = ACTIVATIONS[trial.suggest_categorical("final_activation", list(ACTIVATIONS))]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(channels, 64), final(), nn.Linear(64, 10), final()]
    model = nn.Sequential(*layers)
    if count_params(model) > MAX_PARAMS or macs > MAX_MACS:
        raise optuna.TrialPruned("too large")
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def count_params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def train(model: nn.Module, data: tuple[Tensor, ...], lr: float, lr_decay: float) -> float:
    """The validation accuracy after the last epoch."""
    x, y, x_val, y_val = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, eps=1e-7, weight_decay=1e-9)
    n_steps = EPOCHS * -(-len(x) // BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_decay ** (step / n_steps)
    )
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            scheduler.step()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in x_val.split(1000)])
    return (predicted == y_val).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=900, help="seconds since the study began")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="trials at once")
    parser.add_argument("--data", default="data", help="torchvision's folder")
    parser.add_argument("--out", type=Path, default=Path("baseline"), help="folder of the results")
    args = parser.parse_args()
    torch.set_num_threads(max((os.cpu_count() or 1) // args.jobs, 1))
    data = load_data(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="baseline",
        storage=f"sqlite:///{args.out / 'study.db'}",
        sampler=optuna.samplers.NSGAIISampler(seed=args.seed),
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )
    began = study.trials[0].datetime_start if study.trials else datetime.now()

    def objective(trial: optuna.Trial) -> tuple[float, int]:
        model = build_model(trial)
        lr = trial.suggest_float("lr", 0.002, 0.1, log=True)
        lr_decay = trial.suggest_float("lr_decay", 0.01, 1.0, log=True)
        return train(model, data, lr, lr_decay), count_params(model)

    def write(_study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state == optuna.trial.TrialState.COMPLETE:
            accuracy, n_params = trial.values
            seconds = (datetime.now() - began).total_seconds()
            row = {"seconds": seconds, "n_params": int(n_params), "accuracy": accuracy}
            with (args.out / "trials.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    left = args.budget - (datetime.now() - began).total_seconds()
    if left > 0:
        study.optimize(objective, timeout=left, n_jobs=args.jobs, callbacks=[write])


if __name__ == "__main__":
    main()
