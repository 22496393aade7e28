"""Trains networks near the bar from many seeds, for ``calibrate_race.py``: what a race of each sees, and seeds to judge it by.

The networks are those of the published searches (``fashion-mnist-table.json``, ``fashion-mnist-stopped.json``) whose one
training ended near the bar, one a genome. Each is trained from 20 seeds that no race sees, from one as a search
would, and from those of its race above the lowest bar that is calibrated: a race above a higher one, or one that comes later in a walk,
needs no more of them. What was trained is kept in a ``.jsonl`` in ``studies/runs``, and not trained again. Two hours on two cores:

    python studies/make_seeds.py
"""

import argparse
import json
from itertools import chain
from pathlib import Path

from make_table import Log, Trainings, evenly
from replay_stopping import RESULTS, read_short, read_stopped
from running import run_script

from nasopt.evaluation import TrainingEvaluator
from nasopt.executors import make_executor
from nasopt.genome import Genome
from nasopt.racing import RaceRule
from nasopt.records import TO_THE_END, Candidate, TrialRecord, trial_seed
from nasopt.search.plan import SearchPlan
from nasopt.workflow import open_context

STUDIES = Path(__file__).parent
STUDY_FILE = STUDIES / "fashion-mnist.toml"
TABLE = RESULTS / "fashion-mnist-seeds.json"
N_NETWORKS = 300
NEAR_BAR = 0.03
MAX_PARAMS = 1600
LOWEST_BAR = 0.74  # that races are calibrated at
STUDY_SEED = 500  # no study file uses it
N_UNUSED = 20  # replicates that no race sees, the first ones
FIRST_RACED = N_UNUSED + 1  # the replicate before it is the one training of a search


def main() -> None:
    """Trains what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log", type=Path, default=STUDIES / "runs" / "seeds.jsonl")
    arguments = parser.parse_args()
    context = open_context(STUDY_FILE)
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, "native")
    candidates = near_bar(context.plan)
    with make_executor(arguments.workers, in_threads=True) as executor:
        trainings = Trainings(evaluator, Log(arguments.log), executor)
        trainings.train((c, seed_of(c, r)) for r in range(FIRST_RACED) for c in candidates)
        races = race(trainings, candidates)
    rows = [
        [str(c.genome), c.lr, c.lr_decay, accuracies(trainings, c, range(FIRST_RACED)), races[c]]
        for c in candidates
    ]
    TABLE.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def near_bar(plan: SearchPlan) -> list[Candidate]:
    """Networks whose one training in a published search ended near the bar, the first a genome, evenly over accuracy."""
    found: dict[Genome, TrialRecord] = {}
    for record in chain(*read_short(), *read_stopped()):
        is_near = abs(record.val_accuracy - plan.bar) < NEAR_BAR
        if is_near and record.n_params <= MAX_PARAMS and not record.replicate:
            found.setdefault(record.candidate.genome, record)
    ordered = sorted(found.values(), key=lambda record: record.val_accuracy)
    return evenly([record.candidate for record in ordered], N_NETWORKS)


def race(trainings: Trainings, candidates: list[Candidate]) -> dict[Candidate, list[float]]:
    """The accuracies of every candidate in its race above the lowest bar, in rounds that all run together."""
    rule = RaceRule(LOWEST_BAR)
    seen: dict[Candidate, list[float]] = {c: [] for c in candidates}
    while wanted := {c: n for c in candidates if (n := rule.n_wanted(seen[c]))}:
        new = {
            c: range(FIRST_RACED + len(seen[c]), FIRST_RACED + len(seen[c]) + n)
            for c, n in wanted.items()
        }
        trainings.train((c, seed_of(c, r)) for c in new for r in new[c])
        for c, replicates in new.items():
            seen[c] += accuracies(trainings, c, replicates)
        print(f"raced {len(wanted)} networks", flush=True)
    return seen


def accuracies(trainings: Trainings, candidate: Candidate, replicates: range) -> list[float]:
    """The final validation accuracies of what was trained already."""
    evaluations = [trainings(candidate, seed_of(candidate, r), TO_THE_END) for r in replicates]
    return [round(evaluation.val_accuracy, 4) for evaluation in evaluations]


def seed_of(candidate: Candidate, replicate: int) -> int:
    """The seed of a replicate, as in a study."""
    return trial_seed(STUDY_SEED, candidate.genome, replicate)


if __name__ == "__main__":
    run_script(main)
