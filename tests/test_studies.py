"""The benchmarks' own arithmetic, and that the baseline is what it says; nothing is trained."""

import ast
import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import ablate_sampler
import bench_driver
import bench_plot
import bench_real
import bench_table
import make_front
import numpy as np
import optuna
import pytest
import searches
import trained_table

from nasopt.cost import count_cost, count_macs
from nasopt.search.proposer import Problem, Strategy
from nasopt.search.study import open_study, read_database
from tests.trained import SPACE, make_trained_table, sample

BASELINE = Path(__file__).parent.parent / "studies" / "baseline" / "search.py"


def load_baseline():
    spec = importlib.util.spec_from_file_location("baseline_search", BASELINE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The baseline


def test_the_baseline_imports_nothing_of_nasopt():
    nodes = list(ast.walk(ast.parse(BASELINE.read_text())))
    names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom)]
    assert "optuna" in names
    assert not [name for name in names if name.startswith("nasopt")]


def test_the_baseline_searches_the_space_of_the_study():
    baseline = load_baseline()
    for candidate in sample(30):
        trial = optuna.trial.FixedTrial(SPACE.to_params(candidate))
        assert baseline.count_params(baseline.build_model(trial)) == SPACE.n_params(
            candidate.genome
        )
        trial.suggest_float("lr", *SPACE.lr, log=True)
        trial.suggest_float("lr_decay", *SPACE.lr_decay, log=True)
        assert trial.distributions.keys() == SPACE.to_params(candidate).keys()
    assert (SPACE.max_params, SPACE.max_macs) == (baseline.MAX_PARAMS, baseline.MAX_MACS)
    for candidate in sample(10, legal=False):
        with pytest.raises(optuna.TrialPruned, match="too large"):
            baseline.build_model(optuna.trial.FixedTrial(SPACE.to_params(candidate)))


def test_the_baseline_counts_macs_as_nasopt_does():
    baseline = load_baseline()
    for candidate in sample(20):
        macs = count_cost(candidate.genome, SPACE.image, SPACE.n_classes).macs
        trial = optuna.trial.FixedTrial(SPACE.to_params(candidate))
        baseline.MAX_MACS = macs
        baseline.build_model(trial)
        baseline.MAX_MACS = macs - 1
        with pytest.raises(optuna.TrialPruned, match="too large"):
            baseline.build_model(trial)


# The table of trainings


@pytest.fixture(scope="module")
def table():
    return make_trained_table()


def test_a_played_training_is_a_pure_function_of_candidate_and_seed(table):
    first, second = sample(2)
    assert table.train(first, 3) == table.train(first, 3)
    assert len({table.train(first, seed) for seed in range(8)}) > 1
    assert table.train(first, 3) != table.train(second, 3)


def test_the_truth_is_what_many_trainings_come_to(table):
    candidates = sample(6)
    truth = table.truth(candidates, bar=0.88)
    played = np.array([[table.train(c, seed) for seed in range(600)] for c in candidates])
    assert truth.accuracies == pytest.approx(played.mean(axis=1), abs=0.05)
    assert truth.pass_rates == pytest.approx((played > 0.88).mean(axis=1), abs=0.08)
    deaths = (played == trained_table.DEAD_ACCURACY).mean(axis=1)
    assert deaths == pytest.approx(table.predict(candidates)[2], abs=0.08)


def test_the_published_table_is_read_by_candidate():
    trainings = trained_table.read_table()
    assert len({t.candidate for t in trainings}) == len(trainings)
    assert max(t.n for t in trainings) >= 20
    assert all(SPACE.why_too_large(t.candidate.genome) is None for t in trainings)


def test_a_played_training_takes_as_long_as_real_ones_of_as_many_macs(table):
    for candidate in sample(5):
        macs = count_macs(candidate.genome, SPACE.image, SPACE.n_classes)
        assert table.seconds(candidate) == pytest.approx(1 + 1e-4 * macs)


def test_a_curve_is_read_at_equal_evaluations_or_at_equal_time(table):
    visited = sample(40)
    ruler = bench_table.Ruler("evaluations", lambda _candidate: 1.0, step=10, end=40)
    assert ruler.n_before(visited) == [10, 20, 30, 40]
    ruler = bench_table.Ruler("seconds", table.seconds, step=5, end=30)
    ends = np.cumsum([table.seconds(candidate) for candidate in visited])
    assert ruler.n_before(visited) == [int((ends <= s).sum()) for s in (5, 10, 15, 20, 25, 30)]


def test_a_search_of_equal_time_ends_when_the_time_is_spent(table):
    task = bench_table.make_task(table)
    for search in (bench_table.whole_driver, searches.RANDOM):
        visited = search(task, 0, searches.Spent(60, table.seconds))
        seconds = [table.seconds(candidate) for candidate in visited]
        assert sum(seconds[:-1]) < 60 <= sum(seconds)


