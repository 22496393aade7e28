"""Makes the table of trainings in nasopt's own space that samplers are judged on.

Two parts, both real trainings on Fashion-MNIST by the native engine: ``search`` holds whole searches, every trial
trained to its end; ``seeds`` holds networks near the bar, each trained from many seeds. What was trained is kept in a
``.jsonl`` in ``studies/runs``, and not trained again. Some hours on two cores:

    python studies/make_table.py
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from threading import Event

import numpy as np
import optuna
from running import run_script

from nasopt.evaluation import TrainingEvaluator
from nasopt.executors import make_executor
from nasopt.files import read_rows, write_rows
from nasopt.genome import Genome
from nasopt.records import TO_THE_END, Candidate, Evaluation, TrialRecord, trial_seed
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.plan import SearchPlan
from nasopt.search.samplers import make_sampler
from nasopt.search.storage import silence_optuna
from nasopt.search.study import read_records
from nasopt.workflow import open_context

STUDIES = Path(__file__).parent
STUDY_FILE = STUDIES / "fashion-mnist.toml"
RESULTS = STUDIES / "results"
N_SEARCHES, N_TRIALS = 6, 150
N_NETWORKS, N_SEEDS = 120, 20
NEAR_BAR = 0.03
MAX_PARAMS = 1600
FIRST_SEED = 100  # of the searches; no study file uses it


def main() -> None:
    """Trains what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log", type=Path, default=STUDIES / "runs" / "table.jsonl")
    arguments = parser.parse_args()
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    silence_optuna()
    context = open_context(STUDY_FILE)
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, "native")
    log = Log(arguments.log)
    with make_executor(arguments.workers, in_threads=True) as executor:
        trainings = Trainings(evaluator, log, executor)
        for seed in range(FIRST_SEED, FIRST_SEED + N_SEARCHES):
            search(context.plan, seed, trainings, arguments.workers)
        trainings.part = "seeds"
        candidates = near_bar(log, context.plan)
        trainings.train(
            [(c, trial_seed(FIRST_SEED, c.genome, r)) for r in range(N_SEEDS) for c in candidates]
        )
    write_table(RESULTS / "fashion-mnist-table.json", log)


class Log:
    """The trainings so far, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = {key(row): row for row in read_rows(path)}
        write_rows(path, list(self.rows.values()))

    def add(self, row: dict[str, object]) -> None:
        """Keeps one more training."""
        self.rows[key(row)] = row
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def key(row: dict[str, object]) -> tuple[object, ...]:
    """What makes a training the same."""
    return row["genome"], row["lr"], row["lr_decay"], row["seed"]


class Trainings:
    """An evaluator that trains nothing twice, and keeps all."""

    def __init__(self, evaluator: TrainingEvaluator, log: Log, executor: Executor) -> None:
        self._evaluator = evaluator
        self._log = log
        self.executor = executor
        self.part = ""

    def __call__(self, candidate: Candidate, seed: int, _rule: object) -> Evaluation:
        """The evaluation of ``candidate`` from ``seed``, trained to the end."""
        row: dict[str, object] = {
            "part": self.part,
            "genome": str(candidate.genome),
            "lr": candidate.lr,
            "lr_decay": candidate.lr_decay,
            "seed": seed,
        }
        known = self._log.rows.get(key(row))
        if known is not None:
            curve = tuple(known["curve"])
            return Evaluation(curve[-1], known["train"], curve, known["dead"], known["seconds"])
        evaluation = self._evaluator(candidate, seed, TO_THE_END)
        row |= {
            "curve": evaluation.curve,
            "train": evaluation.train_accuracy,
            "dead": evaluation.dead,
            "seconds": round(evaluation.duration_s, 3),
        }
        self._log.add(row)
        return evaluation

    def train(self, wanted: Iterable[tuple[Candidate, int]]) -> None:
        """Trains every candidate from its seed, as many at once as there are workers."""
        futures = [self.executor.submit(self, c, seed, TO_THE_END) for c, seed in wanted]
        for future in as_completed(futures):
            future.result()


def search(plan: SearchPlan, seed: int, trainings: Trainings, n_workers: int) -> list[TrialRecord]:
    """One search with nasopt's own sampler, no trial stopped early."""
    trainings.part = f"search {seed}"
    own = SearchPlan(plan.name, plan.space, plan.bar, seed, margin=plan.margin)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(own))
    driver = SearchDriver(study, own, trainings, trainings.executor, n_workers)
    driver.run(Limits(trials=N_TRIALS), Event())
    return read_records(study, own.space)


def near_bar(log: Log, plan: SearchPlan) -> list[Candidate]:
    """Networks from the searches whose one training ended near the bar, evenly over accuracy."""
    found: dict[Candidate, float] = {}
    for row in sorted(log.rows.values(), key=key):
        genome = Genome.parse(row["genome"])
        accuracy = row["curve"][-1]
        is_small = plan.space.n_params(genome) <= MAX_PARAMS
        if row["part"].startswith("search") and is_small and abs(accuracy - plan.bar) < NEAR_BAR:
            found[Candidate(genome, row["lr"], row["lr_decay"])] = accuracy
    return evenly(sorted(found, key=lambda c: found[c]), N_NETWORKS)


def evenly(ordered: Sequence[Candidate], n: int) -> list[Candidate]:
    """At most ``n`` of ``ordered``, the first and the last among them, at equal distances."""
    chosen = np.linspace(0, len(ordered) - 1, min(n, len(ordered))).round().astype(int)
    return [ordered[i] for i in chosen]


def write_table(path: Path, log: Log) -> None:
    """Writes the trainings in compact form, one a line; those of a search in the order in which they ended."""
    path.write_text("[\n" + ",\n".join(_lines(log)) + "\n]\n")


def _place(row: dict[str, object]) -> tuple[object, ...]:
    """Searches keep the order of their trials."""
    return (row["part"], key(row) if row["part"] == "seeds" else ())


def _lines(log: Log) -> Iterator[str]:
    for row in sorted(log.rows.values(), key=_place):
        curve = [round(accuracy, 4) for accuracy in row["curve"]]
        columns = ("part", "genome", "lr", "lr_decay", "seed")
        yield json.dumps([*(row[c] for c in columns), curve, row["dead"], row["seconds"]])


if __name__ == "__main__":
    run_script(main)
