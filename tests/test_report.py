import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from nasopt.data import FASHION_MNIST_NAMES
from nasopt.errors import DataError
from nasopt.genome import ImageShape
from nasopt.pareto import hypervolume
from nasopt.records import Evaluation, Race, SeedResult, Verification
from nasopt.report import (
    ReportInput,
    paper_figures,
    read_baselines,
    render_report,
    write_report,
)
from nasopt.report.content import Inspection, WrongImage
from nasopt.report.savings import judge_savings
from nasopt.report.view import StudyView, mean_interval
from nasopt.selection import SelectionRule, select_network
from tests.conftest import make_record

RULE = SelectionRule(bar=0.75, margin=0.0, n_seeds=2, race_seeds=4)
GENOMES = ("RC 4 3 relu;RC 8 3 relu;FL swish;", "NC 2 2 gelu;RC 4 3 relu;RC 8 3 relu;FL tanh;")
RECORDS = [make_record(i, 900 + 40 * i, 0.6 + 0.01 * i, genome=GENOMES[i % 2]) for i in range(30)]


def race(network, _position):
    accuracies = (0.75 + network.n_params / 1e5, 0.76, 0.77, 0.765)
    return Race(network.number, network.candidate, network.n_params, accuracies)


def verify(record):
    seeds = tuple(
        SeedResult(i, i, 0.74 + 0.01 * i + record.n_params / 1e6, 0.78, 0.79, dead=False)
        for i in (1, 2)
    )
    return Verification(record.number, record.candidate, record.n_params, 0.75, seeds)


@pytest.fixture
def data():
    selection = select_network(RECORDS, RULE, race, verify)
    facts = {"command": "nasopt search <study> & more", "seed": "1"}
    return ReportInput("test <b>", RECORDS, selection, ImageShape(1, 28, 28), 10, facts)


def test_the_report_tells_the_choice_and_escapes_what_users_wrote(data):
    html = render_report(data)
    chosen = data.selection.chosen
    assert chosen is not None
    body = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert f"{chosen.n_params:,} parameters" in body
    assert str(chosen.candidate.genome) in body
    assert "test &lt;b&gt;" in body
    assert "nasopt search &lt;study&gt; &amp; more" in body
    for reason in data.selection.reasons:
        assert reason.replace("'", "&#39;") in body


def test_duplicates_are_counted_once_and_one_is_not_many(data):
    stopped = replace(RECORDS[3].evaluation, stopped=True)
    records = [
        *RECORDS[:3],
        replace(RECORDS[3], state="pruned", evaluation=stopped),
        replace(RECORDS[0], number=30, duplicate_of=0),
        replace(RECORDS[3], number=31, state="pruned", evaluation=stopped, duplicate_of=3),
    ]
    html = " ".join(render_report(replace(data, records=records)).split())
    assert "4 trials with an accuracy: 3 trained to the end, 1 that repeated one of these" in html
    assert "2 duplicates avoided, those of trainings that had been stopped early too" in html
    assert "1 training stopped early" in html


def test_savings_are_counted_in_seconds_of_training():
    whole = make_record(0, 900, 0.7, evaluation=Evaluation(0.7, 0.7, (0.5, 0.6, 0.7), False, 3.0))
    cut = Evaluation(0.3, 0.3, (0.3,), dead=False, duration_s=1.5, stopped=True)
    stopped = make_record(1, 910, 0.3, state="pruned", evaluation=cut)
    savings = judge_savings([whole, stopped, replace(whole, number=2, duplicate_of=0)])
    assert (savings.n_duplicates, savings.duplicates_s) == (1, 3.0)
    assert (savings.stopped_s, savings.trained_s) == (3.0, 4.5)


def test_the_hypervolume_at_the_end_is_that_of_the_front(data):
    losses = [(1 - r.val_accuracy, np.log10(r.n_params)) for r in RECORDS]
    drawn = paper_figures(data)["volume-trials"].data[0].y
    largest = max(size for _, size in losses)
    assert drawn[-1] == pytest.approx(hypervolume(losses, (0.9, largest)))


