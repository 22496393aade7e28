"""One trajectory: the trials of a seeded study, whatever the number of workers, kills and resumes."""

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from nasopt.errors import DivergedError
from nasopt.records import Evaluation
from nasopt.search.study import open_study, read_database
from nasopt.workflow import open_context
from tests.conftest import rows_of
from tests.table_search import TableEvaluator, make_plan, run, table_of


def test_a_sampler_draws_the_same_for_a_trial_whatever_came_between(plan, tmp_path):
    plan = replace(plan, sampler="random")
    whole, _, _ = run(plan, tmp_path / "a" / "study.db", 30, n_workers=1)
    for n_trials in (7, 8, 20, 30):
        parts, _, _ = run(plan, tmp_path / "b" / "study.db", n_trials, n_workers=1)
    assert table_of(whole, plan.space) == table_of(parts, plan.space)


class Late(TableEvaluator):
    """An evaluator whose trainings end in another order than they began in."""

    def __call__(self, candidate, seed, rule):
        time.sleep(seed % 7 / 100)
        return super().__call__(candidate, seed, rule)


@pytest.mark.parametrize("sampler", ["tpe", "optuna-nsga2"])
def test_optunas_samplers_see_the_same_past_whatever_the_workers(tmp_path, sampler):
    plan = make_plan(sampler=sampler, generation_size=4, replicate_share=0.25, margin=0.02)
    tables = []
    for n_workers in (1, 4):
        database = tmp_path / str(n_workers) / "study.db"
        for n_trials in (25, 50):  # resumed once
            study, _, _ = run(plan, database, n_trials, Late(), n_workers=n_workers)
        tables.append(table_of(study, plan.space))
    assert tables[0] == tables[1]


@pytest.mark.parametrize("sampler", ["tpe", "optuna-nsga2"])
def test_optunas_samplers_go_on_as_if_nothing_had_happened(tmp_path, sampler):
    plan = make_plan(sampler=sampler, generation_size=8, replicate_share=0.25, margin=0.02)
    plan = replace(plan, population_size=20)
    whole, _, _ = run(plan, tmp_path / "whole" / "study.db", 72, n_workers=1)
    for n_trials in (36, 44, 45, 52, 72):
        parts, _, _ = run(plan, tmp_path / "parts" / "study.db", n_trials, n_workers=1)
    assert table_of(whole, plan.space) == table_of(parts, plan.space)


class Diverging(TableEvaluator):
    """An evaluator whose trainings of networks that begin with tanh diverge in the second epoch, if they come there."""

    def __call__(self, candidate, seed, rule):
        if candidate.genome.layers[0].activation != "tanh":
            return super().__call__(candidate, seed, rule)
        time.sleep(0.05)  # so that the same is asked for meanwhile
        if rule.should_stop(1, 0.05):
            return Evaluation(0.05, 0.05, (0.05,), dead=False, duration_s=0.1, stopped=True)
        raise DivergedError("the loss became nan")


def test_repeats_of_a_training_that_fails_are_what_they_are_with_one_worker(tmp_path):
    plan = make_plan(sampler="random", stop_confidence=0.95, generation_size=8)
    space = replace(
        plan.space,
        depth=(2, 2),
        filters=(1, 2),
        kernel=(1, 2),
        activations=("relu", "tanh"),
        final_activations=("relu",),
    )
    plan = replace(plan, space=space)
    tables = []
    for n_workers in (1, 8):
        database = tmp_path / str(n_workers) / "study.db"
        study, _, _ = run(plan, database, 150, Diverging(), n_workers=n_workers)
        tables.append(table_of(study, space))
    assert tables[0] == tables[1]
    outcomes = {(r.state, r.candidate.genome.layers[0].activation) for r, _ in tables[0]}
    assert {("failed", "tanh"), ("pruned", "tanh")} <= outcomes


class Stuck(TableEvaluator):
    """An evaluator whose training number ``blocked``, counted from 0, waits until it is released."""

    def __init__(self, blocked):
        super().__init__()
        self.released, self._blocked, self._count = threading.Event(), blocked, itertools.count()

    def __call__(self, candidate, seed, rule):
        if next(self._count) == self._blocked:
            self.released.wait(60)
        return super().__call__(candidate, seed, rule)