def test_curves_of_a_search_never_get_worse(table):
    ruler = bench_table.Ruler("evaluations", lambda _candidate: 1.0, step=10, end=40)
    volumes, smallest = bench_table.judge(table, sample(40), ruler)
    assert len(volumes) == len(smallest) == 4
    assert volumes == sorted(volumes)
    assert smallest == sorted(smallest, reverse=True)
    assert 0 < volumes[-1] < 1


def test_runs_of_another_measure_are_not_mixed(table, tmp_path):
    path = tmp_path / "bench.json"
    ruler = bench_table.make_ruler(table, 20)
    bench_table.compare(["random"], 1, table, ruler, path)
    bench_table.compare(["front mutation"], 1, table, ruler, path)
    before = path.read_text()
    assert list(json.loads(before)) == ["random", "front mutation"]
    for other in (bench_table.make_ruler(table, 10), bench_table.make_ruler(table, 20, 60.0)):
        with pytest.raises(SystemExit, match="of another measure; name another file with --out"):
            bench_table.compare(["random"], 1, table, other, path)
    assert path.read_text() == before


def test_the_published_tables_say_by_what_they_are_measured(table):
    for name, ruler in (
        ("bench-table.json", bench_table.make_ruler(table, 300)),
        ("bench-table-time.json", bench_table.make_ruler(table, 300, 1200.0)),
    ):
        results = json.loads((bench_table.RESULTS / name).read_text())
        assert {known["step"] for known in results.values()} == {ruler.step}


def test_an_ablation_tells_what_every_part_comes_to(table, capsys):
    names = ["default", "no model", "no bar", "one length scale", "without change_lr"]
    ablate_sampler.ablate(names, 2, table, bench_table.make_ruler(table, 40))
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == names
    volumes = [float(line[2].split()[0]) for line in lines]
    assert all(0 < volume < 1 for volume in volumes)
    assert len(set(volumes)) == len(names)


# The searches


def number_task():
    """Numbers below 400, of which every seventh is too large; the larger, the more accurate."""

    def size(number):
        return np.inf if number % 7 == 0 else 1.0 + number

    def step(number, rng):
        return int(np.clip(number + rng.integers(-20, 21), 0, 399))

    problem = Problem(
        sample=lambda rng: int(rng.integers(400)),
        vary=lambda parents, rng: step(parents[0], rng),
        size=size,
        features=lambda number: np.array([number / 400]),
        bar=0.5,
        max_size=1e9,
    )

    def suggest(trial):
        return trial.suggest_int("number", 0, 399)

    return searches.Task(
        problem, 400.0, step, suggest, suggest, lambda _seed: lambda number: number / 400
    )


