from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, t, ttest_1samp

from nasopt.racing import RaceRule, lower_bound, pass_rate_bounds, upper_bound

RULE = RaceRule(0.75, n_seeds=16)
GOOD = [0.76, 0.77, 0.765, 0.775] * 4


def test_a_race_goes_in_rounds_that_double():
    assert RaceRule(0.75).rounds == (4, 8, 16, 32, 48)
    assert RaceRule(0.75, n_seeds=3).rounds == (3,)
    assert [RULE.n_wanted(GOOD[:n]) for n in (0, 3, 4, 8, 15, 16)] == [4, 1, 4, 8, 1, 0]


def test_what_is_good_is_accepted_after_the_last_round_only():
    assert [RULE.judge(GOOD[:n]) for n in (0, 4, 8, 15)] == ["open"] * 4
    assert RULE.judge(GOOD) == "accepted"


def test_what_is_bad_is_dropped_after_the_first_round():
    assert RULE.judge([0.70, 0.71, 0.705]) == "open"
    assert RULE.judge([0.70, 0.71, 0.705, 0.7]) == "dropped"


@pytest.mark.parametrize("n_seeds", [99, 128, 300])
def test_all_of_many_seeds_may_be_asked_for(n_seeds):
    rule = RaceRule(0.75, min_pass_rate=1.0, n_seeds=n_seeds)
    seeds = (GOOD * 20)[:n_seeds]
    assert rule.judge(seeds[:4]) == "open"
    assert rule.judge(seeds) == "accepted"
    assert rule.judge([0.7, *seeds[1:8]]) == "dropped"


def test_what_dies_is_not_accepted_however_good_the_rest():
    dying = [*GOOD[:-1], 0.1]
    assert RULE.judge(dying) == "undecided"
    assert RULE.judge([0.8, 0.1, 0.1, 0.1]) == "dropped"  # too few seeds pass


def test_what_is_too_close_to_the_bar_stays_undecided():
    close = [0.752] * 12 + [0.74, 0.76] * 2
    assert lower_bound(close, RULE.level) < 0.75 < np.mean(close)
    assert RULE.judge(close) == "undecided"


def test_the_error_is_spent_over_all_networks():
    for n in (1, 30):
        levels = [RaceRule(0.75, position=k, n_candidates=n).level for k in range(1, n + 1)]
        assert levels == sorted(levels, reverse=True)
        assert sum(levels) == pytest.approx(0.05)


@pytest.mark.parametrize("position", [1, 4, 30])
def test_the_error_goes_down_with_the_position_and_decides(position):
    rule = RaceRule(0.75, n_seeds=16, position=position)
    assert rule.level * position == pytest.approx(RaceRule(0.75).level)
    seeds = np.array([0.76, 0.761] * 6 + [0.76] + [0.73] * 3)  # 13 of 16 above the bar are enough
    spread = seeds.std(ddof=1) / 4
    for factor, verdict in ((1.05, "accepted"), (0.95, "undecided")):  # of the distance asked for
        mean = 0.75 - factor * t.ppf(rule.level, 15) * spread
        assert rule.judge(seeds + mean - seeds.mean()) == verdict


def test_the_first_round_that_decides_is_the_last_one_looked_at():
    bad_start = [0.74, 0.741, 0.739, 0.74, *[0.77, 0.78] * 22]
    rule = RaceRule(0.75)
    assert rule.decide(bad_start[:4]) == ("dropped", 4)
    assert rule.decide(bad_start) == ("dropped", 4)
    assert RULE.decide([*GOOD, 0.1, 0.1]) == ("accepted", 16)
    assert RULE.decide(GOOD[:9]) == ("open", 9)


def test_a_race_that_can_hardly_be_won_is_given_up():
    rule = RaceRule(0.75)
    failing = [0.745] * 9 + [0.77] * 23  # 39 of 48 are to pass: all that are left
    assert upper_bound(failing, 0.05) > 0.75
    assert pass_rate_bounds(23, 32, 0.05)[1] > 0.8
    assert rule.chance(np.array(failing)) < 0.05
    assert rule.judge(failing) == "dropped"
    too_close = [
        0.751,
        0.752,
    ] * 16  # all pass, but the mean would have to be known better than that
    far = [0.76, 0.77] * 16
    assert rule.chance(np.array(far)) > 0.5
    assert rule.judge(far) == "open"
    assert rule.judge(too_close) == "open"


