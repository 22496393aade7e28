"""Frozen records that cross the borders between modules; those that are printed have a JSON form."""

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from nasopt.genome import Genome

TrialState = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a search decides: an architecture and the hyperparameters to train it with."""

    genome: Genome
    lr: float
    lr_decay: float


@dataclass(frozen=True, slots=True)
class StopRule:
    """Ends a training whose accuracy after epoch ``i``, from 1, is below ``minimum[i - 1]``.

    Without a minimum for an epoch the training goes on. The rule is frozen before the training
    begins, so that an evaluation stays a pure function.
    """

    minimum: tuple[float, ...] = ()

    def should_stop(self, epoch: int, accuracy: float) -> bool:
        """Whether to end the training after ``epoch``."""
        return epoch <= len(self.minimum) and accuracy < self.minimum[epoch - 1]


TO_THE_END = StopRule()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one training told; accuracies are fractions, ``curve`` holds one per epoch.

    ``dead`` says that the network ended up predicting one and the same class for every image, so
    that its accuracy tells nothing of its size. ``stopped`` says that a stop rule ended the training, so that
    ``val_accuracy`` is that of its last epoch and not what the network can reach.
    """

    val_accuracy: float
    train_accuracy: float
    curve: tuple[float, ...]
    dead: bool
    duration_s: float
    stopped: bool = False


class Evaluator(Protocol):
    """Anything that trains a candidate from a seed under a rule: a pure function, and picklable.

    An exception that it raises is recorded as the reason why the trial failed.
    """

    def __call__(self, candidate: Candidate, seed: int, rule: StopRule) -> Evaluation:
        """The evaluation of ``candidate`` trained from ``seed``, to the end or until ``rule`` ends it."""
        ...


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a study, as selection and reports see it.

    ``evaluation`` is None if the network was not trained; ``reason`` tells why a trial failed or was pruned.
    ``replicate`` counts the trainings of its candidate from 0, each from a seed of its own.
    ``elapsed_s`` is when it ended, in seconds of search since the study began. ``duplicate_of`` is the number
    of the trial whose evaluation was used again. ``rule`` is the stop rule it was asked with; a ``control`` is
    trained to the end all the same, so that the rule can be judged by it.
    """

    number: int
    state: TrialState
    candidate: Candidate
    n_params: int
    macs: int
    peak_bytes: int
    seed: int
    evaluation: Evaluation | None = None
    elapsed_s: float = 0.0
    duplicate_of: int | None = None
    reason: str | None = None
    rule: StopRule = TO_THE_END
    control: bool = False
    replicate: int = 0

    @property
    def val_accuracy(self) -> float:
        """The validation accuracy at the last epoch.

        Raises:
            ValueError: if the trial did not complete.
        """
        if self.evaluation is None or self.state != "complete":
            raise ValueError(f"trial {self.number} has no accuracy: it is {self.state}")
        return self.evaluation.val_accuracy

    @property
    def is_too_large(self) -> bool:
        """Whether it was not trained, since it exceeds a cap of the space."""
        return self.state == "pruned" and self.evaluation is None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, without nesting."""
        evaluation = asdict(self.evaluation) if self.evaluation else {"val_accuracy": None}
        return {
            "number": self.number,
            "state": self.state,
            "genome": str(self.candidate.genome),
            "n_params": self.n_params,
            **evaluation,
            "lr": self.candidate.lr,
            "lr_decay": self.candidate.lr_decay,
            "macs": self.macs,
            "peak_bytes": self.peak_bytes,
            "seed": self.seed,
            "elapsed_s": self.elapsed_s,
            "duplicate_of": self.duplicate_of,
            "reason": self.reason,
            "control": self.control,
            "replicate": self.replicate,
        }


