"""A small search, and races and verifications of its networks, for tests of what is chosen and why."""

from nasopt.records import Race, SeedResult, Verification
from nasopt.selection import SelectionRule
from tests.conftest import make_record

RULE = SelectionRule(bar=0.75, margin=0.01, n_seeds=3, race_seeds=4)
GOOD = (0.76, 0.765, 0.77, 0.765)


def verification(network, *accuracies):
    seeds = tuple(SeedResult(i, i, a, a, a, dead=False) for i, a in enumerate(accuracies, start=1))
    return Verification(network.number, network.candidate, network.n_params, 0.75, seeds, 10_000)


def raced(network, *accuracies):
    return Race(network.number, network.candidate, network.n_params, accuracies)


RECORDS = [
    make_record(0, 900, 0.74),
    make_record(1, 1000, 0.765),
    make_record(2, 1100, 0.78, genome="RC 1 1 relu;RC 1 1 relu;FL tanh;"),
    make_record(3, 1100, 0.77),
    make_record(4, 2000, 0.85),
    make_record(5, 950, 0.755),
    make_record(6, 1000, 0.765, duplicate_of=1),
    make_record(7, 800, 0.5, evaluation=None, state="failed", reason="nan"),
]
