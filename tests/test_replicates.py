import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from nasopt.candidates import CandidateTable, front_of, pareto_front, summarize_candidates
from nasopt.records import trial_seed
from nasopt.search.driver import Limits, SearchDriver
from nasopt.search.ledger import n_known_to
from nasopt.search.progress import summarize
from nasopt.search.replicates import (
    MAX_RUNS,
    MIN_CHANCE,
    MIN_RUNS,
    choose_replicate,
    is_replicate_turn,
)
from nasopt.search.stopping import is_control
from nasopt.search.study import open_study, read_records, working_copy
from tests.conftest import make_record

BAR, MARGIN = 0.75, 0.01


def table_of(*networks):
    """A table of networks, each given by its size and the accuracies of its trainings."""
    records = []
    for n_params, *accuracies in networks:
        first = make_record(len(records), n_params, accuracies[0])
        records.append(first)
        for i, accuracy in enumerate(accuracies[1:], start=1):
            records.append(
                make_record(
                    len(records), n_params, accuracy, candidate=first.candidate, replicate=i
                )
            )
    return CandidateTable(records)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_the_share_of_turns_is_the_one_asked_for(share):
    turns = [is_replicate_turn(n, share) for n in range(1000)]
    assert sum(turns) == 1000 * share


def test_the_one_that_promises_to_be_the_smallest_above_the_bar_is_trained_again():
    networks = table_of((1500, 0.80), (1000, 0.755), (900, 0.70), (1400, 0.76))
    assert choose_replicate(networks, [], BAR, MARGIN) == networks.summaries[1].candidate


def test_nothing_is_trained_again_that_could_not_become_the_smallest():
    sure = (1000, 0.77, 0.77, 0.77)
    networks = table_of(sure, (1100, 0.755), (900, 0.70))
    assert choose_replicate(networks, [], BAR, MARGIN) is None
    networks = table_of(sure, (1100, 0.755), (900, 0.745))
    assert choose_replicate(networks, [], BAR, MARGIN) == networks.summaries[2].candidate
    assert choose_replicate(CandidateTable(), [], BAR, MARGIN) is None


def test_a_single_good_training_is_not_enough_and_six_are():
    lucky = table_of((1000, 0.90))
    assert choose_replicate(lucky, [], BAR, MARGIN) == lucky.summaries[0].candidate
    assert choose_replicate(table_of((1000, *[0.75] * MAX_RUNS)), [], BAR, MARGIN) is None
    under_way = [lucky.summaries[0].candidate] * (MAX_RUNS - 1)
    assert choose_replicate(lucky, under_way, BAR, MARGIN) is None


def test_the_most_promising_by_trainings_known_and_on_the_way_is_chosen():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.choice(np.arange(900, 1100), 8, replace=False)
        seeds = [rng.normal(0.752, 0.01, rng.integers(1, 4)) for _ in sizes]
        table = table_of(*[(int(n), *map(float, a)) for n, a in zip(sizes, seeds, strict=True)])
        pending = [table.summaries[i].candidate for i in rng.integers(0, 8, 4)]
        sure = [
            s.n_params
            for s in table.summaries
            if s.n_runs >= MIN_RUNS and s.shortfall(BAR, MARGIN) <= 0
        ]
        cap = min(sure, default=2 * max(sizes))

        def promise(s, cap=cap, pending=pending):
            chance = norm.cdf((s.val_accuracy - BAR) / MARGIN * np.sqrt(s.n_runs))
            n = s.n_runs + pending.count(s.candidate)
            is_open = chance >= MIN_CHANCE and s.n_params < cap and n < MAX_RUNS
            return chance * np.log(cap / s.n_params) * s.n_runs / n if is_open else 0.0

        best = max(table.summaries, key=promise)
        chosen = choose_replicate(table, pending, BAR, MARGIN)
        assert chosen == (best.candidate if promise(best) else None)


def test_trainings_that_fail_count_as_trainings():
    lucky = make_record(0, 1000, 0.77)
    failed = [
        replace(
            make_record(i, 1000, 0.77, candidate=lucky.candidate, replicate=i),
            state="failed",
            evaluation=None,
        )
        for i in range(1, MAX_RUNS)
    ]
    other = make_record(9, 1100, 0.755)
    for n_failed, chosen in ((0, lucky), (MAX_RUNS - 1, other)):
        networks = CandidateTable([lucky, *failed[:n_failed], other])
        assert [s.n_failed for s in networks.summaries] == [n_failed, 0]
        assert choose_replicate(networks, [], BAR, MARGIN) == chosen.candidate


def test_candidates_are_summed_up_by_the_mean_of_their_trainings():
    (lucky, other) = table_of((1000, 0.78, 0.70, 0.71), (1100, 0.76)).summaries
    assert (lucky.n_runs, lucky.number, other.number) == (3, 0, 3)
    assert lucky.val_accuracy == pytest.approx(0.73)
    assert lucky.shortfall(0.75, 0.01) == pytest.approx(0.02 + 0.01 / 3**0.5)
    assert other.shortfall(0.75, 0.01) == pytest.approx(0.0, abs=1e-9)
    assert table_of((900, 0.82)).summaries[0].shortfall(0.8, 0.02) <= 0  # it is just met
    assert lucky.to_json()["val_accuracies"] == [0.78, 0.70, 0.71]


