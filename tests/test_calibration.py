"""The calibration of the race: what a walk picks, and the table of trainings that it walks over."""

import json
from pathlib import Path

import calibrate_race
import make_seeds
import numpy as np
import pytest
from calibrate_race import Network

from nasopt.racing import RaceRule

ROOT = Path(__file__).parents[1]
GOOD = np.linspace(0.76, 0.78, 48)
RNG = np.random.default_rng


@pytest.fixture
def one_a_walk(monkeypatch):
    monkeypatch.setattr(calibrate_race, "N_CANDIDATES", 1)


@pytest.mark.usefixtures("one_a_walk")
def test_a_pick_holds_by_the_seeds_that_no_race_saw():
    holds, fails = (Network(0.76, GOOD, np.full(20, mean)) for mean in (0.751, 0.749))
    assert calibrate_race.walk([holds], 0.75, RNG(0)) == calibrate_race.Walk(True, True, 0, 48)
    assert calibrate_race.walk([fails], 0.75, RNG(0)) == calibrate_race.Walk(False, False, 0, 48)


@pytest.mark.usefixtures("one_a_walk")
def test_what_a_search_would_not_have_seen_above_the_bar_is_not_raced():
    unseen = Network(0.75, GOOD, GOOD)
    assert calibrate_race.walk([unseen], 0.75, RNG(0)) == calibrate_race.Walk(None, None, None, 0)


@pytest.mark.usefixtures("one_a_walk")
def test_the_naive_pick_needs_no_race():
    lucky = Network(0.76, np.array([0.7, 0.71, 0.72, 0.71]), np.full(20, 0.71))
    assert calibrate_race.walk([lucky], 0.75, RNG(0)) == calibrate_race.Walk(None, False, None, 4)


def test_a_simulated_network_is_judged_by_the_distribution_it_is_drawn_from():
    network = Network(0.9, np.array([0.1, 0.2]), np.array([0.3]))
    drawn = network.drawn(RNG(0))
    assert sorted(drawn.unused) == [0.1, 0.2, 0.3, 0.9]
    assert len(drawn.raced) == RaceRule(0.75).n_seeds
    assert {drawn.searched, *drawn.raced} == {0.1, 0.2, 0.3, 0.9}


def test_the_published_networks_are_a_few_hundred_with_twenty_seeds_that_no_race_saw():
    networks = calibrate_race.read_networks()
    assert len(networks) == make_seeds.N_NETWORKS >= 200
    assert {len(network.unused) for network in networks} == {20}
    assert len({row[0] for row in json.loads(make_seeds.TABLE.read_text())}) == len(networks)


def test_the_published_races_are_decided_at_every_bar():
    for network in calibrate_race.read_networks():
        for bar in (bar for bar in calibrate_race.BARS if bar >= make_seeds.LOWEST_BAR):
            for position in (1, calibrate_race.N_CANDIDATES):
                rule = RaceRule(bar, position=position)
                assert rule.judge(network.raced) != "open"


def test_what_is_said_of_the_races_is_what_the_table_tells():
    text = (ROOT / "docs" / "verification.md").read_text()
    networks = calibrate_race.read_networks()
    assert f"{sum(len(network.all) for network in networks):,} trainings" in text
    bars, won, held = (0.74, 0.75, 0.76, 0.77), [], []
    for bar in bars:
        accepted = [n for n in networks if RaceRule(bar).judge(n.raced) == "accepted"]
        won.append(len(accepted))
        held.append(sum(n.unused.mean() > bar for n in accepted))
    assert f"{and_of(won)} of the 300 win their race, and {and_of(held)} of them hold" in text


def and_of(numbers):
    return " and ".join([", ".join(map(str, numbers[:-1])), str(numbers[-1])])


def test_the_published_row_of_75_percent_is_what_the_walks_come_to():
    walks = calibrate_race.walks_on_table(calibrate_race.read_networks(), 0.75)
    cells = [cell.replace("%", " %") for cell in calibrate_race.summarize(walks).split()]
    assert f"| 75 % | {' | '.join(cells)} |" in (ROOT / "docs" / "verification.md").read_text()
