"""What early stopping is worth to whole searches in our space: ``python studies/ablate_stopping.py --seeds 8``.

The driver with its replicates on ``trained_table.py``, until the trainings have taken so many seconds of one core, as the
table tells of them by MACs; a training that is stopped takes as many as it has epochs. Its curve is that of a real training
that ended near its accuracy with a like recipe, scaled to it. After a quarter, half and all of the time a search is judged by what
a user has of it: the hypervolume of its front, by true accuracies, and the smallest of the networks that would be
raced of which 80 % of seeds clear the bar. Means over seeds. A way to stop is a confidence and how many trials there are to a control,
``0.9/16``, the confidence alone (``growing``, as usual) for the usual number, or ``none``.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np
from bench_table import REF_POINT, drive, share_of_box
from trained_table import DEAD_ACCURACY, SPACE, STUDY, TABLE, TrainedTable, read_table

from nasopt.candidates import pareto_front
from nasopt.records import Candidate, Evaluation, StopRule, TrialRecord
from nasopt.search import stopping
from nasopt.search.stopping import CONTROL_EVERY, Confidence
from nasopt.search.storage import silence_optuna
from nasopt.search.study import read_records
from nasopt.selection import SelectionRule, list_candidates

SHARES = (0.25, 0.5, 1.0)  # of the time
N_LIKE = 10  # real trainings whose curve one may have


def main() -> None:
    """Prints a row a way to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", default=["none", "growing"])
    parser.add_argument("--seeds", type=int, default=8, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seconds", type=float, default=1440)
    args = parser.parse_args()
    silence_optuna()
    table = TrainedTable(read_table())
    curves = Curves()
    for way in args.ways:
        seeds = range(args.first, args.first + args.seeds)
        rows = [search(way, seed, table, curves, args.seconds) for seed in seeds]
        volumes, smallest, trained, stopped = map(np.array, zip(*rows, strict=True))
        error = volumes.std(axis=0, ddof=1) / len(rows) ** 0.5
        print(
            f"{way} | {' '.join(f'{v:.4f} ± {e:.4f}' for v, e in zip(volumes.mean(axis=0), error, strict=True))} | "
            f"{' '.join(f'{v:.0f}' for v in smallest.mean(axis=0))} ± {smallest[:, -1].std(ddof=1) / len(rows) ** 0.5:.0f} | "
            f"{trained.mean():.0f} trained, {stopped.mean():.0f} of them stopped",
            flush=True,
        )


class Curves:
    """The curves of real trainings, to be had for a training that is played."""

    def __init__(self, path: Path = TABLE) -> None:
        rows = [row for row in json.loads(path.read_text()) if not row[6]]
        self._errors = 1 - np.array([row[5] for row in rows])
        self._places = _place(self._errors[:, -1], *np.array([row[2:4] for row in rows]).T)

    def draw(self, candidate: Candidate, accuracy: float, seed: int) -> tuple[float, ...]:
        """A curve that ends at ``accuracy``, a pure function of its arguments; what is dead was so from the start."""
        if accuracy == DEAD_ACCURACY:
            return (DEAD_ACCURACY,) * self._errors.shape[1]
        place = _place(np.array([1 - accuracy]), candidate.lr, candidate.lr_decay)
        like = np.argsort(((self._places - place) ** 2).sum(axis=1), kind="stable")[:N_LIKE]
        digest = hashlib.sha256(repr((candidate, seed, "curve")).encode()).digest()
        errors = self._errors[like[digest[0] % N_LIKE]]
        return tuple(np.clip(1 - errors * (1 - accuracy) / errors[-1], 0, 1).tolist())


def _place(errors: np.ndarray, lr: np.ndarray | float, lr_decay: np.ndarray | float) -> np.ndarray:
    """Where a training lies: a tenth of the error counts as much as a factor of two in the recipe."""
    columns = np.broadcast_arrays(np.log(errors) / 0.1, np.log(lr) / 0.7, np.log(lr_decay) / 0.7)
    return np.column_stack(columns)


@dataclass(slots=True)
class Played:
    """Plays trainings, and sets ``full`` once they have taken ``most_s``; ``ends_s`` tells when each ended."""

    table: TrainedTable
    curves: Curves
    most_s: float
    full: Event = field(default_factory=Event)
    spent_s: float = 0.0
    ends_s: dict[tuple[Candidate, int], float] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, seed: int, rule: StopRule) -> Evaluation:
        """One training."""
        accuracy = self.table.train(candidate, seed)
        whole = self.curves.draw(candidate, accuracy, seed)
        kept = next(
            (i for i, a in enumerate(whole, start=1) if rule.should_stop(i, a)), len(whole)
        )
        seconds = self.table.seconds(candidate) * kept / len(whole)
        self.spent_s += seconds
        self.ends_s[candidate, seed] = self.spent_s
        if self.spent_s >= self.most_s:
            self.full.set()
        curve = whole[:kept]
        return Evaluation(
            curve[-1],
            curve[-1],
            curve,
            dead=accuracy == DEAD_ACCURACY,
            duration_s=seconds,
            stopped=kept < len(whole),
        )


def search(
    way: str, seed: int, table: TrainedTable, curves: Curves, seconds: float
) -> tuple[list[float], list[float], int, int]:
    """Hypervolume and smallest that passes after every one of ``SHARES``; how many networks were trained, and how many of them stopped."""
    confidence, _, control_every = way.partition("/")
    stopping.CONTROL_EVERY = int(control_every or CONTROL_EVERY)
    played = Played(table, curves, seconds)
    asked: dict[str, Confidence | None] = {"none": None, "growing": "growing"}
    if confidence not in asked:
        asked[confidence] = float(confidence)
    study = drive(played, seed, played.full, asked[confidence])
    records = [r for r in read_records(study, SPACE) if r.evaluation]
    first = [r for r in records if not r.replicate]
    points = [
        judge([r for r in records if played.ends_s[r.candidate, r.seed] <= share * seconds], table)
        for share in SHARES
    ]
    n_stopped = sum(r.state == "pruned" for r in first)
    return [v for v, _ in points], [s for _, s in points], len(first), n_stopped


def judge(records: Sequence[TrialRecord], table: TrainedTable) -> tuple[float, float]:
    """The hypervolume of a study's front, and the size of the smallest that passes of those that would be raced."""
    front = pareto_front(records)
    truth = table.truth([s.candidate for s in front])
    losses = [(np.log10(s.n_params), -a) for s, a in zip(front, truth.accuracies, strict=True)]
    rule = SelectionRule(STUDY.bar, STUDY.selection.margin)
    raced = list_candidates(records, rule)[: rule.max_candidates]
    rates = table.truth([s.candidate for s in raced]).pass_rates if raced else []
    passing = [s.n_params for s, r in zip(raced, rates, strict=True) if r >= rule.min_pass_rate]
    return share_of_box(losses), float(min(passing, default=REF_POINT[0]))


if __name__ == "__main__":
    main()
