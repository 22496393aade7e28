"""What early stopping is worth to whole searches in our space: ``python studies/ablate_stopping.py --seeds 8``.

The driver with its replicates on ``trained_table.py``, until the trainings have taken so many seconds of one core, as the
table tells of them by MACs; a training that is stopped takes as many as it has epochs. Its curve is that of a real training
that ended near its accuracy with a like recipe, scaled to it. Searches are judged as in ``bench_table.py`` by
the networks that were trained to the end, after a quarter, half and all of the time; means over seeds. A way to stop is a
confidence and how many trials there are to a control, ``0.95/8``, or ``none``.
"""

import argparse
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np
import optuna
from bench_table import Ruler, judge
from trained_table import DEAD_ACCURACY, SPACE, STUDY, TABLE, TrainedTable, read_table

from nasopt.records import Candidate, Evaluation, StopRule
from nasopt.search import stopping
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.plan import SearchPlan
from nasopt.search.samplers import make_sampler
from nasopt.search.storage import silence_optuna
from nasopt.search.study import read_records

N_LIKE = 10  # real trainings whose curve one may have


def main() -> None:
    """Prints a row a way to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", default=["none", "0.95/8"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1440)
    args = parser.parse_args()
    silence_optuna()
    table = TrainedTable(read_table())
    curves = Curves()
    ruler = Ruler("seconds", lambda _candidate: 0.0, step=args.seconds / 4, end=args.seconds)
    for way in args.ways:
        rows = [search(way, seed, table, curves, ruler) for seed in range(args.seeds)]
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
    """Plays trainings, and sets ``full`` once they have taken ``most_s``; ``ends_s`` tells by candidate when its first ended."""

    table: TrainedTable
    curves: Curves
    most_s: float
    full: Event = field(default_factory=Event)
    spent_s: float = 0.0
    ends_s: dict[Candidate, float] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, seed: int, rule: StopRule) -> Evaluation:
        """One training."""
        accuracy = self.table.train(candidate, seed)
        whole = self.curves.draw(candidate, accuracy, seed)
        kept = next(
            (i for i, a in enumerate(whole, start=1) if rule.should_stop(i, a)), len(whole)
        )
        seconds = self.table.seconds(candidate) * kept / len(whole)
        self.spent_s += seconds
        self.ends_s.setdefault(candidate, self.spent_s)
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
    way: str, seed: int, table: TrainedTable, curves: Curves, ruler: Ruler
) -> tuple[list[float], list[float], int, int]:
    """Hypervolume and smallest that passes at the points of ``ruler``; how many networks were trained, and how many of them stopped."""
    confidence, _, control_every = way.partition("/")
    stopping.CONTROL_EVERY = int(control_every or stopping.CONTROL_EVERY)
    plan = SearchPlan(
        name="table",
        space=SPACE,
        bar=STUDY.bar,
        seed=seed,
        margin=STUDY.selection.margin,
        replicate_share=STUDY.search.replicates,
        stop_confidence=None if way == "none" else float(confidence),
    )
    played = Played(table, curves, ruler.end)
    directions = ["maximize", "minimize"]
    study = optuna.create_study(directions=directions, sampler=make_sampler(plan))
    with ThreadPoolExecutor(1) as executor:
        SearchDriver(study, plan, played, executor, n_workers=1).run(Limits(), played.full)
    records = [r for r in read_records(study, plan.space) if r.evaluation and not r.replicate]
    found = [r.candidate for r in records if r.state == "complete"]
    ends = np.array([played.ends_s[candidate] for candidate in found])
    taken = np.diff(ends, prepend=0)
    steps = dict(zip(found, taken.tolist(), strict=True))
    volumes, smallest = judge(
        table, found, Ruler(ruler.name, steps.__getitem__, ruler.step, ruler.end)
    )
    quarters = [0, 1, 3]
    return (
        [volumes[i] for i in quarters],
        [smallest[i] for i in quarters],
        len(records),
        len(records) - len(found),
    )


if __name__ == "__main__":
    main()
