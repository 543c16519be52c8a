"""Fronts and hypervolumes against shapes whose volume is known, and against slow definitions."""

import numpy as np
import pytest

from nasseg.analyse.front import (
    hypervolume,
    hypervolume_history,
    is_dominated,
    pareto_front,
    pareto_fronts,
    reference_box,
)
from nasseg.errors import UserError

MIN, MAX = "minimize", "maximize"


def slow_front(points: np.ndarray) -> list[bool]:
    """By the definition: nobody is at least as good everywhere and better somewhere."""
    return [not any((q <= p).all() and (q < p).any() for q in points) for p in points]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [3, 12, 10**6])
def test_front_is_the_definition_with_and_without_ties(m: int, levels: int) -> None:
    points = np.random.default_rng(m).integers(0, levels, (300, m)).astype(float)
    assert pareto_front(points, [MIN] * m).tolist() == slow_front(points)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_fronts_are_peeled_one_by_one(m: int) -> None:
    points = np.random.default_rng(m).integers(0, 9, (60, m)).astype(float)
    points[7, 0] = np.nan
    left = np.delete(np.arange(60), 7)
    for front in pareto_fronts(points, [MIN] * m):
        expected = slow_front(points[left])
        assert front.tolist() == left[expected].tolist()
        left = left[~np.array(expected)]
    assert not len(left)
    assert list(pareto_fronts(np.zeros((0, m)), [MIN] * m)) == []


def test_directions() -> None:
    # macs, miou: cheap and good, dear and good, cheap and bad, dear and better
    values = [[1.0, 70.0], [2.0, 70.0], [1.0, 60.0], [2.0, 75.0]]
    assert pareto_front(values, [MIN, MAX]).tolist() == [True, False, False, True]
    assert is_dominated(values, [MIN, MAX]).tolist() == [False, True, True, False]
    assert pareto_front(values, [MAX, MIN]).tolist() == [False, True, True, False]


def test_equal_rows_stand_or_fall_together() -> None:
    assert pareto_front([[1.0, 2.0], [1.0, 2.0], [2.0, 3.0], [2.0, 3.0]], [MIN, MIN]).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert pareto_front([[0.0, 1.0], [-0.0, 1.0]], [MIN, MIN]).all()


def test_nan_rows_are_neither_on_the_front_nor_dominated_and_dominate_nothing() -> None:
    values = [[np.nan, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, np.nan]]
    assert pareto_front(values, [MIN, MIN]).tolist() == [False, True, False, False]
    assert is_dominated(values, [MIN, MIN]).tolist() == [False, False, True, False]
    assert not pareto_front([[np.nan, 1.0]], [MIN, MIN]).any()


def test_infinite_values_are_only_very_good_or_very_bad() -> None:
    values = [[np.inf, 1.0], [1.0, 1.0], [-np.inf, 2.0]]
    assert pareto_front(values, [MIN, MIN]).tolist() == [False, True, True]


def test_no_rows() -> None:
    assert pareto_front(np.empty((0, 2)), [MIN, MIN]).shape == (0,)
    assert hypervolume(np.empty((0, 2)), [1.0, 1.0], [MIN, MIN]) == 0.0


