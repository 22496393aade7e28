"""A search on a table, and what a study holds after it."""

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from nasopt.errors import DivergedError
from nasopt.genome import ImageShape
from nasopt.records import Candidate, Evaluation, StopRule
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.genome_sampler import EXPECTED_KEY
from nasopt.search.plan import SearchPlan
from nasopt.search.study import open_study, read_records, working_copy
from nasopt.space import SearchSpace


@dataclass(frozen=True)
class TableEvaluator:
    """A stand-in for training, in microseconds: accuracy grows with size and has noise of its own.

    The error after the first of three epochs is about twice that at the end. A candidate whose
    first layer is ``tanh`` fails, if asked to.
    """

    fail_tanh: bool = False

    def __call__(self, candidate: Candidate, seed: int, rule: StopRule) -> Evaluation:
        genome = candidate.genome
        if self.fail_tanh and genome.layers[0].activation == "tanh":
            raise DivergedError("the loss became nan")
        size = sum(layer.filters for layer in genome.layers)
        noise = zlib.crc32(f"{genome} {seed}".encode()) / 2**32
        error = 0.1 + 0.5 / size + 0.05 * noise
        curve: list[float] = []
        for epoch, factor in enumerate((2.0 - 0.1 * noise, 1.4, 1.0), start=1):
            curve.append(max(0.0, 1 - factor * error))
            if rule.should_stop(epoch, curve[-1]):
                break
        return Evaluation(
            curve[-1], curve[-1], tuple(curve), dead=False, duration_s=0.01, stopped=len(curve) < 3
        )


def make_plan(**changes):
    """A search on Fashion-MNIST's shape, small enough for a table."""
    space = SearchSpace(
        ImageShape(1, 28, 28),
        10,
        depth=(2, 4),
        filters=(1, 6),
        lr=(2e-3, 2e-3),
        lr_decay=(0.05, 0.05),
    )
    values = {"bar": 0.75, "seed": 7, "population_size": 4, "identity": {"seed": 7}}
    return SearchPlan("table", space, **(values | changes))


TABLE = TableEvaluator()


def run(plan, database, n_trials, evaluator=TABLE, *, n_workers=2, stop=None, on_progress=None):
    stored = open_study(plan, database, create=True)
    with working_copy(stored, database) as study, ThreadPoolExecutor(n_workers) as executor:
        driver = SearchDriver(
            study, plan, evaluator, executor, n_workers, on_progress or (lambda _progress: None)
        )
        cause = driver.run(Limits(trials=n_trials), stop or threading.Event())
    return open_study(plan, database, create=False), driver.progress, cause


def table_of(study, space):
    """All that steers later trials, or that a user sees: no times."""
    records = [replace(r, elapsed_s=0.0) for r in read_records(study, space)]
    trials = {t.number: t for t in study.get_trials(deepcopy=False)}
    told = [
        (
            trials[r.number].system_attrs.get("constraints"),
            trials[r.number].user_attrs.get(EXPECTED_KEY),
        )
        for r in records
    ]
    return list(zip(records, told, strict=True))