def test_the_title_of_named_trials_and_the_seeds_are_as_they_are_called(whole):
    rule = replace(RULE, trials=(1, 3))
    named = render_report(replace(whole, selection=replace(whole.selection, rule=rule)))
    assert "among trials 1, 3 (asked for by number), above 75.0%</h1>" in named
    first = whole.selection.verification.first_passed
    assert f"The weights are those of its seed {first.replicate}," in named
    assert (
        f'<td class="number">{first.replicate}</td><td class="number">{first.seed}</td>' in named
    )


def test_the_figure_of_the_front_holds_what_did_badly_in_its_race(data):
    def race_badly(network, _position):
        return Race(network.number, network.candidate, network.n_params, (0.2, 0.3, 0.3, 0.3))

    selection = select_network(RECORDS, RULE, race_badly, verify)
    bad = replace(data, selection=selection)
    lowest, _ = paper_figures(bad)["front"].layout.yaxis.range
    assert lowest < 27.5
    assert paper_figures(data)["front"].layout.yaxis.range[0] > 50


def test_long_curves_have_few_ticks(data):
    curve = tuple(0.5 + i / 1000 for i in range(100))
    records = [replace(r, evaluation=replace(r.evaluation, curve=curve)) for r in RECORDS]
    assert paper_figures(data)["curves"].layout.xaxis.dtick == 1
    assert paper_figures(replace(data, records=records))["curves"].layout.xaxis.dtick == 6


def test_a_network_without_mistakes_has_no_list_of_them(whole):
    right = tuple(tuple(100 if i == j else 0 for j in range(10)) for i in range(10))
    assert "Most frequent mistakes" in render_report(whole)
    inspection = replace(whole.inspection, confusion=right, wrong=())
    html = render_report(replace(whole, inspection=inspection))
    assert "Most frequent mistakes" not in html
    single = ((99, 1, *[0] * 8), *right[1:])
    html = render_report(replace(whole, inspection=replace(inspection, confusion=single)))
    assert "taken for Trouser: 1 image<" in html


@pytest.fixture
def whole(data):
    """The report with all that it can hold."""
    pixels = np.arange(784, dtype=np.uint8).reshape(28, 28)
    wrong = tuple(WrongImage(i, 1, 2, 0.9, 0.01, pixels) for i in range(3))
    confusion = tuple(tuple(97 if i == j else i % 2 for j in range(10)) for i in range(10))
    inspection = Inspection(FASHION_MNIST_NAMES, confusion, wrong, seed=11)
    return replace(data, inspection=inspection, importances={"lr": 0.7, "depth": 0.3})


