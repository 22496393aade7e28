"""What a choice, or that there is none, is explained by; a whole walk is in test_selection.py."""

import math
import re
from dataclasses import replace

import pytest

from nasopt.candidates import summarize_candidates
from nasopt.explanation import explain_contradicted, find_knee
from nasopt.selection import select_network
from tests.conftest import make_record
from tests.selection_cases import GOOD, RECORDS, RULE, raced, verification


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


def test_the_extremes_are_explained_too():
    only = [make_record(0, 900, 0.8)]
    selection = select_network(
        only, RULE, lambda s, _: raced(s, *GOOD), lambda s: verification(s, 0.8, 0.8, 0.8)
    )
    assert "No smaller network was trained to the end." in selection.reasons
    assert "with 95% confidence at least 37% of all seeds)" in "".join(selection.reasons)
    assert "No larger network tried was more accurate in validation." in selection.reasons


def test_what_the_next_hundred_parameters_buy_is_told_of_what_lies_within_them():
    sizes = ((1000, 0.77), (1050, 0.78), (1090, 0.79), (1300, 0.80))
    records = [make_record(i, n, a) for i, (n, a) in enumerate(sizes)]
    selection = select_network(
        records, RULE, lambda s, _: raced(s, *GOOD), lambda s: verification(s, 0.8, 0.8, 0.8)
    )
    assert "90 more parameters would have bought 2.00 points" in "".join(selection.reasons)
    assert "one tried has 1,300 parameters and 80.00%" in "".join(selection.reasons)


def test_what_more_parameters_buy_is_told_though_a_smaller_lucky_one_dominates():
    records = [
        make_record(0, 900, 0.80, genome="RC 1 1 relu;RC 1 1 relu;FL tanh;"),
        make_record(1, 950, 0.765),
        make_record(2, 1200, 0.79),
    ]
    bad = (0.5, 0.5, 0.5, 0.5)
    selection = select_network(
        records,
        RULE,
        lambda s, _: raced(s, *(bad if s.number == 0 else GOOD)),
        lambda s: verification(s, 0.8, 0.8, 0.8),
    )
    assert selection.chosen.number == 1
    assert "250 more parameters would have bought 2.50 points" in "".join(selection.reasons)
    assert "the most accurate larger one tried has" in "".join(selection.reasons)


@pytest.mark.parametrize(
    ("records", "rule", "reason"),
    [
        ([], RULE, "No trial is complete yet; search first."),
        (
            [
                replace(RECORDS[0], state="failed", evaluation=None, reason="no memory"),
                replace(RECORDS[1], state="pruned", reason="stopped"),
                replace(RECORDS[2], state="pruned", evaluation=None, reason="too large"),
            ],
            RULE,
            "of 3 trials 1 failed, 1 were stopped early and 1 were too large. The last one: too large",
        ),
        (
            RECORDS[:1],
            RULE,
            "none clears 75.0% by a margin of 1.0% .* the best of all scored 74.00% with 900 parameters",
        ),
        (RECORDS, RULE, "No candidate is left; search longer .*--budget"),
        (RECORDS, replace(RULE, trials=(4,)), "left; name other trials or none, or search longer"),
        (
            RECORDS,
            replace(RULE, order="best-under", under=920),
            r"No network of at most 920 \(--under\) clears .* has 1,000 parameters and 76.50% .*Leave that out",
        ),
        (
            RECORDS,
            replace(RULE, order="knee", under=1050),
            r"No network of at least 1,100 .*\(--rule knee\) and of at most 1,050 \(--under\) .* has 1,000 .*Leave one of",
        ),
        (
            RECORDS[:1],
            replace(RULE, under=1050),
            "none clears 75.0% by a margin of 1.0% .* the best of all scored 74.00% with 900 parameters",
        ),
        (
            RECORDS,
            replace(RULE, max_candidates=1),
            "3 more candidates were left after selection.max_candidates = 1",
        ),
    ],
)
def test_a_search_without_a_choice_says_what_to_do(records, rule, reason):
    selection = select_network(
        records, rule, lambda s, _: raced(s, *[0.7, 0.71] * 2), lambda s: verification(s, 0.7)
    )
    assert selection.chosen is None
    assert selection.verification is None
    assert selection.verifications == ()
    assert re.search(reason, selection.reasons[-1])


def test_what_is_too_close_to_the_bar_is_said_to_be():
    close = (0.74, 0.76, 0.76, 0.76)
    rule = replace(RULE, min_pass_rate=0.5)
    selection = select_network(
        RECORDS, rule, lambda s, _: raced(s, *close), lambda s: verification(s, 0.8)
    )
    assert "1,000 parameters of trial 1 is too close to the bar" in selection.reasons[0]


def test_what_fails_from_too_many_seeds_is_not_said_to_be_close():
    many = (0.74, 0.79, 0.79, 0.79)
    selection = select_network(
        RECORDS, RULE, lambda s, _: raced(s, *many), lambda s: verification(s, 0.8)
    )
    assert "has too few seeds above the bar, 80% are asked for: mean" in selection.reasons[0]


def test_a_smaller_network_that_was_lucky_in_the_search_is_no_loss():
    records = [make_record(0, 900, 0.79), make_record(1, 1100, 0.77)]
    selection = select_network(
        records,
        RULE,
        lambda s, _: raced(s, *(GOOD if s.number else [0.7] * 4)),
        lambda s: verification(s, 0.8, 0.8, 0.8),
    )
    assert selection.chosen.number == 1
    assert "bought" not in "".join(r for r in selection.reasons if "would have" not in r)


def test_a_test_that_ended_early_says_so_and_one_of_all_seeds_does_not():
    (network,) = summarize_candidates([make_record(0, 900, 0.8)])

    def told(*accuracies):
        return explain_contradicted(verification(network, *accuracies), n_to_pass=3, n_seeds=3)

    assert "0 of 1 seeds were above the bar (mean 70.00%), and no more were trained" in told(0.7)
    assert told(0.8, 0.8, 0.7).endswith("2 of 3 seeds were above the bar (mean 76.67%).")
