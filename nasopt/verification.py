"""Races and the final verification: the only part of nasopt that lets test data decide on a search's outcome."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache

from nasopt.data import DataSource, TrainVal, load_test, load_train_val
from nasopt.errors import DivergedError
from nasopt.racing import RaceRule
from nasopt.records import (
    TO_THE_END,
    Candidate,
    Evaluation,
    Evaluator,
    Race,
    SeedResult,
    Verification,
    trial_seed,
)
from nasopt.selection import SelectionRule
from nasopt.training import Recipe, TrainingResult, train

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class FinalTraining:
    """Trains a candidate on all training images and judges it on test; any worker can run it."""

    source: DataSource
    recipe: Recipe
    engine: str = "auto"

    def __call__(self, candidate: Candidate, seed: int) -> TrainingResult:
        """The trained network, with its test accuracy at every epoch.

        Raises:
            TrainingError: if the training gives no result.
        """
        recipe = replace(self.recipe, lr=candidate.lr, lr_decay=candidate.lr_decay, patience=None)
        return train(candidate.genome, recipe, seed, final_data(self.source), engine=self.engine)


def final_data(source: DataSource) -> TrainVal:
    """All training images to train on, with the test images in the place of validation; made once a process."""
    with _LOCK:  # or every thread would make a copy of its own
        return _final_data(source)


@lru_cache(maxsize=1)
def _final_data(source: DataSource) -> TrainVal:
    data = load_train_val(source)
    return TrainVal(data.all(), load_test(source).split, data.n_classes)


def run_race(
    start: Race,
    rule: RaceRule,
    study_seed: int,
    evaluator: Evaluator,
    executor: Executor,
    on_seed: Callable[[Race], None],
) -> Race:
    """The race ``start`` continued on validation accuracy, from fresh seeds, until ``rule`` decides it.

    What it comes to does not depend on how many workers there are: decisions fall at the ends of rounds.

    Args:
        start: the candidate, with the accuracies of the seeds that were trained before, if any.
        rule: what it is judged by.
        study_seed: what the seeds are derived from.
        evaluator: trains on the search's training images and judges on its validation images.
        executor: where it runs, the seeds of a round at once.
        on_seed: called after every training, in the order of the replicates.
    """
    race = start
    genome = start.candidate.genome
    while n_wanted := rule.n_wanted(race.accuracies):
        first = len(race.accuracies)
        seeds = [trial_seed(study_seed, genome, i, "race") for i in range(first, first + n_wanted)]
        futures = [executor.submit(evaluator, race.candidate, s, TO_THE_END) for s in seeds]
        try:
            for future in futures:
                race = replace(race, accuracies=(*race.accuracies, _accuracy(future)))
                on_seed(race)
        finally:
            for future in futures:
                future.cancel()
    return race


def _accuracy(future: Future[Evaluation]) -> float:
    try:
        return future.result().val_accuracy
    except DivergedError:
        return 0.0


def verify(
    start: Verification,
    rule: SelectionRule,
    study_seed: int,
    final_training: Callable[[Candidate, int], TrainingResult],
    executor: Executor,
    on_seed: Callable[[Verification, int, TrainingResult | None], None],
) -> Verification:
    """The verification ``start`` continued, from seeds other than the search's, until the rule is decided.

    Args:
        start: the candidate, with the seeds that were trained before, if any.
        rule: how many seeds, and what they must reach.
        study_seed: what the seeds are derived from.
        final_training: a :class:`FinalTraining`.
        executor: where it runs, several seeds at once.
        on_seed: called after every training with the verification so far, the replicate, and the training's
            result, or None where it diverged (which counts as a seed of accuracy 0).
    """
    verification = start
    done = {result.replicate for result in start.seeds}
    futures: dict[Future[TrainingResult], tuple[int, int]] = {}
    if rule.may_still_pass(start):
        for replicate in range(1, rule.n_seeds + 1):
            if replicate not in done:
                seed = trial_seed(study_seed, start.candidate.genome, replicate, "final")
                future = executor.submit(final_training, start.candidate, seed)
                futures[future] = (replicate, seed)
    try:
        for future in as_completed(futures):
            result = _result_or_none(future)
            seeds = (*verification.seeds, _seed_result(*futures[future], result))
            seeds = tuple(sorted(seeds, key=lambda r: r.replicate))
            verification = replace(verification, seeds=seeds)
            on_seed(verification, futures[future][0], result)
            if not rule.may_still_pass(verification):
                break
    finally:
        for future in futures:
            future.cancel()
    return verification


def _result_or_none(future: Future[TrainingResult]) -> TrainingResult | None:
    try:
        return future.result()
    except DivergedError:
        return None


def _seed_result(replicate: int, seed: int, result: TrainingResult | None) -> SeedResult:
    if result is None:
        return SeedResult(replicate, seed, 0.0, 0.0, 0.0, dead=True)
    return SeedResult(
        replicate=replicate,
        seed=seed,
        test_accuracy=result.last.accuracy,
        best_test_accuracy=result.best.accuracy,
        train_accuracy=result.last.train_accuracy,
        dead=result.dead,
    )
