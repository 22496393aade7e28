import json
from dataclasses import replace

import pytest

from nasopt.candidates import summarize_candidates
from nasopt.errors import SettingsError
from nasopt.selection import (
    adapt_rule,
    check_trials,
    list_candidates,
    recall_rule,
    select_network,
)
from tests.conftest import make_record
from tests.selection_cases import GOOD, RECORDS, RULE, raced, verification


def test_candidates_clear_the_bar_by_the_margin_smallest_first():
    assert [s.number for s in list_candidates(RECORDS, RULE)] == [1, 2, 3, 4]


def test_only_the_first_seeds_count_in_whatever_order_they_ended():
    network = summarize_candidates(RECORDS)[2]
    ended = verification(network, 0.8, 0.8, 0.8, 0.8, 0.7, 0.7)
    ended = replace(ended, seeds=tuple(s for s in ended.seeds if s.replicate != 3))
    rule = replace(RULE, n_seeds=4)
    assert not rule.passes(ended)
    assert rule.may_still_pass(ended)
    assert not rule.is_decided(ended)
    assert [s.replicate for s in rule.counted(ended).seeds] == [1, 2]  # what 3 comes to may decide


def test_seeds_after_the_one_that_decides_do_not_count_whoever_trained_them():
    network = summarize_candidates(RECORDS)[2]
    rule = replace(RULE, n_seeds=5, min_pass_rate=0.6)
    one_worker = verification(network, 0.7, 0.8, 0.7, 0.7)
    many = verification(network, 0.7, 0.8, 0.7, 0.7, 0.9)
    assert rule.counted(many) == one_worker == rule.counted(one_worker)
    assert rule.is_decided(many)
    assert not rule.passes(many)


def test_a_seed_at_the_bar_has_failed_on_test():
    network = summarize_candidates(RECORDS)[2]
    rule = replace(RULE, n_seeds=2, min_pass_rate=1.0)
    at_the_bar = verification(network, 0.75, 0.9)
    assert rule.is_decided(at_the_bar)
    assert not rule.passes(at_the_bar)
    assert len(rule.counted(at_the_bar).seeds) == 1
    assert rule.passes(verification(network, 0.7501, 0.9))


def test_under_is_at_most():
    sizes = [s.n_params for s in list_candidates(RECORDS, replace(RULE, under=1100))]
    assert max(sizes) == 1100


def test_a_share_that_is_just_met_is_met_whatever_rounding_makes_of_it():
    rule = replace(RULE, n_seeds=25, min_pass_rate=0.56)
    assert 0.56 * 25 > 14
    network = summarize_candidates(RECORDS)[2]
    assert rule.passes(verification(network, *[0.8] * 14, *[0.74] * 11))
    assert rule.is_decided(verification(network, *[0.74] * 12))
    assert not rule.is_decided(verification(network, *[0.74] * 11))


def test_a_mean_of_four_needs_half_the_margin():
    first = make_record(0, 1000, 0.756)
    again = [
        make_record(i, 1000, 0.756, candidate=first.candidate, replicate=i) for i in (1, 2, 3)
    ]
    assert list_candidates([first], RULE) == []
    assert [s.n_runs for s in list_candidates([first, *again], RULE)] == [4]


