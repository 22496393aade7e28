import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt.wording import format_share, number_of


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.75, "75.0%"),
        (0.7525, "75.25%"),
        (0.755, "75.5%"),
        (0.0, "0.0%"),
        (1.0, "100.0%"),
        (1 / 3, "33.3333%"),
        (0.75 - 0.01, "74.0%"),
    ],
)
def test_a_share_has_the_decimals_that_it_needs(share, text):
    assert format_share(share) == text


@given(st.integers(0, 1_000_000))
def test_a_share_of_four_decimals_of_a_percent_is_written_in_full(millionths):
    assert float(format_share(millionths / 1e6)[:-1]) == pytest.approx(millionths / 1e4)


def test_one_is_not_many():
    assert [number_of(n, "training") for n in (0, 1, 2000)] == [
        "0 trainings",
        "1 training",
        "2,000 trainings",
    ]
