"""Tables of a user's own: their format, and those that are based on a paper's."""

from pathlib import Path

import pytest

import nasseg
from nasseg.errors import UserError
from nasseg.files import list_files, parse_yaml
from nasseg.tables.compute import reproduce
from nasseg.tables.table_file import load_table, table_from

GOOD = """
paper: dabnet
table: Table 9
title: t
question: q
expected: e
columns:
  params: {label: Params, unit: M, cost: params, size: [64, 128]}
  k: {label: k, layer: kernel, size: [64, 128]}
rows:
  - {name: a, variant: dabnet, module: head, printed: {params: "0.76", k: "1"}}
recipe: dabnet-cityscapes
"""


def test_a_users_own_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    comparison = reproduce(path)
    assert comparison.citation == "DABNet, Table 9"
    assert [cell.verdict for cell in comparison.cells] == ["equal", "equal"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"0.76"', "0.76", r":11: rows.'a'.printed.params: Input should be a valid string, got 0.76"),
        ('"0.76"', "few", r":11: a number is needed, got 'few'"),
        ("{params:", "{parms:", r":11: unknown column 'parms': did you mean 'params'"),
        ("module: head, ", "", r":11: column k needs a module, and the row names none: add `module`"),
        ("variant: dabnet", "variant: dabnett", r":11: unknown variant or family 'dabnett': did you mean 'dabnet'"),
        ("variant: dabnet", "variant: dabnet, cited: true", r":11: rows.'a': .*has exactly one of variant"),
        ("variant: dabnet", "variant: dabnet, set: {widht: 2}", r":11: unknown parameter of dabnet 'widht'.*'width'"),
        ("variant: dabnet", "cited: true, set: {width: 2}", r":11: rows.'a': .*but there is none"),
        ("printed: {", "flagged: {j: why}, printed: {", r":11: unknown column 'j'"),
        ("cost: params", "cost: params, given: it", r":8: columns.params: .*exactly one of cost"),
        ("cost: params", "cost: weights", r":8: columns.params.cost: Input should be 'params'"),
        ("cost: params", "accuracy: miou", r":8: columns.params: .*name their data and split"),
        ("layer: kernel", "field: kernel", r":7: unknown field 'kernel'"),
        ("dabnet-cityscapes", "dabnet-citiscapes", r":12: recipe: unknown recipe .*'dabnet-cityscapes'"),
        ("dabnet-cityscapes", "{name: dabnet-cityscapes, heds: []}", r":12: unknown setting .*'heads'"),
        ("variant: dabnet", "variant: dabnet, recipe: {steps: 0}", r":11: recipe: steps: .*greater than or equal to 1"),
        ("title: t", "titel: t", r":4: unknown key 'titel': did you mean 'title'"),
    ],
)
def test_bad_files_are_user_errors(old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(UserError, match=message):
        table_from(parse_yaml(GOOD.replace(old, new), Path("bad.yaml")), "bad")


def test_a_row_cannot_change_a_recipe_that_the_table_does_not_name() -> None:
    text = GOOD.replace("recipe: dabnet-cityscapes", "").replace("module: head", "module: head, recipe: {steps: 9}")
    with pytest.raises(UserError, match=":11: row 'a' changes a recipe, but the table names none"):
        table_from(parse_yaml(text, Path("bad.yaml")), "bad")


@pytest.mark.parametrize(
    ("module", "layer", "message"),
    [
        ("haed", "kernel", "unknown module 'haed': did you mean 'head'"),
        ("head", "field_of_view_1", "need an STDC module, got a Conv2d"),
        ("encoder.norms.0", "expansion", "a block's first convolution, got a Sequential"),
    ],
)
def test_a_module_that_has_no_such_figure(module: str, layer: str, message: str) -> None:
    text = GOOD.replace("module: head", f"module: {module}").replace("layer: kernel", f"layer: {layer}")
    table = table_from(parse_yaml(text, Path("bad.yaml")), "bad")
    with pytest.raises(UserError, match=message):
        reproduce(table)


def test_no_such_table() -> None:
    with pytest.raises(UserError, match="unknown table 'bisenetv2/table-3d': did you mean 'bisenetv2/table-3"):
        load_table("bisenetv2/table-3d")


def test_a_row_may_be_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from nasseg.families.regseg import RegSegArch as Mine\n")
    text = list_files("tables")["regseg/table-4"].read_text()
    rows = text.index("rows:")
    (tmp_path / "table-mine.yaml").write_text(
        text[:rows]
        + 'rows:\n  - {name: mine, variant: "mine.py:Mine", set: {width: 0.5}, printed: {field_of_view: "3807"}}\n'
    )
    (row,) = load_table(tmp_path / "table-mine.yaml").file.rows
    arch = row.arch()
    assert arch is not None
    assert arch.id == nasseg.make_arch("regseg", width=0.5).id


BASED = """
base: bisenetv2/table-3a
rows:
  - {name: thinner still, like: lambda = 1/8, set: {expansion: 3}}
  - {name: lambda = 1/2, note: as printed}
  - {name: seen in full, variant: bisenetv2, set: {input_scale: 1.0}, recipe: {weight_decay: 0.0}}
"""


def based(text: str = BASED):
    return table_from(parse_yaml(text, Path("mine.yaml")), "mine")


def test_a_table_based_on_a_papers_has_its_rows_and_more() -> None:
    table, paper = based(), load_table("bisenetv2/table-3a")
    names = [row.name for row in table.file.rows]
    assert names == [*(row.name for row in paper.file.rows), "thinner still", "seen in full"]
    assert (table.file.title, table.file.columns) == (paper.file.title, paper.file.columns)
    eighth, thinner, full = (table.file.rows[names.index(n)] for n in ("lambda = 1/8", "thinner still", "seen in full"))
    assert thinner.variant == eighth.variant
    assert thinner.arch().params() == {**eighth.arch().params(), "expansion": 3}
    scales = [row.arch(table.file.columns["miou"]).params()["input_scale"] for row in (thinner, full)]
    assert scales == [0.5, 1.0]  # the column's, unless the row sets it
    assert table.file.training(full).weight_decay == 0.0
    assert table.file.training(full).heads == ()  # the table's own
    cells = {cell.row: cell for cell in reproduce(table).cells if cell.column == "gflops"}
    assert cells["lambda = 1/2"].verdict == "equal"
    assert (cells["thinner still"].verdict, cells["thinner still"].printed) == ("not printed", None)
    assert cells["thinner still"].ours < cells["lambda = 1/8"].ours
    assert reproduce(table).citation == "BiSeNetV2, Table 3a and own rows"
    assert reproduce(table).notes == {"lambda = 1/2": "as printed"}


def test_a_row_in_place_of_a_printed_one_keeps_what_it_does_not_replace() -> None:
    text = BASED.replace("note: as printed", "set: {width: 0.5}, flagged: {gflops: half as wide}")
    row = next(row for row in based(text).file.rows if row.name == "lambda = 1/2")
    assert (row.variant, row.printed["miou"]) == ("bisenetv2-t3a-lambda-1-2", "69.66")
    assert row.arch().params()["width"] == 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table-3a", "table-3d", r"mine.yaml:2: unknown table 'bisenetv2/table-3d': did you mean"),
        ("like: lambda = 1/8", "like: lambda = 1/9", r"mine.yaml:4: unknown row 'lambda = 1/9': did you mean"),
        ("{expansion: 3}", "{expanson: 3}", r"mine.yaml:4: unknown parameter of bisenetv2 'expanson'"),
        ("name: thinner still, ", "", r"mine.yaml:3: rows is a list of mappings, each with a name"),
        ("name: thinner still", "name: [thinner]", r"mine.yaml:3: rows is a list of .* a name \(text\)"),
        ("like: lambda = 1/8", "like: [1]", r"mine.yaml:4: unknown row"),
        ("rows:", "columns: [miou]\nrows:", r"mine.yaml:3: columns is a mapping of names to mappings, got \['miou'\]"),
        (
            "rows:",
            "columns: {miou: 3}\nrows:",
            r"mine.yaml:3: columns is a mapping of names to mappings, got {'miou': 3}",
        ),
        ("base: bisenetv2/table-3a", "base: regseg/table-2", r"mine.yaml:4: unknown row 'lambda = 1/8'"),
        ("base: bisenetv2/table-3a", "base: 3", r"mine.yaml:2: base is the name of another table"),
        ("rows:", "reference: lambda = 1\nrows:", r"mine.yaml:3: unknown row that is built here 'lambda = 1'"),
    ],
)
def test_a_bad_base_is_a_user_error(old: str, new: str, message: str) -> None:
    assert old in BASED
    with pytest.raises(UserError, match=message):
        based(BASED.replace(old, new, 1))


LAYERS = "base: regseg/table-2\nrows:\n  - {name: mine, like: 3x3 conv, module: encoder.stage2.0}\n"


def test_own_rows_of_layers_ask_what_the_row_they_are_like_prints() -> None:
    (*_, mine) = based(LAYERS).file.rows
    assert mine.printed == dict.fromkeys(("stride", "channels", "repeat"))
    cells = {cell.column: cell.ours for cell in reproduce(based(LAYERS)).cells if cell.row == "mine"}
    assert cells == {"stride": "2", "channels": "48", "repeat": "1"}
    with pytest.raises(UserError, match=r"unknown module 'encoder.nope'"):
        reproduce(based(LAYERS.replace("stage2.0", "nope")))
    with pytest.raises(UserError, match=r"mine.yaml:3: its columns need a module, and the row names none"):
        based(LAYERS.replace("like: 3x3 conv, module: encoder.stage2.0", "variant: regseg"))


def test_a_table_cannot_be_its_own_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {path}\n")
    with pytest.raises(UserError, match=r"mine.yaml:1: .*mine.yaml is its own base$"):
        load_table(path)
