"""What a search is to do, without Optuna."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasopt.records import Candidate
from nasopt.search.stopping import Confidence
from nasopt.space import SearchSpace


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a study searches, and how; ``identity`` is all that must not change between its runs.

    ``bar`` is the constraint; a network is feasible when a single training is above it by ``margin``, or the mean
    of ``n`` by ``margin / sqrt(n)``. ``replicate_share`` of the trials train a promising network of the
    search again, from a further seed. Trials come in generations of ``generation_size``. What a trial samples may depend on the trials
    of generations two or more before its own, so the driver starts no trial before those have ended.
    ``stop_confidence`` is that of early stopping, ``growing`` for :func:`nasopt.search.stopping.confidence_after`, None to train every
    trial to the end. The first trials are those of ``start``, candidates of ``space``.
    """

    name: str
    space: SearchSpace
    bar: float
    seed: int
    margin: float = 0.0
    sampler: str = "nsga2"
    population_size: int = 20
    generation_size: int = 8
    stop_confidence: Confidence | None = None
    replicate_share: float = 0.0
    start: tuple[Candidate, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
