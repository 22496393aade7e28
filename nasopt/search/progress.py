"""Where a search stands: counts, the front, the smallest network above the bar."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nasopt.records import TrialRecord, pareto_front


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stands; ``latest`` is the trial that ended last.

    Of the trials, ``n_trained`` were trained, ``n_stopped`` of them not to the end; ``n_duplicates`` took an
    evaluation that was known; ``n_too_large`` were not trained.
    """

    n_trials: int = 0
    n_trained: int = 0
    n_duplicates: int = 0
    n_stopped: int = 0
    n_too_large: int = 0
    n_failed: int = 0
    n_running: int = 0
    elapsed_s: float = 0.0
    front: tuple[TrialRecord, ...] = ()
    smallest: TrialRecord | None = None
    latest: TrialRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return {
            "n_trials": self.n_trials,
            "n_trained": self.n_trained,
            "n_duplicates": self.n_duplicates,
            "n_stopped": self.n_stopped,
            "n_too_large": self.n_too_large,
            "n_failed": self.n_failed,
            "n_running": self.n_running,
            "elapsed_s": self.elapsed_s,
            "smallest": self.smallest.to_json() if self.smallest else None,
            "front": [record.to_json() for record in self.front],
        }


def add_record(progress: Progress, record: TrialRecord, bar: float) -> Progress:
    """The state after one more trial has ended."""
    return replace(
        progress,
        n_trained=progress.n_trained
        + (record.evaluation is not None and record.duplicate_of is None),
        n_stopped=progress.n_stopped
        + (record.state == "pruned" and record.evaluation is not None),
        n_duplicates=progress.n_duplicates + (record.duplicate_of is not None),
        n_too_large=progress.n_too_large
        + (record.state == "pruned" and record.evaluation is None),
        n_failed=progress.n_failed + (record.state == "failed"),
        elapsed_s=max(progress.elapsed_s, record.elapsed_s),
        front=tuple(pareto_front([*progress.front, record])),
        smallest=_smaller(progress.smallest, record, bar),
        latest=record,
    )


def _smaller(smallest: TrialRecord | None, record: TrialRecord, bar: float) -> TrialRecord | None:
    if record.state != "complete" or record.val_accuracy < bar:
        return smallest
    return record if smallest is None or record.n_params < smallest.n_params else smallest


def summarize(records: Sequence[TrialRecord], bar: float) -> Progress:
    """Where a search stands after ``records``."""
    progress = Progress(
        n_trials=max((r.number + 1 for r in records), default=0),
        n_running=sum(r.state == "running" for r in records),
    )
    for record in records:
        if record.state != "running":
            progress = add_record(progress, record, bar)
    return progress
