import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt.candidates import pareto_front
from nasopt.genome import Genome
from nasopt.records import SeedResult, Verification, trial_seed
from tests.conftest import make_record

SMALL = Genome.parse("RC 1 1 relu;RC 1 1 relu;FL relu")
OTHER = Genome.parse("RC 1 1 relu;RC 1 1 relu;FL tanh")


def test_seeds_are_fixed_for_ever():
    # Changing these changes every study: the numbers were written down when the rule was made.
    assert trial_seed(1, SMALL) == 1509274759
    assert trial_seed(1, SMALL, 1) == 2704478250


def test_seeds_differ_by_study_genome_replicate_and_purpose():
    seeds = {trial_seed(s, g, r) for s in range(5) for g in (SMALL, OTHER) for r in range(5)}
    assert len(seeds) == 50
    purposes = ("search", "race", "final")
    assert len({trial_seed(1, SMALL, r, p) for r in range(60) for p in purposes}) == 180


@given(st.lists(st.tuples(st.integers(800, 820), st.integers(0, 20)), max_size=20))
def test_the_front_is_what_no_other_dominates(points):
    records = [make_record(i, size, acc / 20) for i, (size, acc) in enumerate(points)]
    front = pareto_front(records)
    for r in records:
        beaten = any(
            o.n_params <= r.n_params
            and o.val_accuracy >= r.val_accuracy
            and (o.n_params, o.val_accuracy) != (r.n_params, r.val_accuracy)
            for o in records
        )
        on_front = any((f.n_params, f.val_accuracy) == (r.n_params, r.val_accuracy) for f in front)
        assert on_front == (not beaten)
    assert [f.n_params for f in front] == sorted({f.n_params for f in front})


def test_a_trial_without_an_evaluation_has_no_accuracy_and_is_on_no_front():
    failed = make_record(
        3, 900, 0.5, evaluation=None, state="failed", reason="the loss became nan"
    )
    assert pareto_front([failed]) == []
    with pytest.raises(ValueError, match="trial 3 has no accuracy: it is failed"):
        _ = failed.val_accuracy
    assert failed.to_json()["val_accuracy"] is None


def test_records_are_json():
    text = json.dumps(make_record(1, 800, 0.5).to_json())
    assert json.loads(text)["genome"] == "RC 1 1 relu;RC 1 1 relu;FL relu;"
    assert json.loads(text)["curve"] == [0.5]


def test_a_verification_counts_its_seeds():
    seeds = tuple(SeedResult(i, i, a, a, a, dead=False) for i, a in enumerate((0.74, 0.76, 0.78)))
    verification = Verification(1, make_record(1, 800, 0.8).candidate, 800, 0.75, seeds)
    assert verification.mean == pytest.approx(0.76)
    assert verification.sd == pytest.approx(0.02)
    assert verification.n_passed == 2
    assert verification.pass_rate == pytest.approx(2 / 3)
    assert verification.to_json()["seeds"][0]["test_accuracy"] == 0.74