def test_the_chance_is_that_of_races_that_go_on():
    rule, rng, n = RaceRule(0.75, n_seeds=48), np.random.default_rng(1), 16
    for mean, sd in ((0.765, 0.012), (0.757, 0.015), (0.76, 0.02)):
        seen = rng.normal(mean, sd, n)
        seen += mean - seen.mean()
        won = 0
        for _ in range(400):  # means and deviations as likely as what was seen
            own_sd = seen.std(ddof=1) * np.sqrt((n - 1) / rng.chisquare(n - 1))
            rest = rng.normal(rng.normal(mean, own_sd / np.sqrt(n)), own_sd, 48 - n)
            won += rule.judge([*seen, *rest]) == "accepted"
        assert won / 400 <= rule.chance(seen) + 0.1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30).filter(lambda a: np.std(a) > 1e-6))
def test_bounds_of_the_mean_are_scipys(accuracies):
    mean = ttest_1samp(accuracies, 0)
    for error in (0.05, 0.001):
        low, high = mean.confidence_interval(1 - 2 * error)
        assert lower_bound(accuracies, error) == pytest.approx(low)
        assert upper_bound(accuracies, error) == pytest.approx(high)


@given(st.integers(1, 60), st.data())
def test_bounds_of_a_share_are_scipys(n, data):
    n_passed = data.draw(st.integers(0, n))
    low, high = pass_rate_bounds(n_passed, n, 0.05)
    interval = binomtest(n_passed, n).proportion_ci(0.9, method="exact")
    assert low == pytest.approx(interval.low, abs=1e-12)
    assert high == pytest.approx(interval.high)


def test_of_normal_noise_hardly_any_network_at_the_bar_is_accepted():
    rng = np.random.default_rng(0)
    rule = replace(RULE, min_pass_rate=0.01)  # so that only the bound of the mean keeps any out
    n_accepted = sum(rule.judge(rng.normal(0.75, 0.01, 16)) == "accepted" for _ in range(1000))
    assert 0 < n_accepted <= binom.ppf(0.999, 1000, rule.level)


def test_the_chance_of_a_race_is_what_its_seeds_predict():
    rng = np.random.default_rng(0)
    rule = RaceRule(0.75, n_seeds=16)
    for n, mean, spread in ((4, 0.755, 0.004), (8, 0.757, 0.004), (8, 0.7535, 0.003)):
        seen = mean + spread * np.linspace(-1, 1, n)  # all above the bar: the mean alone decides
        deviation = seen.std(ddof=1)
        wanted = 0.75 - t.ppf(rule.level, 15) * deviation / 4
        true_sd = deviation * np.sqrt((n - 1) / rng.chisquare(n - 1, 200_000))
        true_mean = rng.normal(seen.mean(), true_sd / np.sqrt(n))
        others = rng.normal(true_mean, true_sd / np.sqrt(16 - n))  # their mean
        won = (n * seen.mean() + (16 - n) * others) / 16 > wanted
        assert rule.chance(seen) == pytest.approx(won.mean(), abs=0.01)


def test_the_chance_that_enough_seeds_pass_is_what_they_predict():
    seen = np.array([0.9] * 6 + [0.7] * 2)  # at 0.75 the mean is no question
    share = np.random.default_rng(0).beta(6 + 1, 2 + 1, 200_000)
    n_more = np.random.default_rng(1).binomial(8, share)
    rule = RaceRule(0.75, n_seeds=16)
    assert rule.chance(seen) == pytest.approx((6 + n_more >= 13).mean(), abs=0.01)


def test_a_seed_at_the_bar_is_not_above_it():
    rule = RaceRule(0.75, n_seeds=4, min_pass_rate=1.0)
    assert rule.judge([0.80, 0.81, 0.82, 0.83]) == "accepted"
    assert rule.judge([0.75, 0.81, 0.82, 0.83]) != "accepted"
