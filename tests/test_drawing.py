"""Drawings are well-formed SVG that names every layer, by sight and for screen readers."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from nasopt.cost import count_cost
from nasopt.drawing import draw_card, draw_network
from nasopt.drawing.network import in_words
from nasopt.errors import GenomeError
from nasopt.genome import Genome, ImageShape
from nasopt.records import Evaluation
from tests.conftest import make_record
from tests.strategies import genomes

IMAGE = ImageShape(1, 28, 28)
SVG = "{http://www.w3.org/2000/svg}"
GENOME = "NC 16 5 sigmoid;RC 2 2 swish;NC 1 1 relu;RC 4 4 gelu;FL swish;"


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def card(**changes):
    values = {"genome": GENOME, "n_params": 1587, "accuracy": 0.78} | changes
    return draw_card(make_record(12, **values), IMAGE, 10, 0.75)


@given(genomes())
def test_any_network_is_drawn_with_every_layer_named(genome):
    cost = count_cost(genome, IMAGE, 10)
    root = ET.fromstring(draw_network(genome, IMAGE, 10))
    shown = texts(root)
    assert [t for t in shown if t.startswith(("NC", "RC"))] == [in_words(x) for x in genome.layers]
    titles = [e.text for e in root.iter(f"{SVG}title")][1:]
    assert titles == ["input", *(row.name for row in cost.layers)]
    for row in cost.layers[: len(genome.layers)]:
        assert any(t.startswith(f"{row.output} · {row.n_params:,} parameter") for t in shown)


def test_a_drawing_has_a_name_and_a_description_for_screen_readers():
    root = ET.fromstring(draw_network(Genome.parse(GENOME), IMAGE, 10, ident="pick"))
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text == f"Network with 1,587 parameters: {GENOME}"
    assert "NC 16 5 sigmoid, output 16x28x28, 416 parameters" in description.text
    assert title.get("id").startswith("pick")


def test_boxes_shrink_with_the_feature_map_and_grow_with_the_filters():
    root = ET.fromstring(draw_network(Genome.parse(GENOME), IMAGE, 10))
    piles = [
        list(g.iter(f"{SVG}rect"))
        for g in root.iter(f"{SVG}g")
        if g.find(f"{SVG}title") is not None
    ]
    sides = [float(pile[0].get("width")) for pile in piles[:5]]
    assert sides[0] == sides[1] > sides[2] == sides[3] > sides[4]
    assert len(piles[1]) > len(piles[4]) > len(piles[2]) > len(piles[3]) == 1


def test_everything_lies_within_the_picture():
    for svg in (draw_network(Genome.parse(GENOME), IMAGE, 10), card()):
        root = ET.fromstring(svg)
        width, height = map(float, root.get("viewBox").split()[2:])
        assert max(float(e.get("x")) for e in root.iter(f"{SVG}text")) <= width
        assert max(float(e.get("y")) for e in root.iter(f"{SVG}text")) <= height


def test_a_genome_that_does_not_fit_is_refused():
    with pytest.raises(GenomeError, match="exceeds its input"):
        draw_network(Genome.parse(GENOME), ImageShape(1, 4, 4), 10)


def test_a_card_holds_the_layer_table_and_the_curve():
    curve = (0.5, 0.7, 0.78)
    evaluation = Evaluation(0.78, 0.8, curve, dead=False, duration_s=1.0)
    root = ET.fromstring(card(evaluation=evaluation))
    shown = texts(root)
    cost = count_cost(Genome.parse(GENOME), IMAGE, 10)
    for row in cost.layers:
        assert {row.name, str(row.output), f"{row.n_params:,}", f"{row.macs:,}"} <= set(shown)
    assert f"{cost.n_params:,}" in shown
    assert len(list(root.iter(f"{SVG}circle"))) == len(curve)
    heights = [
        float(p.split(",")[1]) for p in root.find(f".//{SVG}polyline").get("points").split()
    ]
    assert heights == sorted(heights, reverse=True)
    assert any("78.00% in validation after 3 epochs" in t for t in shown)
    assert "bar 75.0%" in shown


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        (None, "Not trained: too large."),
        (
            Evaluation(0.4, 0.4, (0.4,), dead=False, duration_s=1.0, stopped=True),
            "Stopped after epoch 1, at 40.00% in validation.",
        ),
        (Evaluation(0.1, 0.1, (0.1,), dead=True, duration_s=1.0), "it is dead"),
    ],
)
def test_a_card_tells_how_the_training_ended(evaluation, expected):
    svg = card(evaluation=evaluation, reason="too large")
    assert expected in " ".join(texts(ET.fromstring(svg)))
    assert ("<polyline" in svg) == (evaluation is not None)


def test_a_card_tells_why_a_training_failed():
    shown = texts(ET.fromstring(card(evaluation=None, state="failed", reason="the loss is nan")))
    assert "Failed: the loss is nan." in " ".join(shown)
    long = (
        "the loss became nan (train) and inf (evaluation) in epoch 3 of "
        + GENOME
        + " with lr 0.1; try a smaller lr"
    )
    shown = texts(ET.fromstring(card(evaluation=None, state="failed", reason=long)))
    assert f"Failed: {long}." in " ".join(shown)
    assert max(map(len, shown)) <= 120  # what fits into a card


def test_a_card_is_legible_on_light_and_dark():
    svg = card()
    assert "prefers-color-scheme:dark" in svg
    assert re.search(r'<rect width="860"[^>]*fill:var\(--paper\)', svg)


def test_a_long_genome_is_wrapped():
    genome = "NC 10 3 sigmoid;" * 18 + "RC 10 3 sigmoid;RC 10 3 sigmoid;FL sigmoid;"
    root = ET.fromstring(draw_card(make_record(1, 900, 0.7, genome=genome), IMAGE, 10, 0.75))
    lines = [t for t in texts(root) if t.endswith(";")]
    assert "".join(lines) == genome
    assert max(map(len, lines)) <= 100 + 20
