"""Halving over seeds: who is promoted, that it finds what is reliable, and that it goes on where it was."""

import json
import re
import threading
from collections import Counter
from pathlib import Path

import halving
import numpy as np
import pytest

from nasopt.errors import DivergedError, SearchStoppedError
from nasopt.genome import Genome
from nasopt.records import Candidate, Evaluation
from tests.trained import SPACE

TRAINED_AS = {"data": "digits", "epochs": 10}
START = Candidate(Genome.parse("NC 2 3 tanh;RC 2 3 tanh;RC 4 3 tanh;FL swish;"), 0.01, 0.1)
SIZES = (900, 1300)


def make(n_features=None):
    made = halving.Halving(SPACE, 0.75, SIZES, np.random.default_rng(3), n_features)
    made.start((START,))
    return made


def quality(candidate):
    """Larger networks are better, up to 1,300 parameters; a sigmoid costs a point."""
    n_sigmoids = str(candidate.genome).count("sigmoid")
    return 0.73 + 0.03 * (SPACE.n_params(candidate.genome) - 900) / 400 - 0.01 * n_sigmoids


def play(search, n, noise):
    rng = np.random.default_rng(4)
    for _ in range(n):
        candidate, number = search.next_training()
        search.tell(candidate, number, quality(candidate) + rng.normal(0, noise))


def test_starts_come_first_then_children_that_are_allowed():
    search = make(n_features=4)
    asked = [search.next_training() for _ in range(2)]
    assert asked == [(START, 0), (START, 1)]
    for candidate, number in asked:
        search.tell(candidate, number, 0.7)
    play(search, 60, 0.01)
    assert len(search.entries) > 10
    for candidate in search.entries:
        assert SIZES[0] <= SPACE.n_params(candidate.genome) <= SIZES[1]
        assert candidate.genome.layers[-1].filters == 4


def test_a_start_of_another_size_is_left_out():
    search = halving.Halving(SPACE, 0.75, (800, 900), np.random.default_rng(3))
    search.start((START,))
    assert search.entries == {}


def test_few_come_to_the_last_rung_and_they_are_the_good_ones():
    search = make()
    play(search, 1500, 0.01)
    counts = Counter(entry.n for entry in search.entries.values())
    assert set(counts) <= set(range(65))
    assert counts[1] > counts[2] > counts[8]
    last = [c for c, entry in search.entries.items() if entry.n >= 32]
    everything = [quality(c) for c in search.entries]
    assert 0 < len(last) < len(everything) / 5
    assert np.median([quality(c) for c in last]) > np.quantile(everything, 0.8)
    best = search.best(5)
    assert len({c.genome for c in best}) == 5
    assert quality(best[0]) > quality(START) + 0.005


def test_a_lucky_seed_is_not_worth_many_good_ones():
    search = make()
    lucky = Candidate(START.genome, 0.02, 0.1)
    other = Candidate(Genome.parse("RC 2 3 tanh;RC 4 3 tanh;FL swish;"), 0.01, 0.1)
    for number in range(8):
        search.recall(START, number, 0.76)
        search.recall(other, number, 0.74)
    search.recall(lucky, 0, 0.764)
    assert search.best(2) == [START, other]


def test_more_workers_than_seeds_to_begin_with_train_these_networks_further():
    search = make()
    assert search.best(3) == []
    asked = [search.next_training() for _ in range(5)]
    assert asked == [(START, number) for number in range(5)]
    for candidate, number in asked:
        search.tell(candidate, number, 0.76)
    assert {number for c, number in [search.next_training() for _ in range(3)] if c == START} == {
        *(5, 6, 7)
    }


def test_networks_of_a_log_that_are_no_longer_allowed_are_left_out():
    search = halving.Halving(SPACE, 0.75, (800, 900), np.random.default_rng(3))
    search.recall(START, 0, 0.8)
    assert search.entries == {}


def test_luck_counts_little_and_a_seed_that_died_a_good_deal():
    search = make()
    for number, accuracy in enumerate([0.1, 0.9]):
        search.recall(START, number, accuracy)
    assert search._scores(START).tolist() == pytest.approx([0.65, 0.77])


