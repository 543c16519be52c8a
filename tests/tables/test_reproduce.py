"""The measured half of a table: trained, timed, reused, gone on with, and answered."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

from nasseg.data.dataset import DataSet
from nasseg.errors import UserError
from nasseg.files import parse_yaml
from nasseg.records import Measurement
from nasseg.study.store.read_study import read_study
from nasseg.tables import train_rows
from nasseg.tables.baseline import baseline
from nasseg.tables.fill import _as_printed, measured
from nasseg.tables.reproduce import _Timed, _times_of, table_data, table_hours, train_tables
from nasseg.tables.table_file import load_table, table_from
from nasseg.tables.table_store import accuracy_records, begin, early_miou
from nasseg.tables.train_rows import TableTraining
from nasseg.train import run, session
from nasseg.train.weights import save_weights
from tests.tables.two_rows import TWO_ROWS, table, training

pytestmark = pytest.mark.usefixtures("here")


def test_a_table_is_trained_and_answered(data: DataSet) -> None:
    lines: list[str] = []
    done, stopped = train_tables([table()], training(data), on_progress=lambda line, _mark: lines.append(line))
    assert not stopped
    (record,) = accuracy_records("mine/table-0", None)
    assert record.name == done[0].record.name
    trials = record.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    asked = [("wide", 0), ("narrow", 0), ("wide", 1), ("narrow", 1)]
    assert [(trial.params["row"], trial.params["seed"]) for trial in trials] == asked
    assert "mine/table-0, wide, seed 0: step 2 of 2" in " ".join(lines)
    assert ["left in total" in line for line in lines[:2]] == [False, True]

    comparison = measured(table())
    runs = [t.values[0] for t in trials if t.params["row"] == "wide"]
    cell = comparison.cell("wide", "miou")
    assert (cell.ours, cell.spread) == (pytest.approx(sum(runs) / 2), pytest.approx(abs(runs[0] - runs[1]) / 2**0.5))
    assert "scenes at 32 x 64" in cell.protocol
    assert cell.protocol.endswith(
        "2 steps of 2 images, recipe regseg-cityscapes-ablation adapted to this, cpu, 2 seeds"
    )
    assert comparison.cell("wide", "bus").reason == "needs data with the class bus"
    assert comparison.cell("wide", "test").verdict == "measured"
    assert comparison.cell("wide", "test").ours == pytest.approx(
        sum(t.user_attrs["test_miou"] for t in trials if t.params["row"] == "wide") / 2
    )
    assert (comparison.cell("other", "miou").verdict, comparison.cell("wide", "ms").reason) == ("cited", "needs a GPU")
    assert comparison.cell("wide", "more").reason == "needs Cityscapes and Vistas"
    assert [one.quantity for one in comparison.answers] == [
        "mIoU (scenes, 2 of 185,938 steps)",
        "test mIoU (scenes, 2 of 185,938 steps)",
    ]
    assert comparison.answers[1].repeats == 2
    assert comparison.verdict == "untrained"
    assert comparison.answers[0].baseline == pytest.approx(baseline(data)["val"]["miou"])
    assert comparison.answers[1].baseline == pytest.approx(baseline(data, ("test",))["test"]["miou"])
    assert cell.difference is None  # two steps on scenes less the paper's on Cityscapes
    assert comparison.conclusion.startswith(
        "mIoU (scenes, 2 of 185,938 steps): not trained far enough to tell, because 2 of 2 rows are not above "
    )  # the cited row stands beside
    # Other verbs read it as any study.
    assert [objective.name for objective in read_study(record.name).objectives] == ["miou"]


@pytest.mark.slow
def test_tau_is_shown_along_the_trainings(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_rows, "EVALUATING", 1e9)
    train_tables([table()], training(data, steps=4, seeds=1))
    (record,) = accuracy_records("mine/table-0", None)
    early = early_miou(record)
    assert sorted(early) == [25, 50, 75]
    assert {row: set(seeds) for row, seeds in early[25].items()} == {"wide": {0}, "narrow": {0}}
    answers = measured(table()).answers
    for found in answers:
        signs = {at: early[at]["wide"][0] - early[at]["narrow"][0] for at in early}
        assert found.early == tuple((at, (sign > 0) - (sign < 0)) for at, sign in sorted(signs.items()) if sign)
    assert any(found.early for found in answers)


@pytest.mark.slow
def test_a_difference_is_of_the_same_data_size_and_steps(data: DataSet) -> None:
    loaded = table()
    train_tables([loaded], training(data, seeds=1))
    (record,) = accuracy_records("mine/table-0", None)
    measurement = Measurement.from_json(record.trials()[0].user_attrs["measurement"])
    column = loaded.file.columns["miou"]
    steps = loaded.file.training(loaded.file.rows[0]).steps
    protocol = replace(measurement.accuracy.protocol, data="cityscapes", steps=steps)
    cost = replace(measurement.cost, protocol=replace(measurement.cost.protocol, input_size=column.size))
    as_printed = replace(measurement, cost=cost, accuracy=replace(measurement.accuracy, protocol=protocol))
    assert _as_printed(loaded, "wide", column, as_printed)
    assert not _as_printed(loaded, "wide", column, replace(as_printed, cost=measurement.cost))
    for change in ({"data": "scenes"}, {"steps": 2}):
        other = replace(as_printed.accuracy, protocol=replace(protocol, **change))
        assert not _as_printed(loaded, "wide", column, replace(as_printed, accuracy=other))


def test_a_scale_of_the_column_follows_the_size_of_the_images() -> None:
    """Half of Cityscapes is 512 x 1024: smaller images are seen whole, larger ones as large as that."""
    loaded = load_table("bisenetv2/table-3a")
    column, row = loaded.file.columns["miou"], loaded.file.rows[0]
    scales = {(1024, 2048): 0.5, (256, 512): 1.0, (512, 1024): 1.0, (2048, 4096): 0.25, (720, 960): 0.871}
    assert {size: row.arch(column, size).input_scale for size in scales} == scales
    stdc = next(row for row in load_table("stdc/table-3").file.rows if row.set.get("input_scale") == 0.5)
    of_stdc = next(c for c in load_table("stdc/table-3").file.columns.values() if c.accuracy)
    assert stdc.arch(of_stdc, (256, 512)).input_scale == 0.5  # what its row compares


def test_a_study_that_was_just_created_is_not_shown_yet(data: DataSet) -> None:
    """Another process may look after the study is created and before its baseline is found."""
    loaded = table()
    asked = TableTraining(loaded, training(data, seeds=1), None)
    begin(loaded, "scenes-0", ("miou", "%", "maximize"), asked.identity, None)
    assert measured(loaded).answers == ()
    assert measured(loaded).cell("wide", "miou").reason == "needs Cityscapes"


def test_a_row_begins_with_its_starting_weights(data: DataSet, tmp_path: Path) -> None:
    """Else the row "from weights" prints what the row "from scratch" prints."""
    text = TWO_ROWS.replace("name: wide,", "name: wide, recipe: {init: start.pt},")
    loaded = table_from(parse_yaml(text, Path("mine.yaml")), "mine/table-0")
    asked = TableTraining(loaded, training(data, seeds=1), None)
    with pytest.raises(UserError, match=r"start\.pt"):
        train_tables([loaded], training(data, seeds=1))
    arch = asked.networks["wide"]
    torch.manual_seed(1)
    save_weights(arch.build(data.num_classes), tmp_path / "start.pt")
    wide, narrow = (one.run for one in TableTraining(loaded, training(data, seeds=1), None).runs)
    assert (wide.recipe.init, narrow.recipe.init) == ("start.pt", None)
    assert (len(wide.protocol.init) > 0, narrow.protocol.init) == (True, "")
    scratch = TableTraining(table(), training(data, seeds=1), None)
    assert wide.protocol != scratch.runs[0].run.protocol
    assert asked.identity != scratch.identity


@pytest.mark.slow
def test_nothing_is_trained_twice_not_even_for_another_table(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    train_tables([table()], training(data, seeds=1))

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(session, "train", refuse)
    train_tables([table()], training(data, seeds=1))
    (first,) = accuracy_records("mine/table-0", None)
    assert len(first.trials()) == 2
    said: list[str] = []
    train_tables([table("mine/table-1")], training(data, seeds=1), tell=said.append)
    (second,) = accuracy_records("mine/table-1", None)
    assert [trial.user_attrs["taken_from"] for trial in second.trials()] == [f"{first.name}#0", f"{first.name}#1"]
    assert f"mine/table-1, wide, seed 0: as {first.name}#0" in said
    assert [t.values for t in second.trials()] == [t.values for t in first.trials()]
    with pytest.raises(AssertionError, match="trained again"):
        train_tables([table()], training(data, seeds=2))


@pytest.mark.slow
@pytest.mark.parametrize("storage", [None, "sqlite:///all.db"])
def test_nothing_is_trained_twice_for_a_table_read_by_its_path(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, storage: str | None
) -> None:
    first, second = Path("first.yaml"), Path("own/second.yaml")
    second.parent.mkdir()
    for path in (first, second):
        path.write_text(TWO_ROWS)
    train_tables([load_table(first)], training(data, seeds=1), storage=storage)
    shutil.rmtree("runs/tables")  # only the record is left

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(session, "train", refuse)
    train_tables([load_table(second)], training(data, seeds=1), storage=storage)
    (record,) = accuracy_records("own/second", storage)
    assert [trial.state for trial in record.trials()] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_other_steps_are_another_study(data: DataSet) -> None:
    train_tables([table()], training(data, seeds=1))
    train_tables([table()], training(data, seeds=1, steps=3))
    latest, first = accuracy_records("mine/table-0", None)
    assert latest.name != first.name
    assert "3 steps" in measured(table()).cell("wide", "miou").protocol
    assert "2 steps" in measured(table(), record=first).cell("wide", "miou").protocol
    assert [one.quantity for one in measured(table()).answers] == [
        "mIoU (scenes, 3 of 185,938 steps)",
        "test mIoU (scenes, 3 of 185,938 steps)",
    ]


@pytest.mark.slow
def test_each_data_set_answers(data: DataSet) -> None:
    train_tables([table()], training(data, seeds=1))
    other = table_data("scenes", {"size": [32, 64], "train": 3, "val": 2, "test": 2})
    train_tables([table()], training(other, seeds=1, steps=3))
    comparison = measured(table())
    assert "3 steps" in comparison.cell("wide", "miou").protocol
    assert [one.quantity.partition(", ")[2] for one in comparison.answers] == ["3 of 185,938 steps)"] * 2 + [
        "2 of 185,938 steps)"
    ] * 2


@pytest.mark.slow
def test_an_interrupted_table_goes_on(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    step = run._Watch.step

    def stop_at(watch: run._Watch, number: int, loss: float) -> None:
        step(watch, number, loss)
        if watch.run.seed == 1 and number == 2:
            signal.raise_signal(signal.SIGINT)

    asked = training(data, steps=4)
    monkeypatch.setattr(run._Watch, "step", stop_at)
    _, stopped = train_tables([table()], asked)
    assert stopped
    (record,) = accuracy_records("mine/table-0", None)
    states = [trial.state for trial in record.trials()]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL, TrialState.WAITING]
    assert measured(table()).answers[0].repeats == 1
    assert "only one seed" in measured(table()).conclusion

    monkeypatch.setattr(run._Watch, "step", step)
    said: list[str] = []
    _, stopped = train_tables([table()], asked, tell=said.append)
    assert not stopped
    assert "seed 1: resuming from step 3 of 4" in said  # signals act at the end of a step
    ended = [trial.params for trial in record.trials(TrialState.COMPLETE)]
    assert ended == [{"row": row, "seed": seed} for seed in (0, 1) for row in ("wide", "narrow")]


@pytest.mark.slow
def test_a_row_that_fails_says_so_and_the_others_go_on(data: DataSet) -> None:
    text = TWO_ROWS.replace("set: {width: 0.25", "recipe: {learning_rate: 1.0e+30, warmup_steps: 0}, set: {width: 0.25")
    (Path.cwd() / "studies/mine/table-0.yaml").write_text(text)
    train_tables([table()], training(data, seeds=1, steps=6))
    comparison = measured(table())
    assert comparison.cell("wide", "miou").verdict == "measured"
    assert comparison.cell("narrow", "miou").reason.startswith("failed: diverged")
    assert "1 of 2 rows are not measured" in comparison.conclusion
    train_tables([table()], training(data, seeds=1, steps=6))  # not tried again
    (record,) = accuracy_records("mine/table-0", None)
    assert len(record.trials()) == 2


def test_heads_are_checked_before_anything_is_trained(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "recipe: {heads: [{kind: booster, features: [nope]}]}, set: {width: 0.25"
    (Path.cwd() / "studies/mine/table-0.yaml").write_text(TWO_ROWS.replace("set: {width: 0.25", head))
    monkeypatch.setattr(session, "train", None)
    with pytest.raises(UserError, match="mine/table-0, row 'narrow': unknown feature for booster head 'nope'"):
        train_tables([table()], training(data))
    with pytest.raises(UserError, match="nope"):
        table_hours([table()], training(data), None)


@pytest.mark.slow
def test_a_changed_row_takes_no_old_figure(data: DataSet) -> None:
    train_tables([table()], training(data, seeds=1))
    path = Path.cwd() / "studies/mine/table-0.yaml"
    path.write_text(TWO_ROWS.replace("width: 0.25", "width: 0.75"))
    assert measured(table()).cell("narrow", "miou").verdict == "not run"
    assert measured(table()).cell("wide", "miou").verdict == "measured"


def test_hours(data: DataSet) -> None:
    tables = [table(), table("mine/table-1")]
    first, second = table_hours(tables, training(data), None)
    assert (first.runs, first.left, second.runs, second.left) == (4, 4, 4, 0)
    assert first.training_seconds > 0
    assert second.training_seconds == 0
    assert not Path("runs").exists()
    (timing,) = table_hours(tables[:1], None, "cpu")
    assert timing.latency_seconds > 0


def test_hours_follow_a_line_between_two_networks_of_a_family() -> None:
    """In proportion to the smallest one's, hours of larger ones would be too long."""
    known = [_Timed(work=1e6, step=3.0, forward=1.0), _Timed(work=5e6, step=5.0, forward=2.0)]
    assert _times_of(1e6, known) == (3.0, 1.0)
    assert _times_of(3e6, known) == (4.0, 1.5)
    assert _times_of(10e6, known) == (10.0, 4.0)
    assert _times_of(10e6, known[:1]) == (30.0, 10.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2, "epochs": 1.0}, "as steps or as epochs"),
        ({"seeds": 0}, "above 0"),
        ({"settings": {"steps": 3}}, "give --steps or --epochs"),
        ({"device": "tpu"}, "device must be cpu"),
        ({"settings": {"learning_rat": 1}}, "unknown setting of a recipe 'learning_rat'"),
    ],
)
def test_bad_trainings_are_user_errors(data: DataSet, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_tables([table()], training(data, **options))


def test_a_table_that_nothing_is_trained_of(data: DataSet) -> None:
    done, stopped = train_tables([load_table("dabnet/table-1")], training(data))
    assert (done, stopped) == ([], False)
    assert table_from(parse_yaml(TWO_ROWS, Path("x.yaml")), "x").file.base == "wide"
