"""Frozen records that cross the borders between modules, each with a JSON form."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from nasopt.genome import Genome
from nasopt.pareto import is_non_dominated

TrialState = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a search decides: an architecture and the hyperparameters to train it with."""

    genome: Genome
    lr: float
    lr_decay: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one training told; accuracies are fractions, ``curve`` holds one per epoch.

    ``dead`` says that the network ended up predicting one and the same class for every image, so
    that its accuracy tells nothing of its size.
    """

    val_accuracy: float
    train_accuracy: float
    curve: tuple[float, ...]
    dead: bool
    duration_s: float


class Evaluator(Protocol):
    """Anything that trains a candidate from a seed: a pure function of the two, and picklable.

    An exception that it raises is recorded as the reason why the trial failed.
    """

    def __call__(self, candidate: Candidate, seed: int) -> Evaluation:
        """The evaluation of ``candidate`` trained from ``seed``."""
        ...


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a study, as selection and reports see it.

    ``evaluation`` is None unless the state is ``complete``; ``reason`` tells why a trial failed or
    was pruned. ``elapsed_s`` is when it ended, in seconds of search since the study began.
    ``duplicate_of`` is the number of the trial whose evaluation was used again.
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

    @property
    def val_accuracy(self) -> float:
        """The validation accuracy at the last epoch.

        Raises:
            ValueError: if the trial did not complete.
        """
        if self.evaluation is None:
            raise ValueError(f"trial {self.number} has no accuracy: it is {self.state}")
        return self.evaluation.val_accuracy

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
        }


def completed(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records that have an accuracy, in order of their number."""
    return sorted((r for r in records if r.evaluation is not None), key=lambda r: r.number)


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The completed records that no other dominates, smallest network first, each point once."""
    points = {(r.n_params, r.val_accuracy): r for r in reversed(completed(records))}
    if not points:
        return []
    mask = is_non_dominated([(size, -accuracy) for size, accuracy in points])
    front = [r for r, keep in zip(points.values(), mask, strict=True) if keep]
    return sorted(front, key=lambda r: r.n_params)


def trial_seed(study_seed: int, genome: Genome, replicate: int = 0) -> int:
    """The seed, below 2**32, that ``genome`` is trained from in a study."""
    digest = hashlib.sha256(str(genome).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    sequence = np.random.SeedSequence([study_seed, replicate, *words])
    return int(sequence.generate_state(1)[0])
