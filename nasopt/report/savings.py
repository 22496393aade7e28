"""What a search did not have to train, in trainings, epochs and time."""

from collections.abc import Sequence
from dataclasses import dataclass

from nasopt.candidates import trained
from nasopt.records import TrialRecord
from nasopt.search.stopping import StoppingVerdict, judge_stopping


@dataclass(frozen=True, slots=True)
class Savings:
    """Times are seconds of training, added up over the workers; those saved are estimates.

    A duplicate saves what the training took that it repeats; a stopped training saves the epochs left, each as long as
    its own were.
    """

    n_duplicates: int
    duplicates_s: float
    stopped_s: float
    trained_s: float
    stopping: StoppingVerdict


def judge_savings(records: Sequence[TrialRecord]) -> Savings:
    """What duplicates and early stopping saved in a study with these trials."""
    known = trained(records)
    longest = max((len(e.curve) for e in known.values()), default=0)
    duplicates = [r.duplicate_of for r in records if r.duplicate_of is not None]
    return Savings(
        n_duplicates=len(duplicates),
        duplicates_s=sum(known[n].duration_s for n in duplicates if n in known),
        stopped_s=sum(
            e.duration_s / len(e.curve) * (longest - len(e.curve))
            for e in known.values()
            if e.stopped
        ),
        trained_s=sum(e.duration_s for e in known.values()),
        stopping=judge_stopping(records),
    )
