from dataclasses import replace

import pytest

from nasopt.records import SeedResult, Verification
from nasopt.selection import SelectionRule, list_candidates, select_smallest
from tests.conftest import make_record

RULE = SelectionRule(bar=0.75, margin=0.01, n_seeds=3)


def verification(record, *accuracies):
    seeds = tuple(SeedResult(i, i, a, a, a, dead=False) for i, a in enumerate(accuracies, start=1))
    return Verification(record.number, record.candidate, record.n_params, 0.75, seeds)


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


def test_candidates_clear_the_bar_by_the_margin_smallest_first():
    assert [r.number for r in list_candidates(RECORDS, RULE)] == [1, 2, 3, 4]


def test_the_walk_goes_up_until_one_passes_and_explains_itself():
    asked = []

    def verify(record):
        asked.append(record.number)
        return verification(record, *((0.74, 0.76) if record.number == 1 else (0.76, 0.77, 0.78)))

    selection = select_smallest(RECORDS, RULE, verify)
    assert asked == [1, 2]
    assert selection.chosen.number == 2
    assert selection.verification.mean == pytest.approx(0.77)
    text = "\n".join(selection.reasons)
    assert "smallest of 2 distinct architectures tried" in text
    assert "3 of 3 seeds above the bar, mean 77.00%" in text
    assert "1,000 parameters of trial 1 was rejected: on test only 1 of 2 seeds" in text
    assert "The next smaller one, with 1,000 parameters, scored 76.50%" in text
    assert "900 more parameters would have bought 7.00 points" in text
    assert selection.to_json()["rejected"][0]["number"] == 1


def test_the_extremes_are_explained_too():
    only = [make_record(0, 900, 0.8)]
    selection = select_smallest(only, RULE, lambda r: verification(r, 0.8, 0.8, 0.8))
    assert "No smaller network was tried." in selection.reasons
    assert "No larger network tried was more accurate in validation." in selection.reasons


@pytest.mark.parametrize(
    ("records", "rule", "reason"),
    [
        ([], RULE, "No trial is complete yet; search first."),
        (
            RECORDS[:1],
            RULE,
            "none clears 75.0% by a margin of 1.0% .* the best scored 74.00% with 900 parameters",
        ),
        (RECORDS, RULE, "No candidate is left; search longer or raise selection.margin"),
        (
            RECORDS,
            replace(RULE, max_candidates=1),
            "3 more candidates were left after selection.max_candidates = 1",
        ),
    ],
)
def test_a_search_without_a_choice_says_what_to_do(records, rule, reason):
    selection = select_smallest(records, rule, lambda r: verification(r, 0.7))
    assert selection.chosen is None
    assert selection.verification is None
    import re

    assert re.search(reason, selection.reasons[-1])


def test_what_is_not_verified_yet_is_not_chosen():
    selection = select_smallest(RECORDS, RULE, lambda _record: None)
    assert selection.chosen is None
    assert (
        "trial 1 with 1,000 parameters and 76.50% in validation, is not verified yet; run 'nasopt select'"
        in selection.reasons[-1]
    )


def test_a_verification_is_decided_once_the_rest_cannot_change_it():
    record = RECORDS[1]
    strict, lenient = RULE, replace(RULE, n_seeds=4, min_pass_rate=0.5)
    assert not strict.is_decided(verification(record, 0.8))
    assert strict.is_decided(verification(record, 0.7))
    assert strict.passes(verification(record, 0.8, 0.8, 0.8))
    assert not strict.passes(verification(record, 0.8, 0.8))
    assert lenient.may_still_pass(verification(record, 0.7, 0.7))
    assert not lenient.may_still_pass(verification(record, 0.7, 0.7, 0.7))
    assert lenient.passes(verification(record, 0.7, 0.8, 0.8))
