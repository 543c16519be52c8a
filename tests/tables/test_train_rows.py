"""Which rows are trained, with which seeds, and how often they are evaluated."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from nasseg.data import scenes
from nasseg.data.dataset import DataSet
from nasseg.errors import UserError
from nasseg.network.label import label_folder
from nasseg.network.train import train_address
from nasseg.tables.fill import measured
from nasseg.tables.reproduce import given_data, table_data, table_hours, train_tables
from nasseg.tables.table_file import load_table
from nasseg.tables.table_store import known_trainings, trained
from nasseg.tables.train_rows import TableTraining, rows_trained
from nasseg.train.run import stored_result
from nasseg.train.weights import weights_hash
from tests.tables.two_rows import table, training


def test_figure_7_asks_segmentation_networks(data: DataSet) -> None:
    found = TableTraining(load_table("stdc/figure-7"), training(data), None)
    assert [arch.params()["form"] for arch in found.networks.values()] == ["segmentation"] * 5
    assert [arch.params()["blocks"] for arch in found.networks.values()] == [2, 3, 4, 5, 6]


@pytest.mark.slow
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


SHORT = {"steps": 2, "batch_size": 2}
MORE_DATA = """
paper: regseg
table: Table 9
title: t
question: q
expected: e
recipe: {name: regseg-cityscapes-ablation, scale_range: [1.0, 1.0]}
pretraining_recipe: regseg-cityscapes
columns:
  miou: {label: mIoU, unit: "%", accuracy: miou, data: CamVid, split: val}
rows:
  - {name: plain, variant: regseg, set: &tiny {width: 0.25, dilations: "(1,1)"}, printed: {miou: "73.0"}}
  - {name: before, variant: regseg, set: *tiny, pretraining: [Cityscapes], printed: {miou: "75.0"}}
  - {name: pseudo, variant: regseg, set: *tiny, self_training: [coarse], recipe: {pseudo: 0.5}, printed: {miou: "76.0"}}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_row_is_pretrained_where_its_data_are_given(data: DataSet) -> None:
    """It starts from weights of other classes, all but the head's; its figure is the row's; both are trained once."""
    Path("studies/mine/table-9.yaml").write_text(MORE_DATA)
    chosen, other = load_table("mine/table-9"), table_data("scenes", {"size": [32, 32], "train": 2, "val": 2})
    (dry,) = table_hours([chosen], training(data, seeds=1, pretraining={"Cityscapes": other}), None)
    assert (dry.runs, dry.left) == (2, 2)
    told: list[str] = []
    asked = training(data, seeds=1, pretraining={"Cityscapes": other})
    (done,), stopped = train_tables([chosen], asked, tell=told.append)
    assert not stopped
    plain, before = done.runs
    assert before.before is not None
    assert before.before.run.recipe.steps == 4  # twice the table's in print, too
    assert before.key != plain.key
    first = Path("runs/tables") / before.before.key
    assert any(str(first) in line for line in told)
    assert any("tensors matched, 0 skipped" in line for line in told)
    stored = [m.accuracy.protocol.init for _, _, m, _ in trained(done.record) if m.accuracy]
    assert stored == ["", weights_hash(first / "last.pt")]
    found = measured(chosen, record=done.record)
    cells = {row: found.cell(row, "miou") for row in found.rows}
    assert [cell.ours is None for cell in cells.values() if cell] == [False, False, True]
    again: list[str] = []
    train_tables([chosen], asked, tell=again.append)
    assert len(again) == 1  # the study's name alone


