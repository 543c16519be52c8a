"""A search's front as rows of a table of one's own."""

from dataclasses import replace
from pathlib import Path

from nasseg.families import arch_of
from nasseg.files import parse_yaml
from nasseg.records import StudyRecord
from nasseg.tables.front_rows import front_rows
from nasseg.tables.table_file import table_from
from tests.report.fake import fake_record

REGSEG = {"family": "regseg", "width": 0.5, "dilations": "(1,1)+2*(1,4)", "input_scale": 1.0}
COMPOSED = {"family": "composed", "encoder": "stdc", "stdc.width": 0.25, "decoder": "fpn", "context": "none"}


def record() -> StudyRecord:
    """Return a study whose front is two networks, one of which was trained without a weight decay."""
    found = fake_record(60)
    done = [trial for trial in found.trials if trial.state == "COMPLETE" and trial.reused_from is None][:2]
    ends = ({"miou": 99.0, "macs": 9.0, "latency_ms": 9.0}, {"miou": 1.0, "macs": 1.0, "latency_ms": 1.0})
    settings = (REGSEG, {**COMPOSED, "input_scale": 0.5})
    trials = [
        replace(trial, arch=arch, values=values, training={"recipe.weight_decay": decay})
        for trial, arch, values, decay in zip(done, settings, ends, (0.0, 1e-4), strict=True)
    ]
    space = "parameters: {family: regseg, recipe.weight_decay: [0.0, 0.0001]}\nabout: a\ncitation: c\n"
    return replace(found, name="mine", trials=tuple(trials), limits={}, extra={**found.extra, "space_file": space})


def test_a_front_becomes_rows_that_build_its_networks_and_train_as_they_did() -> None:
    searched = record()
    text = "base: bisenetv2/table-3a\n" + front_rows(searched)
    table = table_from(parse_yaml(text, Path("mine.yaml")), "mine")
    rows, column = table.file.rows[-2:], table.file.columns["miou"]
    assert [row.name for row in rows] == [f"mine#{trial.number}" for trial in searched.trials]
    for row, trial in zip(rows, searched.trials, strict=True):
        assert trial.arch is not None
        built = row.arch(column)
        assert built is not None
        assert built == arch_of(trial.arch)  # not at the column's half size
    recipes = [table.file.training(row) for row in rows]
    assert [recipe and recipe.weight_decay for recipe in recipes] == [0.0, 1e-4]


def test_a_row_names_only_what_differs() -> None:
    (row, _) = parse_yaml(front_rows(record()), Path("rows.yaml")).data["rows"]
    assert row == {
        "name": "mine#2",
        "variant": "regseg",
        "set": {"width": 0.5, "dilations": "(1,1)+2*(1,4)", "input_scale": 1.0},
        "recipe": {"weight_decay": 0.0},
    }
