"""Whether what early stopping lost was luck: the lost members of the fronts, and the fronts that are left, from fresh seeds.

The studies of ``train_stopped.py`` are replayed with a rule, and the usual controls. The first fresh seeds choose a rival for every
lost member: that of the front which is left with the highest mean, of at most its size. Further ones judge the two, so
that no network is judged by the seeds that it was chosen by. What the table holds is not trained again; without it
an hour on two cores:

    python studies/retrain_lost.py
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from replay_stopping import RESULTS, learned, read_stopped, replay
from running import run_script

from nasopt.candidates import CandidateSummary, pareto_front
from nasopt.evaluation import TrainingEvaluator
from nasopt.executors import make_executor
from nasopt.genome import Genome
from nasopt.records import TO_THE_END, Candidate, TrialRecord, trial_seed
from nasopt.search.stopping import Confidence
from nasopt.workflow import open_context

STUDY_FILE = Path(__file__).parent / "fashion-mnist.toml"
STUDY_SEED = 7777  # no study file uses it

Accuracies = dict[tuple[int, Candidate], list[float]]
Train = Callable[[Candidate, Sequence[int]], list[float]]


class Verdict(NamedTuple):
    """How much better a lost member is than its rival, with the standard error; None where nothing is left to compare with."""

    difference: float | None
    error: float

    @property
    def is_lost(self) -> bool:
        """Whether the member is the better one, by however little."""
        return self.difference is None or self.difference > 0

    @property
    def is_surely_lost(self) -> bool:
        """Whether it is, by more than two standard errors."""
        return self.difference is None or self.difference > 2 * self.error


def main() -> None:
    """Trains what is missing, then prints a row a lost member."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=Path, default=RESULTS / "fashion-mnist-stopped.json")
    parser.add_argument("--table", type=Path, default=RESULTS / "fashion-mnist-lost.json")
    parser.add_argument(
        "--confidence", type=float, help="of the rule; that of the study file if not given"
    )
    parser.add_argument("--choose", type=int, default=8, help="fresh seeds that choose a rival")
    parser.add_argument("--judge", type=int, default=24, help="further ones that judge")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    context = open_context(STUDY_FILE)
    confidence = args.confidence or context.settings.search.stop_confidence
    evaluator = TrainingEvaluator(context.source, context.settings.recipe, "native")
    known = read_accuracies(args.table)
    n_front = n_stopped = n_lost = n_surely = 0
    with make_executor(args.workers, in_threads=True) as executor:

        def train(candidate: Candidate, seeds: Sequence[int]) -> list[float]:
            futures = [executor.submit(evaluator, candidate, s, TO_THE_END) for s in seeds]
            return [future.result().val_accuracy for future in futures]

        for search, whole in enumerate(read_stopped(args.searches)):
            lost, left = lost_and_left(whole, confidence)
            n_front, n_stopped = n_front + len(pareto_front(whole)), n_stopped + len(lost)
            for member in [*lost, *left]:
                if complete(known, search, member.candidate, args.choose, train):
                    write_accuracies(known, args.table)
            for member in lost:
                chosen = rival(member, left, known, search, args.choose)
                for summary in [member] if chosen is None else [member, chosen]:
                    n_seeds = args.choose + args.judge
                    if complete(known, search, summary.candidate, n_seeds, train):
                        write_accuracies(known, args.table)
                verdict = judge(member, chosen, known, search, args.choose)
                n_lost += verdict.is_lost
                n_surely += verdict.is_surely_lost
                print(to_line(member, chosen, verdict), flush=True)
    print(
        f"{n_front} members, {n_stopped} stopped; {n_lost} better than what is left, {n_surely} surely"
    )


def lost_and_left(
    whole: Sequence[TrialRecord], confidence: Confidence
) -> tuple[list[CandidateSummary], list[CandidateSummary]]:
    """The members of the front of ``whole`` that the rule stops, and the front that it leaves."""
    seen = replay(whole, learned(confidence), phase=0)
    stopped = {r.number for r in seen if r.state == "pruned"}
    return [s for s in pareto_front(whole) if s.number in stopped], pareto_front(seen)


def complete(
    known: Accuracies, search: int, candidate: Candidate, n_seeds: int, train: Train
) -> bool:
    """Trains what of its first ``n_seeds`` fresh seeds is missing; whether any was."""
    found = known.setdefault((search, candidate), [])
    missing = range(len(found), n_seeds)
    found += train(
        candidate, [trial_seed(STUDY_SEED, candidate.genome, i, "race") for i in missing]
    )
    return bool(missing)


def rival(
    member: CandidateSummary,
    left: Sequence[CandidateSummary],
    known: Accuracies,
    search: int,
    n_choose: int,
) -> CandidateSummary | None:
    """The one of ``left`` of at most the size of ``member`` with the highest mean over the first fresh seeds."""
    return max(
        (s for s in left if s.n_params <= member.n_params),
        key=lambda s: float(np.mean(known[search, s.candidate][:n_choose])),
        default=None,
    )


def judge(
    member: CandidateSummary,
    chosen: CandidateSummary | None,
    known: Accuracies,
    search: int,
    n_choose: int,
) -> Verdict:
    """The two compared by the fresh seeds that chose nothing."""
    if chosen is None:
        return Verdict(None, 0.0)
    a, b = (np.array(known[search, s.candidate][n_choose:]) for s in (member, chosen))
    error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return Verdict(float(a.mean() - b.mean()), error)


def to_line(member: CandidateSummary, chosen: CandidateSummary | None, verdict: Verdict) -> str:
    """A line of what is printed."""
    words = f"{member.n_params} {member.candidate.genome}"
    if chosen is None or verdict.difference is None:
        return f"{words}: nothing so small is left"
    return (
        f"{words}: {100 * verdict.difference:+.2f} ± {100 * verdict.error:.2f} points against "
        f"{chosen.n_params} {chosen.candidate.genome}"
    )


def read_accuracies(path: Path) -> Accuracies:
    """The accuracies of every network of every search in order of their seeds, as far as they are known."""
    rows = json.loads(path.read_text()) if path.exists() else []
    return {
        (search, Candidate(Genome.parse(genome), lr, lr_decay)): accuracies
        for search, genome, lr, lr_decay, accuracies in rows
    }


def write_accuracies(known: Accuracies, path: Path) -> None:
    """Writes them, a network a line."""
    rows = [
        json.dumps([search, str(c.genome), c.lr, c.lr_decay, accuracies])
        for (search, c), accuracies in known.items()
    ]
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    run_script(main)
