"""An Optuna sampler that varies genomes, and chooses among them by a model of accuracy.

Optuna asks for one parameter after another; the sampler hands it all parameters of a child at once, out
of the static union of every parameter that the space has. So conditional parameters stay what they are.
"""

import math
import threading
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nasopt.cost import count_macs
from nasopt.errors import GenomeError
from nasopt.genome import LAYER_KINDS
from nasopt.records import Candidate
from nasopt.search.genome_features import GROUPS, make_features
from nasopt.search.ledger import Observation, n_known_to
from nasopt.search.proposer import Belief, Problem, Proposer, Strategy
from nasopt.space import SearchSpace
from nasopt.variation import vary

C = TypeVar("C", bound=Hashable)

EXPECTED_KEY = "expected_accuracy"
# What a training takes besides: 900 of them took 0.52 s and 0.22 s a thousand MACs (least squares over the published table).
OVERHEAD_MACS = 2000


@dataclass(frozen=True, slots=True)
class Encoding(Generic[C]):
    """How candidates are written as Optuna parameters.

    ``distributions`` is the union of all parameters, ``to_params`` the parameters of a candidate and
    ``from_params`` the way back, or None where the parameters make no candidate (a trial that was killed
    while it chose, or that was added by hand).
    """

    distributions: Mapping[str, BaseDistribution]
    to_params: Callable[[C], dict[str, Any]]
    from_params: Callable[[Mapping[str, Any]], C | None]


class GenomeNSGAIISampler(BaseSampler, Generic[C]):
    """NSGA-II in steady state with a model of accuracy, for a study of (accuracy, size).

    What trial ``n`` of generation ``g = n // generation_size`` samples depends on the seed, on ``n``, on
    the results of generations up to ``g - 2``, and on which candidates the trials since then have chosen:
    never on how many workers there are, or on when they finish. A trial of those early generations that has
    not ended yet counts as one without a result: it is for the driver to wait for it.

    Args:
        problem: what is searched; :func:`for_space` makes it for genomes.
        encoding: how its candidates are written as parameters.
        seed: the seed of the study.
        generation_size: how many trials are sampled from the same results.
        strategy: how it is searched.
    """

    def __init__(
        self,
        problem: Problem[C],
        encoding: Encoding[C],
        *,
        seed: int,
        generation_size: int = 8,
        strategy: Strategy | None = None,
    ) -> None:
        if generation_size < 1:
            raise ValueError(f"generation_size must be at least 1, not {generation_size}")
        self._problem = problem
        self._encoding = encoding
        self._proposer = Proposer(problem, strategy or Strategy(), seed)
        self._seed = seed
        self._generation_size = generation_size
        self._lock = threading.Lock()
        self._study: tuple[BaseStorage, int] | None = None  # whose results are kept below
        self._candidates: dict[int, C] = {}
        # What the trials before the first unfinished one tell.
        self._ended: list[Observation[C] | None] = []
        self._belief: tuple[int, tuple[int, ...], Belief[C]] | None = None

    @classmethod
    def for_space(
        cls,
        space: SearchSpace,
        *,
        seed: int,
        bar: float | None = None,
        generation_size: int = 8,
        strategy: Strategy | None = None,
    ) -> "GenomeNSGAIISampler[Candidate]":
        """The sampler of genomes of ``space``; ``bar`` is the accuracy to clear, if there is one."""
        encoding = Encoding(
            union_of_distributions(space), space.to_params, partial(_from_params, space)
        )
        return GenomeNSGAIISampler(
            genome_problem(space, bar),
            encoding,
            seed=seed,
            generation_size=generation_size,
            strategy=strategy,
        )

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """The static union of all parameters."""
        return dict(self._encoding.distributions)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """All parameters of a new candidate; none of them where no new one is left.

        Raises:
            ValueError: if the study does not maximise accuracy and minimise size, in this order.
        """
        if study.directions != [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]:
            raise ValueError(
                "GenomeNSGAIISampler takes a study with directions ['maximize', 'minimize'] for "
                f"(accuracy, size), not {[d.name.lower() for d in study.directions]}"
            )
        with self._lock:  # Optuna may ask from several threads
            return self._sample(study, trial, search_space)

    def _sample(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        identity = (study._storage, study._study_id)
        if identity != self._study:
            self._study, self._belief = identity, None
            self._candidates, self._ended = {}, []
        trials = study.get_trials(deepcopy=False)[: trial.number]
        n_told = n_known_to(trial.number, self._generation_size)
        belief = self._learn(trials[:n_told])
        pending = [c for c in map(self._candidate_of, trials[n_told:]) if c is not None]
        candidate = self._proposer.propose(belief, pending, self._rng(trial.number))
        if candidate is None:
            return {}
        params = self._encoding.to_params(candidate)
        return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401
        """A random value: the parameter is none of the space, or no new candidate is left."""
        rng = self._rng(trial.number, zlib.crc32(param_name.encode()))
        sampler = RandomSampler(seed=int(rng.integers(2**32)))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._seed, *words]))

    def _learn(self, trials: Sequence[FrozenTrial]) -> Belief[C]:
        for trial in trials[len(self._ended) :]:
            if not trial.state.is_finished():
                break
            self._ended.append(self._observe(trial))
        rest = trials[len(self._ended) :]
        unfinished = tuple(t.number for t in rest if not t.state.is_finished())
        if self._belief is None or self._belief[:2] != (len(trials), unfinished):
            observations = self._ended[: len(trials)] + [self._observe(t) for t in rest]
            history = [o for o in observations if o is not None]
            self._belief = (len(trials), unfinished, self._proposer.learn(history))
        return self._belief[2]

    def _observe(self, trial: FrozenTrial) -> Observation[C] | None:
        candidate = self._candidate_of(trial)
        if candidate is None:
            return None
        return Observation(candidate, accuracy_of(trial))

    def _candidate_of(self, trial: FrozenTrial) -> C | None:
        """What the trial chose; None if nothing, or something too large to be evaluated."""
        if trial.number not in self._candidates:
            candidate = self._encoding.from_params(trial.params)
            if candidate is None or self._problem.size(candidate) == math.inf:
                return None
            self._candidates[trial.number] = candidate
        return self._candidates[trial.number]