def test_the_walk_goes_up_until_one_wins_its_race_and_holds_on_test():
    races, tests = [], []

    def race(network, position):
        races.append((network.number, position))
        return raced(network, *((0.70, 0.71, 0.70, 0.71) if network.number == 1 else GOOD))

    def verify(network):
        tests.append(network.number)
        return verification(network, *((0.74, 0.7) if network.number == 2 else (0.76, 0.77, 0.78)))

    selection = select_network(RECORDS, RULE, race, verify)
    assert races == [(1, 1), (2, 2), (3, 3)]
    assert tests == [2, 3]  # test is opened for what won its race alone
    assert selection.chosen.number == 3
    assert selection.verification.mean == pytest.approx(0.77)
    text = "\n".join(selection.reasons)
    assert (
        "Of 2 distinct architectures trained, 2 of them at or below its size, it is the smallest network that won its race and held on test."
        in text
    )
    assert "4 of 4 fresh seeds were above 75.0%, mean 76.50%" in text
    assert "with 95% confidence in all that this walk may race together" in text
    # The error of 5 % is shared by both networks opened on test: the cube root of 0.025.
    assert (
        "3 of 3 seeds were above the bar (with 97.5% confidence at least 29% of all seeds; "
        in text
    )
    assert "; it is network 2 of those that this walk opened on test)" in text
    assert "lowest 76.00%. 10,000 test images alone leave a standard error of 0.42 points" in text
    assert (
        "The weights are those of its seed 1, the first one above the bar: 76.00% on test." in text
    )
    assert "1,000 parameters of trial 1 was dropped in its race" in text
    assert "mean 70.50%, 4.50 points below the bar, over 4 fresh seeds, 0 of them above it" in text
    assert "trial 2 won its race, but test contradicts it: 0 of 1 seeds" in text
    assert (
        "The next smaller one trained to the end, with 1,000 parameters, scored 76.50%, 1.50 points above the bar in the search (one training)"
        in text
    )
    assert (
        "The last 100 parameters bought 0.50 points of validation accuracy in the search" in text
    )
    assert "900 more parameters would have bought 8.00 points" in text
    document = selection.to_json()
    assert [v["number"] for v in document["contradicted"]] == [2]
    assert [r["verdict"] for r in document["races"]] == ["dropped", "accepted", "accepted"]


def test_seeds_of_a_race_that_a_longer_rule_trained_change_nothing():
    race = (*GOOD, 0.1, 0.1, 0.1, 0.1)  # of an earlier rule over eight seeds
    selection = select_network(
        RECORDS, RULE, lambda s, _: raced(s, *race), lambda s: verification(s, 0.8, 0.8, 0.8)
    )
    assert selection.chosen.number == 1
    assert selection.races[0].accuracies == GOOD
    assert "4 of 4 fresh seeds were above 75.0%, mean 76.50%" in "".join(selection.reasons)


@pytest.mark.parametrize("accuracies", [(), GOOD[:2], GOOD])
def test_what_is_not_verified_yet_is_not_chosen(accuracies):
    selection = select_network(
        RECORDS, RULE, lambda s, _: raced(s, *accuracies), lambda s: verification(s, 0.8)
    )
    assert selection.chosen is None
    assert (
        "The next candidate, trial 1 with 1,000 parameters and 76.50% in validation, is not verified yet; run 'nasopt verify'"
        in selection.reasons[-1]
    )


def test_a_verification_that_was_interrupted_is_no_choice_however_good():
    selection = select_network(
        RECORDS, RULE, lambda s, _: raced(s, *GOOD), lambda s: verification(s, 0.8, 0.8)
    )
    assert selection.chosen is None
    assert "is not verified yet; run 'nasopt verify'" in selection.reasons[-1]
    assert selection.verifications == ()  # it would be shown as one that test contradicts


def test_only_the_seeds_that_are_asked_for_count():
    accuracies = (0.7, 0.7, 0.76, 0.9, 0.9, 0.9)  # of an earlier verification over six seeds
    selection = select_network(
        RECORDS[:2], RULE, lambda s, _: raced(s, *GOOD), lambda s: verification(s, *accuracies)
    )
    assert selection.chosen is None
    assert (
        "0 of 1 seeds were above the bar (mean 70.00%), and no more were trained, since 3 of 3 cannot pass"
        in selection.reasons[0]
    )


def test_the_weights_are_never_of_a_seed_that_failed():
    assert verification(RECORDS[1], 0.1, 0.76, 0.8).first_passed.replicate == 2


def test_a_verification_is_decided_once_the_rest_cannot_change_it():
    record = RECORDS[1]
    strict, lenient = (
        replace(RULE, min_pass_rate=1.0),
        replace(RULE, n_seeds=4, min_pass_rate=0.5),
    )
    assert not strict.is_decided(verification(record, 0.8))
    assert strict.is_decided(verification(record, 0.7))
    assert strict.passes(verification(record, 0.8, 0.8, 0.8))
    assert not strict.passes(verification(record, 0.8, 0.8))
    assert lenient.may_still_pass(verification(record, 0.7, 0.7))
    assert not lenient.may_still_pass(verification(record, 0.7, 0.7, 0.7))
    assert lenient.passes(verification(record, 0.74, 0.74, 0.8, 0.8))
    assert not lenient.passes(verification(record, 0.1, 0.74, 0.8, 0.8))  # the mean is below


