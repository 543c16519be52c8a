"""Rungs: what reached them, and how well they rank, in studies written by hand."""

from dataclasses import replace

import pytest

from nasseg.analyse.early_figures import rank_correlation
from nasseg.analyse.rungs import rung_lines, rungs_frame
from tests.analyse.networks import study
from tests.analyse.test_compute_spent import HALVING, STOP, trained


def test_rungs_count_networks_once_and_seconds_from_the_rung_before() -> None:
    frame = rungs_frame(HALVING)
    assert frame[["rung", "steps", "reached", "stopped", "promoted", "seconds", "pairs"]].to_dict("list") == {
        "rung": [0, 1, 2],
        "steps": [100, 300, 900],
        "reached": [3, 1, 1],
        "stopped": [1, 0, 0],
        "promoted": [2, 1, 0],
        "seconds": [30.0, 21.0, 68.0],
        "pairs": [1, 1, 0],
    }
    assert rungs_frame(replace(HALVING, trials=HALVING.trials[4:6])).empty


def two_rungs(early: list[float], final: list[float]):
    """Networks trained to step 100, of which those with a final value went on to the end."""
    stopped = [trained(n, 0, 100, 10.0, miou, extra=STOP) for n, miou in enumerate(early)]
    ends = [trained(0, 1, 900, 90.0, miou, extra={"continues": n}) for n, miou in enumerate(final)]
    return study([*stopped, *(replace(trial, number=len(early) + n) for n, trial in enumerate(ends))])


def test_tau_of_a_rung_is_of_those_trained_to_the_end() -> None:
    early, final = [1.0, 2, 3, 4, 5, 6, 7, 8, 0, 0], [11.0, 12, 14, 13, 15, 16, 17, 18]
    frame = rungs_frame(two_rungs(early, final))
    assert list(frame["pairs"]) == [8, 0]
    assert frame["tau"][0] == pytest.approx(26 / 28)  # one of 28 pairs is turned around
    assert frame["low"][0] < frame["tau"][0] < frame["high"][0] <= 1
    assert frame["tau"].isna()[1]
    (line,) = rung_lines(two_rungs(early, final))
    assert line.startswith("rung 0 (step 100) agrees with the final ranking with Kendall's tau 0.93 (")
    assert "badly" not in line
    assert rung_lines(two_rungs(early, final[:7])) == []  # too few to say


def test_a_rung_that_ranks_badly_is_called_so() -> None:
    final = [float(n) for n in range(20)]
    (line,) = rung_lines(two_rungs(final[::-1], final))
    assert "it ranks badly; give halving a share" in line


def test_a_column_that_does_not_vary_ranks_nothing() -> None:
    tau, low, high = rank_correlation([1.0] * 9, range(9))
    assert tau == 0
    assert low == -high