def test_the_columns_of_a_table_follow_its_summaries():
    rng = np.random.default_rng(0)
    table, candidates = CandidateTable(), {}
    for number in range(300):
        n_params = int(rng.integers(1000, 1150))
        record = make_record(number, n_params, float(rng.uniform(0.6, 0.8)))
        if n_params in candidates:
            record = replace(record, candidate=candidates[n_params], replicate=number)
        if rng.random() < 0.1:
            record = replace(record, state="failed", evaluation=None)
        candidates[n_params] = record.candidate
        table.add(record)
    summaries = table.summaries
    assert len(summaries) > 64  # more than there is room for at first
    assert table.sizes.tolist() == [s.n_params for s in summaries]
    assert table.accuracies.tolist() == [s.val_accuracy for s in summaries]
    assert table.n_runs.tolist() == [s.n_runs for s in summaries]
    assert table.n_trained.tolist() == [s.n_runs + s.n_failed for s in summaries]
    assert table.front() == front_of(summaries)
    assert all(table.get(s.candidate) is s for s in summaries)
    smallest = min(s.n_params for s in summaries if s.val_accuracy > BAR)
    assert table.smallest_above(BAR).n_params == smallest
    assert table.smallest_above(0.9) is None


def test_the_front_and_the_smallest_go_by_means():
    records = [make_record(0, 1000, 0.78), make_record(1, 1100, 0.76)]
    assert [s.n_params for s in pareto_front(records)] == [1000]
    assert summarize(records, BAR).smallest.n_params == 1000
    records.append(make_record(2, 1000, 0.70, candidate=records[0].candidate, replicate=1))
    assert [s.n_params for s in pareto_front(records)] == [1000, 1100]
    assert summarize(records, BAR).smallest.n_params == 1100


@pytest.mark.parametrize("sampler", ["nsga2", "optuna-nsga2"])
def test_a_search_trains_promising_networks_again_from_further_seeds(
    plan, table, tmp_path, sampler
):
    plan = replace(plan, sampler=sampler, replicate_share=0.25, margin=0.02)
    database = tmp_path / "study.db"
    stored = open_study(plan, database, create=True)
    with working_copy(stored, database) as study, ThreadPoolExecutor(2) as executor:
        driver = SearchDriver(study, plan, table, executor, 2)
        driver.run(Limits(trials=80), threading.Event())
    records = read_records(open_study(plan, database, create=False), plan.space)
    again = [r for r in records if r.replicate]
    assert 5 <= len(again) <= 20
    assert all(is_replicate_turn(r.number, 0.25) for r in again)
    assert driver.progress.n_replicates == len(again)
    assert driver.progress.to_json() == summarize(records, plan.bar).to_json() | {"n_running": 0}
    for record in again:
        assert record.seed == trial_seed(plan.seed, record.candidate.genome, record.replicate)
        assert record.state == "complete"
        first = next(r for r in records if r.candidate == record.candidate)
        assert (first.replicate, first.number < record.number) == (0, True)
    runs = Counter((r.candidate, r.replicate) for r in records if r.duplicate_of is None)
    assert set(runs.values()) == {1}
    for summary in summarize_candidates(records):
        own = [r for r in records if r.candidate == summary.candidate and r.duplicate_of is None]
        assert len({r.seed for r in own}) == len(own) == summary.n_runs


def test_a_control_is_no_replicate(plan, table, tmp_path):
    plan = replace(plan, replicate_share=0.2, margin=0.02)  # some turns of a fifth are controls
    study = open_study(plan, tmp_path / "study.db", create=True)
    with ThreadPoolExecutor(2) as executor:
        SearchDriver(study, plan, table, executor, 2).run(Limits(trials=80), threading.Event())
    records = read_records(study, plan.space)
    assert any(is_control(r.number) and is_replicate_turn(r.number, 0.2) for r in records)
    assert any(r.replicate for r in records)
    assert not any(r.control and r.replicate for r in records)


def test_a_replicate_is_feasible_by_the_mean_of_what_was_known(plan, table, tmp_path):
    plan = replace(plan, replicate_share=0.25, margin=0.02)
    database = tmp_path / "study.db"
    stored = open_study(plan, database, create=True)
    with working_copy(stored, database) as study, ThreadPoolExecutor(1) as executor:
        SearchDriver(study, plan, table, executor, 1).run(Limits(trials=80), threading.Event())
    study = open_study(plan, database, create=False)
    records = read_records(study, plan.space)
    seen = 0
    for record, trial in zip(records, study.trials, strict=True):
        n_known = n_known_to(record.number, plan.generation_size)
        earlier = [
            r.val_accuracy for r in records[:n_known] if r.candidate == record.candidate
        ] * (record.replicate > 0)
        seen += len(earlier) > 0
        accuracies = [*earlier, record.val_accuracy]
        missing = (
            plan.bar + plan.margin / len(accuracies) ** 0.5 - sum(accuracies) / len(accuracies)
        )
        assert list(trial.constraints.values()) == [pytest.approx(missing)]
    assert seen > 5