def test_trainings_under_way_have_numbers_of_their_own_and_lost_ones_are_done_again(tmp_path):
    search, log = make(), tmp_path / "log.jsonl"
    (_, first), (_, second) = search.next_training(), search.next_training()
    assert (first, second) == (0, 1)
    search.tell(START, second, 0.76)
    assert halving.read_log(log, TRAINED_AS) == []
    halving.append_log(log, START, second, 0.76)  # and killed before the first one ended
    with log.open("a") as file:
        file.write('{"genome": "RC')  # half a line, when the disk was full
    again = make()
    for candidate, number, accuracy in halving.read_log(log, TRAINED_AS):
        again.recall(candidate, number, accuracy)
    assert again.next_training() == (START, 0)
    halving.append_log(log, START, 0, 0.75)
    assert [accuracy for *_, accuracy in halving.read_log(log, TRAINED_AS)] == [0.76, 0.75]
    with pytest.raises(SearchStoppedError, match="trainings of another kind .*--log"):
        halving.read_log(log, TRAINED_AS | {"epochs": 30})


def test_recipes_of_one_architecture_share_no_seed():
    other = Candidate(START.genome, START.lr, 0.2)
    seeds = [halving.seed_of(c, number) for c in (START, other) for number in range(20)]
    assert len(set(seeds)) == 40
    assert seeds[0] == halving.seed_of(START, 0)


def test_a_log_goes_on(tmp_path):
    log = tmp_path / "log.jsonl"
    assert halving.read_log(log, TRAINED_AS) == []

    stop, seeds = threading.Event(), []

    def evaluate(candidate, seed, _rule):
        seeds.append(seed)
        if len(seeds) >= 60:
            stop.set()
        if candidate.lr > 0.05:
            raise DivergedError("the loss became infinite")
        accuracy = quality(candidate) + np.random.default_rng(seed).normal(0, 0.01)
        return Evaluation(accuracy, accuracy, (accuracy,), False, 0.0)

    search = make()
    halving.run(search, evaluate, log, 2, stop)
    rows = halving.read_log(log, TRAINED_AS)
    assert len(rows) == sum(entry.n for entry in search.entries.values()) >= 60
    assert len(set(seeds)) == len(seeds) == len(rows)
    assert len({(candidate, number) for candidate, number, _ in rows}) == len(rows)
    again = make()
    for row in rows:
        again.recall(*row)
    assert {c: e.accuracies for c, e in again.entries.items()} == {
        c: e.accuracies for c, e in search.entries.items()
    }
    assert again.best(3) == search.best(3)


def test_sizes_that_no_child_has_end_it_with_what_to_do():
    search = halving.Halving(SPACE, 0.75, (1000, 1300), np.random.default_rng(3))
    search.recall(START, 0, 0.75)
    search.sizes = (783, 783)
    with pytest.raises(SearchStoppedError, match="widen --min-params"):
        search.next_training()


def test_an_error_that_is_no_training_error_ends_the_run(tmp_path):
    def evaluate(_candidate, seed, _rule):
        if seed == halving.seed_of(START, 1):
            raise ZeroDivisionError
        return Evaluation(0.7, 0.7, (0.7,), False, 0.0)

    with pytest.raises(ZeroDivisionError):
        halving.run(make(), evaluate, tmp_path / "log.jsonl", 2, threading.Event())


def test_the_published_table_says_what_the_documentation_does():
    root = Path(halving.__file__).parents[1]
    rows = json.loads((root / "studies/results/fashion-mnist-below-1000.json").read_text())
    told = (root / "docs" / "results.md").read_text()
    assert f"{sum(len(row[-1]) for row in rows):,} trainings of {len(rows)} networks" in told
    found = re.findall(
        r"\| (\d+) \| `([^`]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) % \| ([\d.]+) % \| (\d+) of (\d+) \|",
        told,
    )
    assert len(found) == 7
    for n_params, genome, lr, lr_decay, mean, lowest, n_above, n in found:
        (accuracies,) = [
            row[4]
            for row in rows
            if row[:2] == [genome, int(n_params)]
            and (f"{row[2]:.4g}", f"{row[3]:.3g}")
            == (f"{float(lr):.4g}", f"{float(lr_decay):.3g}")
        ]
        assert SPACE.n_params(Genome.parse(genome)) == int(n_params) < 1000
        assert (len(accuracies), sum(a > 0.75 for a in accuracies)) == (int(n), int(n_above))
        assert f"{100 * np.mean(accuracies):.2f}" == mean
        assert f"{100 * min(accuracies):.1f}" == lowest