def test_other_rules_walk_in_another_order():
    best = replace(RULE, order="best-under", under=1500)
    assert [s.number for s in list_candidates(RECORDS, best)] == [2, 3, 1]
    knee = replace(RULE, order="knee")
    assert [s.number for s in list_candidates(RECORDS, knee)] == [2, 3, 4]
    selection = select_network(
        RECORDS, best, lambda s, _: raced(s, *GOOD), lambda s: verification(s, 0.8, 0.8, 0.8)
    )
    assert selection.chosen.number == 2
    assert (
        "it is the most accurate network in the search of at most 1,500 parameters that won its race"
        in selection.reasons[0]
    )
    assert selection.to_json()["rule"] == "best-under"


def test_named_trials_are_the_only_candidates_whatever_they_have():
    again = replace(RECORDS[1], number=8, seed=8, replicate=1)  # another training of trial 1
    records = [*RECORDS, again]
    named = replace(RULE, trials=(0, 4, 8))
    assert [s.number for s in list_candidates(records, named)] == [0, 1, 4]
    assert [s.number for s in list_candidates(records, replace(named, under=1500))] == [0, 1]
    selection = select_network(
        records, named, lambda s, _: raced(s, *GOOD), lambda s: verification(s, 0.8, 0.8, 0.8)
    )
    assert selection.chosen.number == 0
    assert (
        "it is the smallest network among trials 0, 4, 8 (asked for by number) that won its race"
        in selection.reasons[0]
    )
    assert selection.to_json()["trials"] == [0, 4, 8]
    nothing = select_network(RECORDS, replace(named, trials=(4,), under=1500), None, None)
    assert nothing.reasons == (
        "The smallest network of trial 4 has 2,000 parameters, more than 1,500 (--under); leave that out, or name other trials.",
    )
    with pytest.raises(SettingsError, match="leave out --rule knee or --trial"):
        adapt_rule(RULE, "knee", None, None, (4,))


def test_rules_say_their_limit_and_that_there_was_no_knee():
    rule = replace(RULE, order="knee", under=1500)
    selection = select_network(
        RECORDS[1:3], rule, lambda s, _: raced(s, *GOOD), lambda s: verification(s, 0.8, 0.8, 0.8)
    )
    assert rule.title.endswith("knee of the front up of at most 1,500 parameters")
    assert "it is the smallest network from the knee of the front up" in selection.reasons[0]
    assert selection.reasons[-1].startswith("The front has no knee")


def test_a_trial_that_cannot_be_raced_is_refused():
    stopped = replace(RECORDS[2], number=8, state="pruned", reason="below the rule after epoch 3")
    stopped = replace(stopped, candidate=replace(stopped.candidate, lr=0.05))
    records = [*RECORDS, stopped]
    check_trials(records, replace(RULE, trials=(0, 4)))
    with pytest.raises(
        SettingsError,
        match=r"no trial 99; its last is trial 8: name one that 'nasopt front' lists",
    ):
        check_trials(records, replace(RULE, trials=(0, 99)))
    with pytest.raises(SettingsError, match="no trial 0; it has none yet"):
        check_trials([], replace(RULE, trials=(0,)))
    with pytest.raises(
        SettingsError, match=r"trial 8 is pruned \(below the rule after epoch 3\).*search.start"
    ):
        check_trials(records, replace(RULE, trials=(8,)))


def test_what_was_asked_for_is_recalled_also_as_earlier_versions_stored_it():
    asked = replace(RULE, order="best-under", under=1500, bar=0.8, trials=(4,))
    assert recall_rule(RULE, json.loads(json.dumps(asked.asked))) == asked
    assert recall_rule(RULE, {"bar": 0.8, "order": "smallest", "under": None}).trials == ()
    assert recall_rule(RULE, {}) == RULE


def test_a_rule_is_adapted_to_what_a_user_asked_for():
    adapted = adapt_rule(RULE, "best-under", 1500, 0.8)
    assert (adapted.order, adapted.under, adapted.bar) == ("best-under", 1500, 0.8)
    assert adapt_rule(RULE, "smallest", None, None) == RULE
    assert adapt_rule(RULE, "smallest", None, None, [4, 0, 4]).trials == (0, 4)
    with pytest.raises(SettingsError, match="unknown rule 'best'; give one of smallest, knee"):
        adapt_rule(RULE, "best", None, None)
    with pytest.raises(SettingsError, match="best-under needs the most parameters .* --under"):
        adapt_rule(RULE, "best-under", None, None)