def test_the_report_needs_no_network(whole):
    html = render_report(whole)
    page = re.sub(r"<script[^>]*>.*?</script>", "", html, flags=re.DOTALL)
    assert set(re.findall(r"https?://[^\"'<> ]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "<script src" not in html


def test_mistakes_are_shown_with_their_classes_in_words(whole):
    html = render_report(whole)
    page = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert page.count('src="data:image/png;base64,') == 3
    assert whole.inspection.n_wrong == sum(map(sum, whole.inspection.confusion)) - 970
    assert re.search(
        r'alt="Test image 0: [Tt]rouser[^"]*, taken for [Pp]ullover[^"]* at 90.0', html
    )


BASELINES = {"runs": {"random": {"1": [[60, 900, 0.5], [30, 1200, 0.76]], "2": [[90, 950, 0.77]]}}}


def test_other_searches_are_drawn_beside_the_study(data, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(BASELINES | {"budget_s": 90}))
    figures = paper_figures(replace(data, baselines=read_baselines(path)))
    study, first, second = figures["smallest-time"].data
    assert study.y == paper_figures(data)["smallest-time"].data[0].y
    assert (first.name, first.showlegend, second.showlegend) == ("random", True, False)
    assert [y for y in first.y if y is not None] == [1200, 1200]
    assert max(first.x) == 1.0
    assert max(second.x) == 1.5
    assert len(figures["volume-time"].data) == 3
    assert len(figures["volume-trials"].data) == 1  # their trials are not counted as a study's are
    assert "other searches, a line a run: random" in render_report(
        replace(data, baselines=read_baselines(path))
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"runs": [1]}',
        '{"runs": {"a": {"1": [[1, 2]]}}}',
        '{"runs": {"a": {"1": [[1, 2, 76]]}}}',
        '{"runs": {"a": {"1": [[1, Infinity, 0.7]]}}}',
    ],
)
def test_what_holds_no_baselines_is_refused(tmp_path, text):
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(DataError, match="holds no baselines"):
        read_baselines(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_baselines(tmp_path / "absent.json")


def open_report(page, tmp_path, data):
    path = tmp_path / "report.html"
    write_report(path, data)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    for name in paper_figures(data):
        page.wait_for_selector(f"#figure-{name} .main-svg", state="attached")
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.browser
@pytest.mark.parametrize("chosen", [True, False])
def test_every_figure_draws_in_a_browser(whole, tmp_path, page, chosen):
    if not chosen:
        few = RECORDS[:5]
        selection = select_network(few, RULE, race, verify)
        whole = replace(whole, records=few, selection=selection, inspection=None)
    open_report(page, tmp_path, whole)
    expected = {"front", "volume-trials", "volume-time", "smallest-trials", "curves", "importance"}
    assert expected <= set(paper_figures(whole))
    assert ("seeds" in paper_figures(whole)) == chosen
    assert page.locator("#figure-front .scatterlayer .trace").count() >= 2
    text = "parameters" if chosen else "No network is chosen"
    assert text in page.locator("#chosen").inner_text()
    n_layers = len(whole.selection.chosen.candidate.genome.layers) if chosen else 0
    assert page.locator("#layers tr").count() == (n_layers + 6 if chosen else 0)


@pytest.mark.browser
def test_the_report_fits_a_phone(whole, tmp_path, page):
    page.set_viewport_size({"width": 375, "height": 800})
    open_report(page, tmp_path, whole)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.browser
def test_the_report_is_dark_in_the_dark_and_white_on_paper(whole, tmp_path, page):
    def background():
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [int(part) for part in re.findall(r"\d+", color)[:3]]

    page.emulate_media(color_scheme="dark")
    open_report(page, tmp_path, whole)
    assert max(background()) < 60
    page.emulate_media(media="print", color_scheme="dark")
    assert background() == [255, 255, 255]


@pytest.mark.browser
def test_pictures_and_figures_say_what_they_show(whole, tmp_path, page):
    open_report(page, tmp_path, whole)
    for picture in page.locator("img").all():
        assert len(picture.get_attribute("alt")) > 10
    assert page.locator("svg[role=img] > title").count() >= 1
    for name in paper_figures(whole):
        around = page.locator(f"#figure-{name}").locator("xpath=ancestor::*[@data-alt][1]")
        assert len(around.get_attribute("aria-label")) > 20, name
    levels = [int(h.evaluate("e => e.tagName[1]")) for h in page.locator("h1,h2,h3").all()]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_intervals_are_students_and_need_three_seeds():
    accuracies = [0.75, 0.76, 0.78]
    interval = scipy.stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert mean_interval(accuracies) == pytest.approx((interval.low, interval.high))
    assert mean_interval(accuracies[:2]) == (0.755, 0.755)
    assert mean_interval([0.75], 0.01) == pytest.approx((0.75 - 0.0196, 0.75 + 0.0196), abs=1e-5)


def test_a_single_training_on_the_front_has_the_usual_spread():
    noisy = [
        make_record(3 * n + i, 1000 + n, a, candidate=make_record(n, 1, 1).candidate, replicate=i)
        for n, runs in enumerate([(0.70, 0.72, 0.74), (0.70, 0.73, 0.76), (0.1, 0.74, 0.75)])
        for i, a in enumerate(runs)
    ]
    single = make_record(9, 900, 0.8)
    view = StudyView([*noisy, single], (), (), None, 0.75, 10)
    (point,) = view.front()
    assert (point.low, point.high) == pytest.approx(
        (0.8 - 1.96 * 0.03, 0.8 + 1.96 * 0.03), abs=1e-4
    )
    (alone,) = StudyView([*noisy[:3], single], (), (), None, 0.75, 10).front()
    assert alone.low == alone.high


def test_a_report_of_an_empty_study_is_a_report():
    empty = ReportInput(
        "empty", [], select_network([], RULE, race, verify), ImageShape(1, 28, 28), 10, {}
    )
    assert "No trial is complete yet" in render_report(empty)