@pytest.mark.parametrize("blocked", [14, 17, 21])
def test_a_straggler_that_was_running_at_the_kill_changes_nothing(tmp_path, blocked):
    """Every trial after it that may be asked had ended: the state that a driver waits in."""
    plan = make_plan(generation_size=4, stop_confidence=0.95, replicate_share=0.25, margin=0.02)
    whole, _, _ = run(plan, tmp_path / "whole" / "study.db", 40, n_workers=1)
    database, stuck = tmp_path / "killed" / "study.db", Stuck(blocked)

    def die(progress):
        running = [r for r in read_database(database, plan.space) if r.state == "running"]
        if progress.n_running == 1 and running and running[0].number + 3 < progress.n_trials:
            stuck.released.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, database, 40, stuck, on_progress=die)
    left = read_database(database, plan.space)
    assert any(r.state == "running" for r in left[:-1])
    _, progress, _ = run(plan, database, len(left))
    assert progress.n_trials == len(left)  # what is asked for is not exceeded
    resumed, _, _ = run(plan, database, 40)
    assert table_of(resumed, plan.space) == table_of(whole, plan.space)


DRIVER = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.study import open_study, working_copy
from nasopt.search.storage import driver_lock
from tests.table_search import TableEvaluator, make_plan

def slow(candidate, seed, rule):
    time.sleep(seed % 7 / 15)
    return TableEvaluator()(candidate, seed, rule)

plan = make_plan(generation_size=4, stop_confidence=0.95, replicate_share=0.25, margin=0.02)
database, n_workers = Path(sys.argv[1]), int(sys.argv[3])
stored = open_study(plan, database, create=True)
print("open", flush=True)
with driver_lock(database), working_copy(stored, database) as study, ThreadPoolExecutor(n_workers) as executor:
    SearchDriver(study, plan, slow, executor, n_workers).run(Limits(trials=int(sys.argv[2])), threading.Event())
"""


@pytest.mark.parametrize(
    ("n_trials", "min_kills"), [(60, 2), pytest.param(320, 20, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_the_table_is_that_of_an_undisturbed_search(
    tmp_path, n_trials, min_kills
):
    """NSGA-II, early stopping, and another number of workers after every kill."""
    plan = make_plan(generation_size=4, stop_confidence=0.95, replicate_share=0.25, margin=0.02)
    database = tmp_path / "runs" / "study.db"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    rng = random.Random(3)
    kills, ended_before = 0, set()
    while True:
        n_workers = rng.choice((1, 2, 4))
        command = [sys.executable, script, database, str(n_trials), str(n_workers)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as driver:
            driver.stdout.readline()
            try:
                driver.wait(timeout=rng.uniform(0.5, 3.0))
            except subprocess.TimeoutExpired:
                driver.send_signal(signal.SIGKILL)
                kills += 1
        rows = table_of(open_study(plan, database, create=False), plan.space)
        ended = {str(row) for row in rows if row[0].state != "running"}
        assert ended_before <= ended
        ended_before = ended
        if driver.returncode == 0:
            break
    assert kills >= min_kills
    assert len(rows) == n_trials
    assert {row[0].state for row in rows} == {"complete", "pruned"}
    for n_workers in (1, 4):
        whole = tmp_path / f"whole-{n_workers}" / "study.db"
        study, _, _ = run(plan, whole, n_trials, n_workers=n_workers)
        assert table_of(study, plan.space) == rows


@pytest.mark.slow
def test_real_trainings_killed_at_any_moment_give_the_table_of_an_undisturbed_search(
    study_file, tmp_path
):
    """The whole command, killed 20 times at random moments, with other numbers of workers in between."""
    rng = random.Random(5)

    def command(folder, n_workers):
        return [
            *(sys.executable, "-m", "nasopt", "search", study_file, "--quiet"),
            *("--trials", "240", "--workers", str(n_workers)),
            *("--database", tmp_path / folder / "study.db"),
        ]

    def rows(folder):
        return rows_of(open_context(study_file, database=tmp_path / folder / "study.db"))

    def n_begun():
        uri = f"file:{tmp_path / 'killed' / 'study.db'}?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as db:
            return db.execute("SELECT count(*) FROM trials").fetchone()[0]
        return 0

    for _ in range(20):
        enough, moment = n_begun() + rng.randint(0, 4), time.monotonic() + rng.uniform(2.0, 6.0)
        driver = subprocess.Popen(command("killed", rng.choice((1, 2, 4))))
        while driver.poll() is None and n_begun() <= enough and time.monotonic() < moment:
            time.sleep(0.005)
        assert driver.poll() is None, "it ended before it could be killed"
        driver.kill()
        driver.wait()
    subprocess.run(command("killed", 2), check=True)
    subprocess.run(command("whole", 4), check=True)
    assert rows("killed") == rows("whole")
    assert len(rows("whole")) == 240
    assert {r.state for r in rows("whole")} <= {"complete", "pruned"}
