"""Whether what early stopping lost was luck: the lost members of the fronts, and the fronts that are left, from fresh seeds.

The studies of ``train_stopped.py`` are replayed with the usual rule and controls. A lost member is truly lost if its mean over
the fresh seeds is above that of every network left on its front of at most its size. What the table
``results/fashion-mnist-lost.json`` holds is not trained again; without it half an hour on two cores:

    python studies/retrain_lost.py
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from replay_stopping import RESULTS, learned, read_stopped, replay
from running import run_script

from nasopt.candidates import CandidateSummary, pareto_front
from nasopt.evaluation import TrainingEvaluator
from nasopt.executors import make_executor
from nasopt.genome import Genome
from nasopt.records import TO_THE_END, Candidate, Evaluator, TrialRecord, trial_seed
from nasopt.workflow import open_context

STUDY_FILE = Path(__file__).parent / "fashion-mnist.toml"
TABLE = RESULTS / "fashion-mnist-lost.json"
STUDY_SEED = 7777  # no study file uses it

Accuracies = dict[tuple[int, Candidate], list[float]]


def main() -> None:
    """Trains what is missing, then prints a row a lost member."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    context = open_context(STUDY_FILE)
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, "native")
    confidence = context.settings.search.stop_confidence
    searches = [lost_and_left(whole, confidence) for whole in read_stopped()]
    known = read_accuracies()
    with make_executor(args.workers, in_threads=True) as executor:
        for number, (lost, left) in enumerate(searches):
            for candidate in [s.candidate for s in [*lost, *left]]:
                if len(known.get((number, candidate), ())) < args.seeds:
                    known[number, candidate] = train(candidate, args.seeds, evaluator, executor)
                    write_accuracies(known)
    n_truly = 0
    for number, (lost, left) in enumerate(searches):
        means = {s.candidate: float(np.mean(known[number, s.candidate])) for s in [*lost, *left]}
        for member in lost:
            best = best_of_size(left, member.n_params, means)
            is_lost = means[member.candidate] > best
            n_truly += is_lost
            print(
                f"{member.n_params} {member.candidate.genome} in the study {member.val_accuracy:.2%}, "
                f"fresh {means[member.candidate]:.2%}, best left {best:.2%}{', lost' if is_lost else ''}"
            )
    print(f"{sum(len(lost) for lost, _ in searches)} stopped, {n_truly} of them truly lost")


def lost_and_left(
    whole: Sequence[TrialRecord], confidence: float
) -> tuple[list[CandidateSummary], list[CandidateSummary]]:
    """The members of the front of ``whole`` that the rule stops, and the front that it leaves."""
    seen = replay(whole, learned(confidence), phase=0)
    stopped = {r.number for r in seen if r.state == "pruned"}
    return [s for s in pareto_front(whole) if s.number in stopped], pareto_front(seen)


def best_of_size(
    left: Sequence[CandidateSummary], n_params: int, means: Mapping[Candidate, float]
) -> float:
    """The best mean of those of at most ``n_params`` parameters; 0 if there is none."""
    return max((means[s.candidate] for s in left if s.n_params <= n_params), default=0.0)


def train(
    candidate: Candidate, n_seeds: int, evaluator: Evaluator, executor: Executor
) -> list[float]:
    """The accuracies from so many fresh seeds, in ascending order."""
    seeds = [trial_seed(STUDY_SEED, candidate.genome, i, "race") for i in range(n_seeds)]
    futures = [executor.submit(evaluator, candidate, seed, TO_THE_END) for seed in seeds]
    return sorted(future.result().val_accuracy for future in futures)


def read_accuracies() -> Accuracies:
    """The accuracies of every network of every search, as far as they are known."""
    rows = json.loads(TABLE.read_text()) if TABLE.exists() else []
    return {
        (search, Candidate(Genome.parse(genome), lr, lr_decay)): accuracies
        for search, genome, lr, lr_decay, accuracies in rows
    }


def write_accuracies(known: Accuracies) -> None:
    """Writes them, a network a line."""
    rows = [
        json.dumps([search, str(c.genome), c.lr, c.lr_decay, accuracies])
        for (search, c), accuracies in known.items()
    ]
    TABLE.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    run_script(main)
