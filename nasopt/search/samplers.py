"""The samplers that a study can name."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from nasopt.search.genome_sampler import GenomeNSGAIISampler
from nasopt.search.past import past_of
from nasopt.search.plan import SearchPlan
from nasopt.search.proposer import Strategy

CHILDREN_A_TRIAL = 25  # what a large generation chooses among: of fewer it takes bad ones too
SAMPLERS = ("nsga2", "optuna-nsga2", "tpe", "random")


def make_sampler(plan: SearchPlan) -> BaseSampler:
    """The sampler that ``plan`` names, one of ``SAMPLERS``, drawing afresh for every trial.

    ``nsga2`` is nasopt's own; the others are Optuna's.
    """
    if plan.sampler == "nsga2":
        n_children = max(Strategy().n_children, CHILDREN_A_TRIAL * plan.generation_size)
        return GenomeNSGAIISampler.for_space(
            plan.space,
            seed=plan.seed,
            # What the mean of four trainings must have; for a bar near 1, what there is still to have.
            bar=min(plan.bar + plan.margin / 2, (1 + plan.bar) / 2),
            generation_size=plan.generation_size,
            strategy=Strategy(pool_size=plan.population_size, n_children=n_children),
        )
    makers: dict[str, Callable[[int], BaseSampler]] = {
        "optuna-nsga2": lambda seed: OrderedNSGAIISampler(
            seed=seed, population_size=plan.population_size
        ),
        "tpe": lambda seed: TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        ),
        "random": lambda seed: RandomSampler(seed=seed),
    }
    return SeededPerTrial(makers[plan.sampler], plan.seed, plan.generation_size)


class OrderedNSGAIISampler(NSGAIISampler):
    """Optuna's NSGA-II, with the parents of a generation always in the order of their numbers.

    Optuna has them in the order of their selection when it selects them, and in this one when it reads them again, so
    that an interruption between the two would change what is drawn.
    """

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The parents of that generation, by number."""
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


class SeededPerTrial(BaseSampler):
    """Another sampler, seeded anew for every trial from the study's seed and the trial's number.

    Optuna does not store a sampler's random state: seeded once, a resumed study would draw the
    same values again. What is drawn here depends on the trial, and for a parameter drawn on its own
    on its name, but not on what was drawn before: a driver may die between two parameters. Nor does it depend on what
    has ended by then: the sampler is shown the results that a trial of its generation may know.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: int, generation_size: int
    ) -> None:
        self._make = make
        self._seed = seed
        self._generation_size = generation_size
        self._current: tuple[int, BaseSampler] | None = None

    def _seeded(self, *words: int) -> BaseSampler:
        sequence = np.random.SeedSequence([self._seed, *words])
        return self._make(int(sequence.generate_state(1)[0]))

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._current is None or self._current[0] != trial.number:
            self._current = (trial.number, self._seeded(trial.number))
        return self._current[1]

    def _past(self, study: Study, trial: FrozenTrial) -> Study:
        return past_of(study, trial.number, self._generation_size)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What the inner sampler infers."""
        return self._of(trial).infer_relative_search_space(self._past(study, trial), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the inner sampler samples."""
        return self._of(trial).sample_relative(self._past(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401
        """What the inner sampler samples for a parameter of that name."""
        sampler = self._seeded(trial.number, zlib.crc32(param_name.encode()))
        return sampler.sample_independent(
            self._past(study, trial), trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Passes the call on."""
        self._of(trial).before_trial(self._past(study, trial), trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Passes the call on."""
        self._of(trial).after_trial(self._past(study, trial), trial, state, values)
