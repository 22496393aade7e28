"""A search on a table, and what a study holds after it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.genome_sampler import EXPECTED_KEY
from nasopt.search.study import open_study, read_records, working_copy
from tests.conftest import TableEvaluator

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
