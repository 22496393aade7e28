"""Where a search stands: counts, the front, the smallest network above the bar."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nasopt.candidates import CandidateSummary, CandidateTable, front_of, summarize_candidates
from nasopt.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stands; ``latest`` is the trial that ended last.

    Of the trials, ``n_trained`` were trained, ``n_stopped`` of them not to the end and ``n_replicates`` of them from a
    further seed of a known network; ``n_duplicates`` took an evaluation that was known; ``n_too_large`` were not
    trained. ``smallest`` is the smallest network whose mean accuracy is above the bar.
    """

    n_trials: int = 0
    n_trained: int = 0
    n_duplicates: int = 0
    n_stopped: int = 0
    n_replicates: int = 0
    n_too_large: int = 0
    n_failed: int = 0
    n_running: int = 0
    elapsed_s: float = 0.0
    front: tuple[CandidateSummary, ...] = ()
    smallest: CandidateSummary | None = None
    latest: TrialRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return {
            "n_trials": self.n_trials,
            "n_trained": self.n_trained,
            "n_duplicates": self.n_duplicates,
            "n_stopped": self.n_stopped,
            "n_replicates": self.n_replicates,
            "n_too_large": self.n_too_large,
            "n_failed": self.n_failed,
            "n_running": self.n_running,
            "elapsed_s": self.elapsed_s,
            "smallest": self.smallest.to_json() if self.smallest else None,
            "front": [record.to_json() for record in self.front],
        }


def add_record(
    progress: Progress, record: TrialRecord, bar: float, known: CandidateTable
) -> Progress:
    """The state after one more trial has ended, which ``known`` holds already."""
    progress = _count(progress, record)
    if record.replicate:  # a mean has moved, and with it perhaps what it had dominated
        return replace(progress, front=tuple(known.front()), smallest=known.smallest_above(bar))
    summaries = summarize_candidates([record])
    above = [s for s in summaries if s.val_accuracy > bar]
    return replace(
        progress,
        front=tuple(front_of([*progress.front, *summaries])),
        smallest=min(
            [*filter(None, [progress.smallest]), *above],
            key=lambda s: (s.n_params, s.number),
            default=None,
        ),
    )


def summarize(records: Sequence[TrialRecord], bar: float) -> Progress:
    """Where a search stands after ``records``."""
    progress = Progress(
        n_trials=max((r.number + 1 for r in records), default=0),
        n_running=sum(r.state == "running" for r in records),
    )
    for record in sorted(records, key=lambda r: r.elapsed_s):
        if record.state != "running":
            progress = _count(progress, record)
    known = CandidateTable(records)
    return replace(progress, front=tuple(known.front()), smallest=known.smallest_above(bar))


def _count(progress: Progress, record: TrialRecord) -> Progress:
    trained = record.evaluation is not None and record.duplicate_of is None
    return replace(
        progress,
        n_trained=progress.n_trained + trained,
        n_stopped=progress.n_stopped + (trained and record.state == "pruned"),
        n_replicates=progress.n_replicates + (trained and record.replicate > 0),
        n_duplicates=progress.n_duplicates + (record.duplicate_of is not None),
        n_too_large=progress.n_too_large + record.is_too_large,
        n_failed=progress.n_failed + (record.state == "failed"),
        elapsed_s=max(progress.elapsed_s, record.elapsed_s),
        latest=record,
    )