@dataclass(frozen=True, slots=True)
class Race:
    """Validation accuracies of one candidate from fresh seeds, in the order of their replicates.

    A training that diverged counts as an accuracy of 0.
    """

    number: int
    candidate: Candidate
    n_params: int
    accuracies: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return sum(self.accuracies) / len(self.accuracies)

    def n_above(self, bar: float) -> int:
        """How many seeds are above ``bar``."""
        return sum(accuracy > bar for accuracy in self.accuracies)

    def to_json(self) -> dict[str, Any]:
        """The race as plain JSON values."""
        return {
            "number": self.number,
            "genome": str(self.candidate.genome),
            "n_params": self.n_params,
            "lr": self.candidate.lr,
            "lr_decay": self.candidate.lr_decay,
            "val_accuracies": list(self.accuracies),
        }


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One training on all training images, judged on test images.

    ``test_accuracy`` is read at the last epoch, ``best_test_accuracy`` at the best one.
    """

    replicate: int
    seed: int
    test_accuracy: float
    best_test_accuracy: float
    train_accuracy: float
    dead: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """The trainings of one trial's candidate from further seeds, in the order of their replicates, against the bar.

    ``n_images`` is how many test images the accuracies are shares of; 0 where that is not known.
    """

    number: int
    candidate: Candidate
    n_params: int
    bar: float
    seeds: tuple[SeedResult, ...]
    n_images: int = 0

    @property
    def accuracies(self) -> list[float]:
        """The test accuracy of every seed, at its last epoch."""
        return [result.test_accuracy for result in self.seeds]

    @property
    def mean(self) -> float:
        """The mean test accuracy over seeds."""
        return float(np.mean(self.accuracies))

    @property
    def sd(self) -> float:
        """The sample standard deviation of the test accuracy over seeds; 0 for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.seeds) > 1 else 0.0

    @property
    def test_error(self) -> float | None:
        """The standard error that a test set of this size leaves in an accuracy like the mean; a binomial's.

        Two images more that are right, and two that are wrong, keep it above 0 where all are right: Agresti and Coull (1998).
        """
        if not self.n_images:
            return None
        n_images = self.n_images + 4
        share = (self.mean * self.n_images + 2) / n_images
        return math.sqrt(share * (1 - share) / n_images)

    @property
    def n_passed(self) -> int:
        """How many seeds are above the bar."""
        return sum(accuracy > self.bar for accuracy in self.accuracies)

    @property
    def first_passed(self) -> SeedResult:
        """The first seed above the bar; a network that is chosen has one."""
        return next(result for result in self.seeds if result.test_accuracy > self.bar)

    @property
    def pass_rate(self) -> float:
        """The share of seeds above the bar."""
        return self.n_passed / len(self.seeds)

    def to_json(self) -> dict[str, Any]:
        """The verification as plain JSON values."""
        return {
            "number": self.number,
            "genome": str(self.candidate.genome),
            "n_params": self.n_params,
            "lr": self.candidate.lr,
            "lr_decay": self.candidate.lr_decay,
            "bar": self.bar,
            "test_accuracy_mean": self.mean,
            "test_accuracy_sd": self.sd,
            "test_accuracy_min": min(self.accuracies),
            "test_images": self.n_images,
            "test_set_error": self.test_error,
            "pass_rate": self.pass_rate,
            "seeds": [asdict(result) for result in self.seeds],
        }


SeedPurpose = Literal["search", "race", "final"]


def trial_seed(
    study_seed: int, genome: Genome, replicate: int = 0, purpose: SeedPurpose = "search"
) -> int:
    """The seed, below 2**32, that ``genome`` is trained from in a study.

    A search, the race of a verification, and its final trainings have seeds of their own, so that none
    is judged by what it was chosen for.
    """
    digest = hashlib.sha256(str(genome).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    key = {"search": (), "race": (1,), "final": (2,)}[purpose]
    sequence = np.random.SeedSequence([study_seed, replicate, *words], spawn_key=key)
    return int(sequence.generate_state(1)[0])