SEARCHES = {
    "ours": searches.ours(Strategy(n_start=5, n_children=20), generation=4),
    "evolution": searches.evolution,
    "front mutation": searches.mutate_the_front,
    "NSGA-II": searches.nsga2(10, constrained=True),
    "TPE": searches.tpe(multivariate=True),
    "random": searches.RANDOM,
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_trains_as_often_as_asked_and_nothing_too_large(name):
    task = number_task()
    visited = SEARCHES[name](task, 0, searches.Spent(40))
    assert len(visited) == 40
    assert all(task.is_legal(number) for number in visited)
    assert SEARCHES[name](task, 0, searches.Spent(40)) == visited
    assert SEARCHES[name](task, 1, searches.Spent(40)) != visited
    if name in ("ours", "front mutation"):
        assert len(set(visited)) == 40


def test_any_values_of_all_parameters_make_a_legal_network(table):
    task = bench_table.make_task(table)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    kept = [task.suggest_all(study.ask()) for _ in range(50)]
    for candidate in kept:
        assert SPACE.from_params(SPACE.to_params(candidate)) == candidate
    assert len({len(trial.params) for trial in study.trials}) == 1


# Real trainings at equal time


def test_the_share_of_time_is_counted_to_what_the_other_had_in_its_budget():
    runs = {
        "nasopt": {"1": [(1.0, 2000, 0.6), (4.0, 1500, 0.8), (90.0, 900, 0.9)]},
        "slow": {"1": [(50.0, 1600, 0.79), (120.0, 800, 0.99)]},
        "good": {"1": [(50.0, 790, 0.99)]},
    }
    shares = bench_real.all_shares(runs, 100.0, 0.75)
    assert shares["hypervolume"] == {"slow": {"1": 0.04}, "good": {"1": None}}
    assert shares["smallest"] == {"slow": {"1": 0.04}, "good": {"1": None}}
    assert bench_real.all_shares(runs, 100.0, 0.95)["smallest"]["good"] == {"1": None}
    assert bench_real.smallest(runs["nasopt"]["1"][:2], 0.75) == 1500
    assert bench_real.smallest(runs["nasopt"]["1"], 0.95) == 3000


def test_what_found_nothing_above_the_bar_sets_no_goal():
    runs = {"nasopt": {"1": [(1.0, 2000, 0.6)]}, "none": {"1": [(50.0, 1600, 0.7)]}}
    assert bench_real.all_shares(runs, 100.0, 0.75)["smallest"] == {"none": {"1": None}}
    runs["late"] = {"1": [(200.0, 1600, 0.8)]}
    assert bench_real.all_shares(runs, 100.0, 0.75)["hypervolume"]["late"] == {"1": None}


def test_the_hypervolume_is_a_share_of_the_box():
    assert bench_real.volume([(1.0, 782, 1.0)]) == pytest.approx(1)
    assert bench_real.volume([(1.0, 3000, 1.0), (1.0, 782, 0.1)]) == 0
    middle = round((782 * 3000) ** 0.5)
    assert bench_real.volume([(1.0, middle, 0.55)]) == pytest.approx(0.25, abs=1e-3)


def played(seed, budget, n_workers, folder):
    return [(budget / 2, 1000 + seed, 0.8)]


def test_a_run_that_the_file_holds_is_said_to_be_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(bench_real.METHODS, "nasopt", played)
    path = tmp_path / "runs.json"
    bench_real.compare(["nasopt"], [1], 60.0, 1, path, tmp_path / "first")
    assert "not run" not in capsys.readouterr().out
    before = json.loads(path.read_text())
    assert (before["budget_s"], list(before["runs"]["nasopt"])) == (60.0, ["1"])
    bench_real.compare(["nasopt"], [1, 2], 60.0, 1, path, tmp_path / "second")
    out = capsys.readouterr().out
    assert f"{path} holds nasopt seed 1 already; not run, name another file with --out" in out
    assert "nasopt | seed 2 | 1 trainings" in out
    after = json.loads(path.read_text())["runs"]["nasopt"]
    assert after["1"] == before["runs"]["nasopt"]["1"]
    assert list(after) == ["1", "2"]
    with pytest.raises(SystemExit, match="nasopt 2 holds a study already; name another folder"):
        bench_real.compare(["nasopt"], [2], 60.0, 1, tmp_path / "new.json", tmp_path / "second")


@pytest.mark.parametrize(("words", "seconds"), [([], 720), (["12m"], 720), (["720"], 720)])
def test_the_budget_is_a_duration_and_the_published_file_is_left_alone(
    monkeypatch, words, seconds
):
    asked = []
    monkeypatch.setattr(bench_real, "compare", lambda *args: asked.append(args))
    monkeypatch.setattr(sys, "argv", ["bench_real.py", *(["--budget", *words] if words else [])])
    bench_real.main()
    (_, _, budget, _, path, _) = asked[0]
    assert isinstance(budget, float)
    assert budget == seconds
    assert path.relative_to(bench_real.STUDIES).parts == ("runs", "bench-real.json")


def test_a_budget_that_is_no_duration_is_explained(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_real.py", "--budget", "soon"])
    with pytest.raises(SystemExit):
        bench_real.main()
    assert "'soon' is not a duration above zero" in capsys.readouterr().err


def test_the_study_that_is_benched_has_the_lines_to_change():
    text = bench_real.STUDY_FILE.read_text()
    for line in (*bench_real.PLAIN_NSGA2, "seed = 1"):
        assert text.count(f"\n{line}") == 1


def test_the_figure_of_a_front_lies_beside_its_file(tmp_path):
    assert make_front.figure_folder(tmp_path / "front.json") == tmp_path
    assert make_front.figure_folder(make_front.PUBLISHED) == make_front.FIGURES


# Pictures and the driver's bench


def test_a_drawing_is_xml_that_names_every_method():
    runs = {"a < b": [[1, 2, 3], [2, 3, 4]], "short": [[1.0, 1.5]]}
    panel = bench_plot.Panel("title", "seconds", [10, 20, 30], runs)
    drawing = ET.fromstring(bench_plot.draw_lines([panel, panel], "All"))
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert {"a < b", "short", "All", "seconds"} <= set(texts)


def test_the_driver_is_timed_on_the_study_that_was_filled(plan, tmp_path):
    database = tmp_path / "study.db"
    plan = replace(plan, stop_confidence=0.95)
    bench_driver.fill(database, plan, 60, attributes=True)
    records = read_database(database, plan.space)
    assert len(records) == 60
    assert all(r.state == "complete" and r.evaluation is not None for r in records)
    copies = [bench_driver.copy_of(database, tmp_path / f"{name}.db") for name in "ab"]
    ours = bench_driver.Contender(partial(bench_driver.open_ours, copies[0], plan))
    ours.take_turn(2)
    ours.take_turn(3)
    ours.close()
    assert min(ours.timing().to_json().values()) > 0
    with ExitStack() as stack:
        run = bench_driver.open_stock(copies[1], plan, stack, wal=True, attributes=False)
        run(bench_driver.N_WARM_UP + 5)
    for copy in copies:
        n_trials = len(open_study(plan, copy, create=False).trials)
        assert n_trials == 60 + bench_driver.N_WARM_UP + 5
    # The host may change its speed between the rounds, for both.
    timing = bench_driver.Timing((1, 1), (1, 1), ((1, 1), (2, 4), (1, 1)))
    other = bench_driver.Timing((1, 1), (1, 1), ((4, 5), (8, 20), (1, 5)))
    assert timing.share_of(other) == (0.25, 0.2)
