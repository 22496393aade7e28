"""A stand-in for training in our space, learned from the table of real trainings: ``python studies/trained_table.py``.

Three forests over the features of a candidate predict the mean of a training's logarithmic error, how much it
varies from seed to seed, and how often a training is dead. They are of another kind than the sampler's Gaussian process, though
they read the same description of a network. What they err by, cross-validated over genomes, is printed.
The table comes from searches with our own sampler, so it knows best what that sampler visits.

``n`` is the number of candidates.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.model_selection import GroupKFold, cross_val_predict

from nasopt.cost import count_macs
from nasopt.genome import Genome, ImageShape
from nasopt.records import Candidate
from nasopt.search.genome_features import make_features
from nasopt.settings import read_study_file
from nasopt.space import SearchSpace

STUDIES = Path(__file__).parent
TABLE = STUDIES / "results" / "fashion-mnist-table.json"
STUDY = read_study_file(STUDIES / "fashion-mnist.toml")
SPACE = STUDY.search_space(ImageShape(1, 28, 28), 10)
DEAD_ACCURACY = 0.1
MIN_SEEDS = 10  # alive, of a candidate whose spread is learned from
MAX_CHANCE = 0.95

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trainings:
    """All trainings of one candidate: the logarithmic errors of those that lived, how many were dead, the mean time of one."""

    candidate: Candidate
    log_errors: Array
    n_dead: int
    seconds: float

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.log_errors) + self.n_dead


def read_table(path: Path = TABLE) -> list[Trainings]:
    """The trainings that ``make_table.py`` published, by candidate."""
    rows: dict[Candidate, list[tuple[float, bool, float]]] = {}
    for _, genome, lr, lr_decay, _, curve, dead, seconds in json.loads(path.read_text()):
        candidate = Candidate(Genome.parse(genome), lr, lr_decay)
        rows.setdefault(candidate, []).append((curve[-1], dead, seconds))
    return [
        Trainings(
            candidate,
            np.log(1 - np.array([accuracy for accuracy, dead, _ in runs if not dead])),
            sum(dead for _, dead, _ in runs),
            float(np.mean([seconds for _, _, seconds in runs])),
        )
        for candidate, runs in rows.items()
    ]


@dataclass(frozen=True, slots=True)
class Truth:
    """What trainings of some candidates come to, each array of shape ``(n,)``.

    ``accuracies`` are means over seeds, dead ones included; ``pass_rates`` the shares of seeds above the bar.
    """

    accuracies: Array
    pass_rates: Array


class TrainedTable:
    """Accuracies of any candidate of the space, as the trainings in the table suggest them."""

    def __init__(self, trainings: Sequence[Trainings], space: SearchSpace = SPACE) -> None:
        self.space = space
        self._features = with_params(space)
        features = np.stack([self._features(t.candidate) for t in trainings])
        alive = np.array([len(t.log_errors) > 0 for t in trainings])
        means = np.array([t.log_errors.mean() for t in trainings if len(t.log_errors)])
        self._mean = mean_model().fit(features[alive], means)
        often = np.array([len(t.log_errors) >= MIN_SEEDS for t in trainings])
        sds = np.array(
            [t.log_errors.std(ddof=1) for t in trainings if len(t.log_errors) >= MIN_SEEDS]
        )
        self._sd = forest().fit(features[often], np.log(sds))
        shares = np.array([t.n_dead / t.n for t in trainings])
        self._dead = forest().fit(features, shares, sample_weight=[t.n**0.5 for t in trainings])
        # Deviations in units of a candidate's own spread, all candidates pooled: their tails are heavy.
        pooled = [
            (t.log_errors - t.log_errors.mean()) / t.log_errors.std(ddof=1)
            for t in trainings
            if len(t.log_errors) >= MIN_SEEDS
        ]
        self._deviations = np.sort(np.concatenate(pooled))
        macs = np.array([self._macs(t.candidate) for t in trainings])
        times = np.array([t.seconds for t in trainings])
        self._s_per_mac, self._overhead_s = np.polyfit(
            macs, times, 1, w=[t.n**0.5 for t in trainings]
        )
        self._known: dict[Candidate, tuple[float, float, float]] = {}

    def predict(self, candidates: Sequence[Candidate]) -> tuple[Array, Array, Array]:
        """Mean and standard deviation of the logarithmic error, and chance of death, each ``(n,)``."""
        new = [c for c in dict.fromkeys(candidates) if c not in self._known]
        if new:
            features = np.stack([self._features(c) for c in new])
            columns = (
                self._mean.predict(features),
                np.exp(self._sd.predict(features)),
                np.clip(self._dead.predict(features), 0, MAX_CHANCE),
            )
            self._known |= dict(
                zip(new, zip(*(c.tolist() for c in columns), strict=True), strict=True)
            )
        rows = np.array([self._known[c] for c in candidates])
        return rows[:, 0], rows[:, 1], rows[:, 2]

    def train(self, candidate: Candidate, seed: int) -> float:
        """The accuracy of one training, a pure function of its arguments."""
        digest = hashlib.sha256(repr((candidate, seed)).encode()).digest()
        rng = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
        (mean,), (sd,), (death,) = self.predict([candidate])
        deviation = rng.choice(self._deviations)
        if rng.random() < death:
            return DEAD_ACCURACY
        return float(np.clip(1 - np.exp(mean + sd * deviation), 0, 1))

    def seconds(self, candidate: Candidate) -> float:
        """How long a training takes one core of the machine that made the table: least squares over MACs."""
        return float(self._overhead_s + self._s_per_mac * self._macs(candidate))

    def _macs(self, candidate: Candidate) -> int:
        return count_macs(candidate.genome, self.space.image, self.space.n_classes)

    def truth(self, candidates: Sequence[Candidate], bar: float = STUDY.bar) -> Truth:
        """What trainings of ``candidates`` come to over all seeds."""
        mean, sd, death = self.predict(candidates)
        logs = mean[:, None] + sd[:, None] * self._deviations
        alive = np.clip(1 - np.exp(logs), 0, 1)
        return Truth(
            death * DEAD_ACCURACY + (1 - death) * alive.mean(axis=1),
            (1 - death) * (alive > bar).mean(axis=1),
        )


def with_params(space: SearchSpace) -> Callable[[Candidate], Array]:
    """The sampler's description of a candidate, and its exact number of parameters."""
    describe = make_features(space)
    return lambda c: np.append(describe(c), np.log(space.n_params(c.genome)))


