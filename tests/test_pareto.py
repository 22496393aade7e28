import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt.pareto import hypervolume, is_non_dominated

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=25)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(points)
def test_non_dominated_by_brute_force(losses):
    expected = [not any(dominates(other, point) for other in losses) for point in losses]
    assert is_non_dominated(losses).tolist() == expected


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=20))
def test_non_dominated_in_three_objectives(losses):
    expected = [not any(dominates(other, point) for other in losses) for point in losses]
    assert is_non_dominated(losses).tolist() == expected


@given(points)
def test_hypervolume_by_counting_unit_squares(losses):
    ref = (7, 6)
    covered = {(x, y) for a, b in losses for x in range(a, ref[0]) for y in range(b, ref[1])}
    assert hypervolume(losses, ref) == len(covered)


@given(points.filter(bool), st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_hypervolume_grows_unless_the_new_point_is_dominated(losses, new):
    before, after = hypervolume(losses, (9, 9)), hypervolume([*losses, new], (9, 9))
    is_new = not any(dominates(p, new) or p == new for p in losses)
    assert after > before if is_new else after == before


def test_hypervolume_agrees_with_moocore():
    rng = np.random.default_rng(0)
    for _ in range(20):
        losses = rng.random((30, 2))
        expected = moocore.hypervolume(losses, ref=[0.9, 0.8])
        assert hypervolume(losses, (0.9, 0.8)) == pytest.approx(expected, rel=1e-12)


def test_bad_arrays_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        is_non_dominated([(1.0, float("nan"))])
    with pytest.raises(ValueError, match=r"shape \(n, m\)"):
        is_non_dominated([1.0, 2.0])
    with pytest.raises(ValueError, match="takes 2 objectives"):
        hypervolume([(1.0, 2.0, 3.0)], (4.0, 4.0, 4.0))