@pytest.mark.parametrize("shape", ["cloud", "all on the front"])
def test_ten_thousand_rows_stay_exact(shape: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.random((10_000, 3))
    if shape == "all on the front":  # an octant of a sphere, seen from outside
        points = -points / np.linalg.norm(points, axis=1, keepdims=True)
    front = pareto_front(points, [MIN] * 3)
    kept = points[front]
    assert front.all() if shape != "cloud" else all((kept <= p).all(axis=1).any() for p in points[~front])


@pytest.mark.parametrize(("directions", "word"), [([MIN, "down"], "minimize"), ([MIN], r"\[n, 1\]")])
def test_bad_input_says_what_to_write(directions: list[str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        pareto_front([[1.0, 2.0]], directions)
    with pytest.raises(UserError, match="finite"):
        hypervolume([[1.0]], [np.inf], [MIN])


# Shapes whose volume is known: a box, a staircase (the sum of its steps) and a corner of cubes.
@pytest.mark.parametrize(
    ("values", "reference", "directions", "expected"),
    [
        ([[2.0]], [5.0], [MIN], 3.0),
        ([[3.0], [7.0]], [5.0], [MAX], 2.0),
        ([[1.0, 2.0]], [4.0, 4.0], [MIN, MIN], 6.0),
        ([[1.0, 70.0]], [4.0, 50.0], [MIN, MAX], 60.0),
        ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], [4.0, 4.0], [MIN, MIN], 3 + 2 + 1),
        ([[2.0, 2.0, 2.0]], [4.0, 5.0, 6.0], [MIN, MIN, MIN], 2 * 3 * 4),
        # the unit cube three times, along the axes from one corner: 2 + 1 + 1
        ([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [2.0, 2.0, 2.0], [MIN] * 3, 4.0),
        ([[1.0, 1.0, 1.0, 1.0]], [2.0, 3.0, 4.0, 5.0], [MIN] * 4, 24.0),
    ],
)
def test_hypervolume_of_known_shapes(values: list, reference: list, directions: list, expected: float) -> None:
    assert hypervolume(values, reference, directions) == pytest.approx(expected, rel=1e-12)


def test_long_staircase_is_the_sum_of_its_steps() -> None:
    n = 1000
    steps = np.arange(n)
    assert hypervolume(np.stack([steps, n - 1 - steps], axis=1), [n, n], [MIN, MIN]) == n * (n + 1) / 2


def test_what_contributes_nothing() -> None:
    front = [[1.0, 3.0], [3.0, 1.0]]
    more = [[1.0, 3.0], [2.9, 3.0], [4.0, 0.0], [0.0, 4.0], [9.0, 9.0], [np.nan, 0.0], [-np.inf, 0.0]]
    assert hypervolume(front + more, [4.0, 4.0], [MIN, MIN]) == hypervolume(front, [4.0, 4.0], [MIN, MIN]) == 5.0


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_against_monte_carlo(m: int) -> None:
    rng = np.random.default_rng(m)
    points = np.abs(rng.normal(size=(60, m)))
    points = 1.0 - 0.9 * points / np.linalg.norm(points, axis=1, keepdims=True)  # on a sphere about the reference
    samples = rng.random((200_000, m))
    inside = np.zeros(len(samples), dtype=bool)
    for point in points:
        inside |= (samples >= point).all(axis=1)
    # Standard deviation of the estimate is at most 0.5 / sqrt(200000) = 0.0011.
    assert hypervolume(points, [1.0] * m, [MIN] * m) == pytest.approx(inside.mean(), abs=0.0045)


def test_sphere_in_the_limit() -> None:
    angle = np.linspace(0, np.pi / 2, 20_001)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert hypervolume(points, [0.0, 0.0], [MAX, MAX]) == pytest.approx(np.pi / 4, abs=1e-4)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_history_is_the_hypervolume_of_every_beginning(m: int) -> None:
    rng = np.random.default_rng(m)
    values = rng.integers(0, 9, (40, m)).astype(float)
    values[5, 0] = np.nan
    directions, reference = [MIN, MAX, MAX, MIN][:m], [7.0, 1.0, 2.0, 8.0][:m]
    history = hypervolume_history(values, reference, directions)
    expected = [hypervolume(values[: i + 1], reference, directions) for i in range(len(values))]
    np.testing.assert_allclose(history, expected, rtol=1e-12)
    assert (np.diff(history) >= 0).all()


def test_reference_box_is_the_worst_widened_by_a_tenth() -> None:
    values = [[10.0, 60.0], [20.0, 80.0], [np.nan, 0.0]]
    box = reference_box(values, [MIN, MAX])
    assert box.reference.tolist() == [21.0, 58.0]
    assert box.ideal.tolist() == [10.0, 80.0]
    assert box.volume == 11.0 * 22.0
    # The ideal point alone would fill it.
    assert hypervolume([box.ideal], box.reference, [MIN, MAX]) == pytest.approx(box.volume)


def test_reference_box_of_an_objective_that_does_not_vary_is_no_plane() -> None:
    box = reference_box([[5.0, 0.0], [5.0, 0.0]], [MIN, MAX])
    assert box.reference.tolist() == [5.5, -0.1]
    with pytest.raises(UserError, match="finished trial"):
        reference_box([[np.nan]], [MIN])
