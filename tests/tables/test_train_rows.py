"""Which rows are trained, with which seeds, and how often they are evaluated."""

import pytest

from nasseg.data.dataset import DataSet
from nasseg.tables.table_file import load_table
from nasseg.tables.train_rows import TableTraining, rows_trained
from tests.tables.two_rows import training


def test_figure_7_asks_segmentation_networks(data: DataSet) -> None:
    found = TableTraining(load_table("stdc/figure-7"), training(data), None)
    assert [arch.params()["form"] for arch in found.networks.values()] == ["segmentation"] * 5
    assert [arch.params()["blocks"] for arch in found.networks.values()] == [2, 3, 4, 5, 6]


def test_evaluations_take_a_tenth_of_a_training_at_most_but_there_is_one(data: DataSet) -> None:
    runs = [
        TableTraining(load_table("dabnet/table-2b"), training(data, steps=n), None).runs[0] for n in range(1, 99, 4)
    ]
    evaluations = [one.run.evaluations for one in runs]
    assert evaluations == sorted(evaluations)
    assert {*evaluations} == {1, 2, 3, 4}
    assert all(one.evaluation <= 0.1 * one.work for one in runs if one.run.evaluations > 1)
    assert runs[-1].evaluation == pytest.approx(4 * runs[0].evaluation)


def test_rows_that_are_runs_of_one_network_have_a_seed_each(data: DataSet) -> None:
    found = TableTraining(load_table("regseg/table-3"), training(data, seeds=3), None)
    assert [planned.seed for planned in found.runs] == [0, 1, 2, 3]


def test_rows_that_need_more_data_are_not_trained() -> None:
    names = [row.name for row in rows_trained(load_table("eseg/table-7"))]
    assert names == ["Baseline, S", "Baseline, M", "Baseline, L"]
