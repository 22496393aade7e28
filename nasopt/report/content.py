"""What a report is made of, as plain data: handed in by others, rendered here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nasopt.cost import Cost, count_cost
from nasopt.genome import ImageShape
from nasopt.records import TrialRecord
from nasopt.report.baselines import Baselines
from nasopt.selection import Selection


@dataclass(frozen=True, slots=True)
class WrongImage:
    """A test image that a network got wrong.

    ``confidence`` is the probability it gave to ``predicted``, ``for_label`` that for the ``label``. ``pixels`` are
    uint8 of shape ``(h, w)``, or ``(h, w, 3)`` in colour.
    """

    index: int
    label: int
    predicted: int
    confidence: float
    for_label: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one trained network does on the test images.

    ``confusion[i][j]`` counts images of class ``i`` that were taken for class ``j``; ``wrong`` holds the most wrong
    images, the worst first; ``seed`` is the one that the network was trained from.
    """

    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    wrong: tuple[WrongImage, ...]
    seed: int

    @property
    def n_images(self) -> int:
        """How many test images there are."""
        return sum(map(sum, self.confusion))

    @property
    def n_wrong(self) -> int:
        """How many of them were taken for another class."""
        return self.n_images - sum(row[i] for i, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of images whose class was found."""
        return 1 - self.n_wrong / self.n_images

    def mix_ups(self, n: int) -> list[tuple[int, str, str]]:
        """The ``n`` most frequent mistakes: how often, the class, what it was taken for."""
        pairs = [
            (count, self.class_names[i], self.class_names[j])
            for i, row in enumerate(self.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[0])[:n]


@dataclass(frozen=True, slots=True)
class ReportInput:
    """All that a report tells.

    ``facts`` are shown as a table, in their order, and ``command`` above them; ``study_file`` is the text of the
    study's settings. ``importances`` are shares of Optuna's parameters in what decided the accuracy, the largest first.
    ``baselines`` are other searches, drawn beside the study's progress.
    """

    name: str
    records: Sequence[TrialRecord]
    selection: Selection
    image: ImageShape
    n_classes: int
    facts: Mapping[str, str]
    command: str = ""
    study_file: str = ""
    inspection: Inspection | None = None
    importances: Mapping[str, float] = field(default_factory=dict)
    baselines: Baselines = field(default_factory=dict)

    @property
    def chosen_cost(self) -> Cost | None:
        """The layer table of the chosen network."""
        chosen = self.selection.chosen
        if chosen is None:
            return None
        return count_cost(chosen.candidate.genome, self.image, self.n_classes)
