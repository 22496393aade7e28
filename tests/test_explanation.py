"""What a choice is explained by, sentence by sentence; the whole of it is in test_selection.py."""

import math

import pytest

from nasopt.candidates import summarize_candidates
from nasopt.explanation import explain_contradicted, find_knee
from nasopt.records import SeedResult, Verification
from tests.conftest import make_record


def test_the_knee_is_where_the_front_bends():
    front = summarize_candidates(
        [make_record(i, n, a) for i, (n, a) in enumerate([(800, 0.3), (1000, 0.75), (3000, 0.8)])]
    )
    assert find_knee(front).n_params == 1000
    assert find_knee(front[:2]) is None


@pytest.mark.parametrize("accuracy", [0.31, 0.3 + 0.5 * math.log(1.25) / math.log(3.75)])
def test_a_front_that_does_not_bend_upwards_has_no_knee(accuracy):
    points = [(800, 0.3), (1000, accuracy), (3000, 0.8)]
    front = summarize_candidates([make_record(i, n, a) for i, (n, a) in enumerate(points)])
    assert find_knee(front) is None


def test_a_test_that_ended_early_says_so_and_one_of_all_seeds_does_not():
    (network,) = summarize_candidates([make_record(0, 900, 0.8)])

    def told(*accuracies):
        seeds = tuple(SeedResult(i, i, a, a, a, dead=False) for i, a in enumerate(accuracies, 1))
        verification = Verification(0, network.candidate, 900, 0.75, seeds, 10_000)
        return explain_contradicted(verification, n_to_pass=3, n_seeds=3)

    assert "0 of 1 seeds were above the bar (mean 70.00%), and no more were trained" in told(0.7)
    assert told(0.8, 0.8, 0.7).endswith("2 of 3 seeds were above the bar (mean 76.67%).")
