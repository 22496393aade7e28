"""What a search is to do, without Optuna."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasopt.space import SearchSpace


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a study searches, and how; ``identity`` is all that must not change between its runs."""

    name: str
    space: SearchSpace
    bar: float
    seed: int
    sampler: str = "nsga2"
    population_size: int = 20
    identity: Mapping[str, Any] = field(default_factory=dict)
