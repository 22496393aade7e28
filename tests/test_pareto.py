import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasopt.pareto import (
    crowding_distance,
    hypervolume,
    hypervolume_gains,
    is_non_dominated,
    non_dominated_ranks,
)

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=25)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(points)
def test_non_dominated_by_brute_force(losses):
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


@given(points)
def test_ranks_by_taking_one_front_away_after_another(losses):
    expected = np.full(len(losses), -1)
    rank = 0
    while (left := np.flatnonzero(expected < 0)).size:
        front = is_non_dominated([losses[i] for i in left])
        expected[left[front]] = rank
        rank += 1
    assert non_dominated_ranks(losses).tolist() == expected.tolist()


@given(points.filter(bool), st.integers(1, 5), st.integers(0, 9))
def test_ranks_and_crowding_do_not_depend_on_units(losses, factor, offset):
    scaled = np.array(losses) * factor + offset
    assert non_dominated_ranks(scaled).tolist() == non_dominated_ranks(losses).tolist()
    np.testing.assert_allclose(crowding_distance(scaled), crowding_distance(losses))


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=2, max_size=12, unique=True))
def test_crowding_by_looking_for_neighbours(losses):
    distance = crowding_distance(losses)
    for k in range(3):
        values = sorted(p[k] for p in losses)
        if len(set(values)) < len(values):
            return  # which of equal points is at the end is open
    for i, point in enumerate(losses):
        expected = 0.0
        for k in range(3):
            values = sorted(p[k] for p in losses)
            at = values.index(point[k])
            ends = at in (0, len(values) - 1)
            spread = values[-1] - values[0]
            expected += np.inf if ends else (values[at + 1] - values[at - 1]) / spread
        assert distance[i] == pytest.approx(expected)


def test_crowding_of_an_even_front():
    front = [(i, 4 - i) for i in range(5)]
    assert crowding_distance(front).tolist() == [np.inf, 1.0, 1.0, 1.0, np.inf]
    assert crowding_distance([]).tolist() == []
    assert crowding_distance([(1, 2)]).tolist() == [np.inf]


@given(points, points)
def test_gains_are_differences_of_hypervolume(losses, new):
    ref = (7, 6)
    before = hypervolume(losses, ref)
    expected = [hypervolume([*losses, point], ref) - before for point in new]
    assert hypervolume_gains(losses, new, ref).tolist() == expected


def test_ranks_and_gains_take_two_objectives():
    with pytest.raises(ValueError, match="ranks take 2 objectives"):
        non_dominated_ranks([(1.0, 2.0, 3.0)])
    with pytest.raises(ValueError, match="takes 2 objectives"):
        hypervolume_gains([(1.0, 2.0)], [(1.0, 2.0, 3.0)], (4.0, 4.0))


def test_a_point_at_infinity_is_dominated_by_what_is_better_only():
    assert is_non_dominated([[1, np.inf]]).all()
    assert is_non_dominated([[1, np.inf], [1, np.inf], [0, 3]]).tolist() == [False, False, True]
    assert is_non_dominated([[0.0, 1], [-0.0, 1]]).all()
