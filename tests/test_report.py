import re

import pytest

from nasopt.genome import ImageShape
from nasopt.records import Race, SeedResult, Verification
from nasopt.report import ReportInput, render_report, write_report
from nasopt.selection import SelectionRule, select_smallest
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
    selection = select_smallest(RECORDS, RULE, race, verify)
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


def test_the_report_needs_no_network(data):
    head_and_body = re.sub(r"<script[^>]*>.*?</script>", "", render_report(data), flags=re.DOTALL)
    assert "http" not in head_and_body
    assert "<script src" not in render_report(data)


@pytest.mark.browser
@pytest.mark.parametrize("chosen", [True, False])
def test_every_figure_draws_in_a_browser(data, tmp_path, page, chosen):
    if not chosen:
        data = ReportInput(
            "none",
            RECORDS[:5],
            select_smallest(RECORDS[:5], RULE, race, verify),
            data.image,
            10,
            data.facts,
        )
    path = tmp_path / "report.html"
    write_report(path, data)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    for name in ("front", "progress", "curves"):
        page.wait_for_selector(f"#figure-{name} .main-svg")
    assert page.locator("#figure-front .scatterlayer .trace").count() >= 2
    expected = "parameters" if chosen else "No network is chosen"
    assert expected in page.locator("#chosen").inner_text()
    n_layers = len(data.selection.chosen.candidate.genome.layers) if chosen else 0
    assert page.locator("#layers tr").count() == (n_layers + 6 if chosen else 0)
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_report_of_an_empty_study_is_a_report():
    empty = ReportInput(
        "empty", [], select_smallest([], RULE, race, verify), ImageShape(1, 28, 28), 10, {}
    )
    assert "No trial is complete yet" in render_report(empty)