def mean_model() -> GradientBoostingRegressor:
    """The best of four kinds of forests in cross-validation."""
    return GradientBoostingRegressor(
        n_estimators=500,
        learning_rate=0.05,
        max_depth=4,
        subsample=0.5,
        min_samples_leaf=5,
        max_features=0.5,
        random_state=0,
    )


def forest() -> RandomForestRegressor:
    """For what few candidates tell of: leaves of at least five."""
    return RandomForestRegressor(50, min_samples_leaf=5, max_features=0.5, random_state=0)


def cross_validate(trainings: Sequence[Trainings], bar: float = STUDY.bar) -> dict[str, float]:
    """What the models err by on genomes that they have not seen, 10 folds."""
    features = np.stack([with_params(SPACE)(t.candidate) for t in trainings])
    genomes = np.array([str(t.candidate.genome) for t in trainings])

    def predicted(model: object, targets: Array, rows: NDArray[np.bool_]) -> Array:
        folds = GroupKFold(10)
        return cross_val_predict(model, features[rows], targets, groups=genomes[rows], cv=folds)

    alive = np.array([len(t.log_errors) > 0 for t in trainings])
    often = np.array([len(t.log_errors) >= MIN_SEEDS for t in trainings])
    means = np.array([t.log_errors.mean() for t in trainings if len(t.log_errors)])
    guesses = predicted(mean_model(), means, alive)
    errors = np.exp(means) - np.exp(guesses)
    near = np.abs(1 - np.exp(means) - bar) < 0.05
    known_well = often[alive]
    sds = np.log([t.log_errors.std(ddof=1) for t in trainings if len(t.log_errors) >= MIN_SEEDS])
    sd_guesses = predicted(forest(), sds, often)
    shares = np.array([t.n_dead / t.n for t in trainings])
    n = np.array([t.n for t in trainings])
    chances = np.clip(predicted(forest(), shares, n > 0), 0.005, MAX_CHANCE)
    overall = (shares * n).sum() / n.sum()

    def log_loss(chance: Array | float) -> float:
        losses = -(shares * np.log(chance) + (1 - shares) * np.log1p(-np.asarray(chance)))
        return float((n * losses).sum() / n.sum())

    return {
        "candidates": len(trainings),
        "trainings": int(n.sum()),
        "r2 of log error": 1 - np.mean((guesses - means) ** 2) / means.var(),
        "median error of accuracy": float(np.median(np.abs(errors))),
        "rms error of accuracy": float(np.sqrt(np.mean(errors**2))),
        "rms error within 5 points of the bar": float(np.sqrt(np.mean(errors[near] ** 2))),
        "median error where many seeds are known": float(np.median(np.abs(errors[known_well]))),
        "rms error where many seeds are known": float(np.sqrt(np.mean(errors[known_well] ** 2))),
        "r2 of log spread": 1 - np.mean((sd_guesses - sds) ** 2) / sds.var(),
        "log loss of death": log_loss(chances),
        "log loss of death, features unknown": log_loss(overall),
    }


def main() -> None:
    trainings = read_table()
    for name, value in cross_validate(trainings).items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
