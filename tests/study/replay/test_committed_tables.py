"""The tables in reports/: they can be read, and the one on CamVid is drawn evenly and grows safely."""

import math
from collections import Counter

import pytest

from nasseg.study.replay.trained_table import read_table
from tests import ROOT
from tests.benchmarks.bench_camvid import BINS, FOLDER, HIGH, LOW, ROUNDS, append, rows_of, tasks, whole_rows

CAMVID = ROOT / FOLDER


@pytest.mark.parametrize("path", ["replay/small.csv", "camvid-bench/camvid.csv"])
def test_a_committed_table_can_be_replayed(path):
    table = read_table(ROOT / "reports" / path)
    table.require(table.steps, "a replay")
    assert len(table.seeds) == 1


def test_each_round_has_a_network_of_each_family_and_half_octave():
    networks = rows_of(CAMVID / "networks.csv")
    assert len({row["arch_id"] for row in networks}) == len(networks) == 6 * BINS * ROUNDS
    for begin in range(0, len(networks), 6 * BINS):
        cells = Counter(
            (row["family"], math.floor(BINS * math.log(int(row["macs"]) / LOW) / math.log(HIGH / LOW)))
            for row in networks[begin : begin + 6 * BINS]
        )
        assert len(cells) == 6 * BINS
    seeds = Counter(seed for _, seed in tasks(networks))
    assert seeds == {0: 300, 1: 60}


def test_rows_of_a_training_that_was_killed_are_cut_off(tmp_path):
    path = tmp_path / "trainings.csv"
    assert whole_rows(path, 2) == []
    for name in "ab":
        append(path, ["arch_id", "step"], [{"arch_id": name, "step": step} for step in (22, 66)])
    whole = path.read_text()
    for torn in ("c,22\n", "c,22\nc,6"):
        path.write_text(whole + torn)
        assert [row["arch_id"] for row in whole_rows(path, 2)] == ["a", "a", "b", "b"]
        assert path.read_text() == whole
