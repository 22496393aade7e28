"""Trains to the end what early stopping ended in finished studies, so that what it lost can be counted and not estimated.

Every trial that was stopped is trained once more from its own seed, without a rule; up to where it was stopped its curve
has to be the same. ``replay_stopping.py`` reads the table. Some minutes for a study of ``make search``:

    python studies/train_stopped.py FOLDER/study.toml ... --out studies/results/fashion-mnist-stopped.json
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

from running import run_script

from nasopt.evaluation import TrainingEvaluator
from nasopt.executors import make_executor
from nasopt.records import TO_THE_END, Evaluation, Evaluator, TrialRecord
from nasopt.search.storage import silence_optuna
from nasopt.workflow import open_context


def main() -> None:
    """Trains what was stopped, and writes the table after every study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="study files")
    parser.add_argument("--out", type=Path, required=True, help="the table")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    silence_optuna()
    tables: list[list[list[object]]] = []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with make_executor(arguments.workers, in_threads=True) as executor:
        for path in arguments.studies:
            context = open_context(path)
            evaluator = TrainingEvaluator(context.source, context.settings.recipe, "native")
            print(path, flush=True)
            tables.append(train_to_the_end(context.records(), evaluator, executor))
            lines = [",\n".join(map(json.dumps, table)) for table in tables]
            arguments.out.write_text("[\n[\n" + "\n],\n[\n".join(lines) + "\n]\n]\n")


def train_to_the_end(
    records: Sequence[TrialRecord], evaluator: Evaluator, executor: Executor
) -> list[list[object]]:
    """The rows of all trials that were trained, once those are trained to the end that were stopped."""
    first = [r for r in records if r.evaluation is not None and r.duplicate_of is None]
    stopped = {
        executor.submit(evaluator, r.candidate, r.seed, TO_THE_END): r
        for r in first
        if r.state == "pruned"
    }
    whole = {r.number: r.evaluation for r in first if r.evaluation is not None}
    for n_done, future in enumerate(as_completed(stopped), start=1):
        record, evaluation = stopped[future], future.result()
        known = whole[record.number].curve
        if evaluation.curve[: len(known)] != known:
            raise SystemExit(
                f"trial {record.number} took another course than in the study, {evaluation.curve} and not {known}: "
                "train with the version, and on a machine of the kind, that the study was made with"
            )
        whole[record.number] = evaluation
        if n_done % 50 == 0:
            print(f"{n_done} of {len(stopped)}", flush=True)
    return [to_row(record, whole[record.number]) for record in first]


def to_row(record: TrialRecord, whole: Evaluation) -> list[object]:
    """Number, genome, lr, lr_decay, seed, replicate, the epochs that the study trained, the curve to the end, whether it is dead, seconds.

    Seconds are those of the training to the end, by the faster of its two times an epoch, since the host's speed varies.
    """
    assert record.evaluation is not None
    s_an_epoch = min(e.duration_s / len(e.curve) for e in (record.evaluation, whole))
    return [
        record.number,
        str(record.candidate.genome),
        record.candidate.lr,
        record.candidate.lr_decay,
        record.seed,
        record.replicate,
        len(record.evaluation.curve),
        [round(accuracy, 4) for accuracy in whole.curve],
        whole.dead,
        round(s_an_epoch * len(whole.curve), 3),
    ]


if __name__ == "__main__":
    run_script(main)