def genome_problem(space: SearchSpace, bar: float | None = None) -> Problem[Candidate]:
    """The search for small and accurate candidates of ``space``."""
    return Problem(
        sample=space.sample,
        vary=partial(_vary, space),
        size=partial(_size, space),
        features=make_features(space),
        groups=GROUPS,
        bar=bar,
        cost=partial(_cost, space),
    )


def union_of_distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Every parameter that a candidate of ``space`` may have, at its widest."""
    union: dict[str, BaseDistribution] = {"depth": IntDistribution(*space.depth)}
    for i in range(space.depth[1]):
        union |= {
            f"type_{i}": CategoricalDistribution(LAYER_KINDS),
            f"filters_{i}": IntDistribution(*space.filters, log=True),
            f"kernel_{i}": IntDistribution(*space.kernel),
            f"activation_{i}": CategoricalDistribution(space.activations),
        }
    union |= {
        "final_activation": CategoricalDistribution(space.final_activations),
        "lr": FloatDistribution(*space.lr, log=True),
        "lr_decay": FloatDistribution(*space.lr_decay, log=True),
    }
    return {name: values for name, values in union.items() if not values.single()}


def accuracy_of(trial: FrozenTrial) -> float | None:
    """The accuracy that an ended trial is judged by; None if it has none.

    For a training that was stopped early it is the one that was expected of it, which the driver wrote down.
    """
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    expected = trial.user_attrs.get(EXPECTED_KEY) if trial.state == TrialState.PRUNED else None
    return None if expected is None else float(expected)


def _vary(space: SearchSpace, parents: Sequence[Candidate], rng: np.random.Generator) -> Candidate:
    return vary(parents, space, rng)


def _size(space: SearchSpace, candidate: Candidate) -> float:
    """The number of parameters; infinite for what exceeds a cap of the space."""
    n_params = space.n_params(candidate.genome)
    return math.inf if space.why_too_large(candidate.genome, n_params) else n_params


def _cost(space: SearchSpace, candidate: Candidate) -> float:
    """How long a training takes, in MACs for one image."""
    return OVERHEAD_MACS + count_macs(candidate.genome, space.image, space.n_classes)


def _from_params(space: SearchSpace, params: Mapping[str, Any]) -> Candidate | None:
    try:
        return space.from_params(params)
    except GenomeError:
        return None