def test_a_row_learns_from_pseudo_labels_where_they_are_given(data: DataSet, here: None) -> None:
    Path("studies/mine/table-9.yaml").write_text(MORE_DATA)
    more = replace(data, fingerprint="with pseudo-labels")
    found = TableTraining(load_table("mine/table-9"), training(data, seeds=1, self_training={"coarse": more}), None)
    assert [(one.row.name, one.run.data) for one in found.runs] == [("plain", data), ("pseudo", more)]
    assert found.identity["rows"]["pseudo"][2:] == ["", "with pseudo-labels"]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_row_trains_on_pseudo_labels(tmp_path: Path) -> None:
    """As `reproduce --extra coarse=FOLDER` does it, with labels by a teacher that was trained here."""
    size = {"size": [32, 64], "train": 4, "val": 2}
    tiny = {"width": 0.25, "dilations": "(1,1)"}
    teacher = train_address("regseg", data="scenes", data_options=size, recipe=SHORT, overrides=tiny).runs[0].folder
    (tmp_path / "more").mkdir()
    for number in range(3):
        Image.fromarray(scenes.render(100 + number, (32, 64))[0]).save(tmp_path / f"more/{number}.png")
    label_folder(teacher, tmp_path / "more", tmp_path / "pseudo", scales=(1.0,), confidence=0.0)
    Path("studies/mine/table-9.yaml").write_text(MORE_DATA)
    chosen = load_table("mine/table-9")
    given = given_data([chosen], "scenes", size, {"coarse": str(tmp_path / "pseudo")})
    (done,), stopped = train_tables([chosen], training(**given, seeds=1))
    assert not stopped
    plain, pseudo = done.runs
    assert (plain.run.data.counts.get("pseudo"), pseudo.run.data.counts["pseudo"]) == (None, 3)
    kept = {row: m.accuracy.protocol for row, _, m, _ in trained(done.record) if m.accuracy}
    assert kept["pseudo"].data_fingerprint == given["self_training"]["coarse"].fingerprint
    assert kept["pseudo"].recipe_hash != kept["plain"].recipe_hash
    assert stored_result(Path("runs/tables") / pseudo.key).recipe["pseudo"] == 0.5
    found = measured(chosen, record=done.record)
    assert [found.cell(row, "miou").ours is None for row in ("plain", "before", "pseudo")] == [False, True, False]


def test_a_storage_of_something_else_keeps_no_table_from_training(here: None) -> None:
    """All storages below runs/ are looked through, for tables that were read by path."""
    place = Path("runs/other/study.db")
    place.parent.mkdir(parents=True)
    place.write_text("no database")
    assert known_trainings(None) == {}


def test_data_that_no_row_asks_for(here: None) -> None:
    with pytest.raises(UserError, match=r"needs? \(--extra\) 'Citiscapes': did you mean 'Cityscapes'"):
        given_data([load_table("regseg/table-8")], "scenes", None, {"Citiscapes": "scenes"})
    small = {"size": [32, 64], "train": 2, "val": 1}
    given = given_data([load_table("regseg/table-8")], "scenes", small, {"Cityscapes": "scenes"})
    assert (given["data"].counts["train"], list(given["pretraining"])) == (2, ["Cityscapes"])
    assert given["self_training"] == {}


OWN_ROW = """
base: mine/table-0
rows:
  - {name: own, variant: "mine.py:Mine", set: {width: 0.25, dilations: "(1,1)"}, printed: {miou: "70.0"}}
"""


@pytest.mark.usefixtures("here")
def test_code_of_ones_own_that_changes_is_another_training(data: DataSet) -> None:
    """Even where the network stays the same: it may train otherwise."""
    code = Path("mine.py")
    code.write_text("from nasseg.families.regseg import RegSegArch\n\nclass Mine(RegSegArch):\n    pass\n")
    Path("studies/mine/table-2.yaml").write_text(OWN_ROW)

    def planned() -> TableTraining:
        return TableTraining(load_table("mine/table-2"), training(data, seeds=1), None)

    before = planned()
    assert set(before.identity["own code"]) == {"mine.py:Mine"}
    assert "own code" not in TableTraining(table(), training(data, seeds=1), None).identity
    code.write_text(code.read_text() + "# changed\n")
    after = planned()
    same, other = zip(before.runs[:2], after.runs[:2], strict=True), (before.runs[2], after.runs[2])
    assert all(one.key == two.key for one, two in same)
    assert other[0].run.arch.id == other[1].run.arch.id
    assert other[0].key != other[1].key
    assert before.identity != after.identity
