"""The papers' tables: every file loads, every row builds, and what the architecture alone decides is as printed."""

import re
from fractions import Fraction
from functools import cache
from itertools import pairwise

import pytest

from nasseg.analyse.paper_formats import render
from nasseg.analyse.paper_table import Comparison, comparison_frame, difference_text, text_of
from nasseg.families import PAPERS, Arch
from nasseg.files import list_files
from nasseg.tables.compute import Measured, at_hand, list_tables, reproduce, summarise
from nasseg.tables.table_file import load_table, tables
from nasseg.tables.train_rows import trained_column
from nasseg.train.recipe import Recipe, load_recipe
from tests import ROOT

TEXTS = ROOT.parent / "shared/papers"

# name -> how many cells of it the architecture alone decides
COMPUTED = {
    "bisenetv2/table-1": 75,
    "bisenetv2/table-2": 7,
    "bisenetv2/table-3a": 5,
    "bisenetv2/table-3b": 4,
    "bisenetv2/table-3c": 6,
    "bisenetv2/table-4": 0,
    "bisenetv2/table-5a": 5,
    "bisenetv2/table-5b": 4,
    "bisenetv2/table-6": 5,
    "bisenetv2/table-7": 2,
    "bisenetv2/table-8": 0,
    "bisenetv2/table-9": 0,
    "stdc/table-1": 10,
    "stdc/table-2": 84,
    "stdc/table-3": 0,
    "stdc/table-4": 0,
    "stdc/table-5": 4,
    "stdc/table-6": 0,
    "stdc/table-7": 0,
    "stdc/figure-7": 10,
    "stdc/equation-3": 15,
    "eseg/table-1": 6,
    "eseg/table-2": 4,
    "eseg/table-3": 24,
    "eseg/table-4": 6,
    "eseg/table-5": 0,
    "eseg/table-6": 0,
    "eseg/table-7": 0,
    "eseg/table-8": 6,
    "regseg/table-1": 0,
    "regseg/table-2": 31,
    "regseg/table-3": 0,
    "regseg/table-4": 20,
    "regseg/table-5": 0,
    "regseg/table-6": 0,
    "regseg/table-7": 0,
    "regseg/table-8": 0,
    "regseg/table-9": 2,
    "regseg/table-10": 2,
    "dabnet/table-1": 38,
    "dabnet/table-2a": 5,
    "dabnet/table-2b": 3,
    "dabnet/table-3": 1,
    "dabnet/table-4": 1,
    "dabnet/table-5": 0,
}
# (name, row, column) -> ours, where it is not the printed value; the files have the reasons
FLAGGED = {
    ("bisenetv2/table-6", "ShuffleNetV2 1.5x", "gflops"): "128.704",
    ("bisenetv2/table-6", "MobileNetV2", "gflops"): "129.415",
    ("bisenetv2/table-6", "ResNet-18", "gflops"): "143.368",
    ("eseg/table-8", "EfficientNet-B1, DeepLabV3+ (w/o atrous)", "flops"): "49.85",
    ("eseg/table-8", "ResNet-50, BiFPN (w/o atrous)", "flops"): "187.75",
    ("eseg/table-8", "ResNet-50, DeepLabV3+ (w/ atrous)", "flops"): "423.01",
    ("eseg/table-8", "ResNet-50, DeepLabV3+ (w/o atrous)", "flops"): "229.98",
    ("bisenetv2/table-3a", "lambda = 1/16", "gflops"): "19.605",
    ("bisenetv2/table-3c", "epsilon = 1", "gflops"): "17.773",
    ("bisenetv2/table-5a", "alpha = 2.0", "gflops"): "85.935",
    ("eseg/table-4", "ESeg-L", "flops"): "342.5",
    ("regseg/table-4", "10, dilated RegNetY-600MF", "rates"): "7*(1,1)+3*(2,2)",
    ("regseg/table-4", "10, dilated RegNetY-600MF", "field_of_view"): "479",
    ("regseg/table-9", "RegSeg", "params"): "3.335",
    ("regseg/table-10", "RegSeg", "params"): "3.335",
    ("dabnet/table-4", "DABNet(Ours)", "params"): "0.755",
}
# STDC's Figure 7 prints no number: M FLOPs and M parameters, by number of blocks
FIGURE_7 = {
    2: ("1880", "15.79"),
    3: ("1533", "13.14"),
    4: ("1446", "12.47"),
    5: ("1424", "12.31"),
    6: ("1419", "12.26"),
}


table_of = cache(load_table)


@cache
def features(arch: Arch) -> set[str]:
    model = arch.build_meta(19)
    return set((model.context or model.encoder).features)


@cache
def ours(name: str) -> Comparison:
    return reproduce(table_of(name))


def test_every_table_of_the_five_papers_is_there() -> None:
    shipped = [name for name in tables() if name.partition("/")[0] in PAPERS]
    assert shipped == list(COMPUTED)  # paper by paper, and Table 10 after Table 9
    assert not set(shipped) & set(list_files("studies"))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPUTED)
def test_every_row_builds(name: str) -> None:
    table = table_of(name)
    text = list_files("tables")[name].read_text()
    assert text.startswith(f"# {table.paper}, {table.file.table}: ")
    assert table.file.question
    assert table.file.expected
    for row in table.file.rows:
        arch, training = row.arch(), table.file.training(row)
        assert arch is None or features(arch)
        assert (arch is None) == (row.cited or row.missing is not None)
        trained = row.arch(column) if (column := trained_column(table)) else None
        if trained and training:
            assert training.citation
            assert {feature for head in training.heads for feature in head.features} <= features(trained)


def test_every_trained_table_names_its_recipe() -> None:
    for name in COMPUTED:
        data = {column.data for column in table_of(name).file.columns.values() if column.data}
        assert (table_of(name).file.recipe is None) == (data <= {"ImageNet"}), name


def test_rows_set_the_recipe() -> None:
    def row(name: str, index: int) -> Recipe:
        recipe = table_of(name).file.training(table_of(name).file.rows[index])
        assert recipe is not None
        return recipe

    none, full = row("bisenetv2/table-4", 0), row("bisenetv2/table-4", 7)
    assert (none.heads, none.ohem) == ((), None)
    assert [head.features for head in full.heads] == [("stem", "s3", "s4", "s5")]
    assert full == row("bisenetv2/table-7", 0) == load_recipe("bisenetv2-cityscapes")
    assert [head.kind for head in row("stdc/table-4", 2).heads] == ["auxiliary"]
    assert row("stdc/table-4", 7) == row("stdc/table-6", 21) == load_recipe("stdc-cityscapes")
    assert row("regseg/table-6", 1).crop_size == (1024, 1024)
    assert row("regseg/table-7", 3).steps == 2 * row("regseg/table-7", 0).steps - 1  # rounded up
    assert row("regseg/table-7", 3).ohem == load_recipe("regseg-cityscapes-test").ohem


@pytest.mark.parametrize("name", COMPUTED)
def test_what_the_architecture_decides_is_as_printed(name: str) -> None:
    """Equal to print rounding, or flagged with its reason and a value that is held here."""
    computed = [cell for cell in ours(name).cells if cell.verdict in ("equal", "flagged", "differs", "not printed")]
    assert len(computed) == COMPUTED[name]
    for cell in computed:
        golden = FLAGGED.get((name, cell.row, cell.column))
        if golden is not None:
            assert (cell.verdict, text_of(cell.ours, cell.printed)) == ("flagged", golden), cell
            assert cell.reason
        else:
            assert cell.verdict == ("not printed" if cell.printed is None else "equal"), cell
            assert not cell.reason, "a flag that nothing needs"


@pytest.mark.parametrize("name", COMPUTED)
def test_what_was_not_run_says_why_and_guesses_nothing(name: str) -> None:
    for cell in ours(name).cells:
        if cell.verdict in ("not run", "cited", "given"):
            assert cell.ours is None
            assert cell.verdict != "not run" or re.match(r"needs \w", cell.reason), cell


def test_figure_7_counts_what_the_paper_only_draws() -> None:
    for blocks, golden in FIGURE_7.items():
        cells = [ours("stdc/figure-7").cell(f"{blocks} blocks", column) for column in ("flops", "params")]
        assert tuple(text_of(cell.ours, None) for cell in cells if cell) == golden


def test_equation_3_is_evaluated_right() -> None:
    for row in table_of("stdc/equation-3").file.rows:
        m, n, blocks = (int(number) for number in re.findall(r"= (\d+)", row.name))
        value = Fraction(n * m, 2) + Fraction(3 * n**2, 2) * (1 + Fraction(1, 2 ** (2 * blocks - 3)))
        assert row.printed["params"] == str(value)


# Which rows of a table need more than one line of the paper's text.
TWO_LINES = {"stdc/table-2"}


@pytest.mark.parametrize("name", COMPUTED)
def test_printed_values_are_the_papers(name: str) -> None:
    """Each row's values stand in its line of the text, in their order, and the lines follow each other."""
    paper, file = name.partition("/")[0], table_of(name).file
    if not (TEXTS / f"{paper}.txt").exists():
        pytest.skip("the papers' texts are not here")
    columns = [key for key, column in file.columns.items() if not column.given and not column.evaluated]
    rows = [[value for key in columns if (value := row.printed.get(key))] for row in file.rows]
    wanted = [[token for value in row for token in tokens(value)] for row in rows if row]
    lines = [tokens(line) for line in (TEXTS / f"{paper}.txt").read_text().splitlines()]
    if name in TWO_LINES:
        lines = [first + second for first, second in pairwise(lines)]
    assert any(follow(wanted, lines[start : start + 2 * len(wanted) + 40]) for start in range(len(lines))), wanted


def follow(wanted: list[list[str]], lines: list[list[str]]) -> bool:
    """Whether each wanted sequence is part of a line at or below that of the one before; the first in the first."""
    at = 0
    for index, sequence in enumerate(wanted):
        while at < len(lines) and not within(sequence, lines[at]):
            at += 1
            if index == 0:
                return False
        if at == len(lines):
            return False
    return True


def within(sequence: list[str], line: list[str]) -> bool:
    rest = iter(line)
    return all(token in rest for token in sequence)


def tokens(text: str) -> list[str]:
    """A line of text as tokens, whatever markup the text has around them; units and footnote marks left out."""
    text = text.replace("\N{MULTIPLICATION SIGN}", "x").replace(r"\times", "x").replace("$", " ")
    text = re.sub(r"(?<=\d) *x *(?=\d)", "x", re.sub("\\*\\*|</?b>|[†\N{ASTERISK OPERATOR}]", "", text))
    text = re.sub(r" *± *", "±", text.replace(", ", " "))
    return [re.sub(r"(?<=\d)[MB%x]$", "", token) for token in text.split()]


def test_differences_show_what_print_rounding_hides() -> None:
    cell = ours("bisenetv2/table-3a").cell("lambda = 1/2", "gflops")
    assert cell is not None
    assert (text_of(cell.ours, cell.printed), difference_text(cell)) == ("25.842", "+0.002")
    assert cell.difference == pytest.approx(0.00249, abs=1e-5)


def test_frame_has_a_row_a_cell() -> None:
    frame = comparison_frame([ours("bisenetv2/table-3a"), ours("dabnet/table-4")])
    assert len(frame) == 12
    assert frame["difference"].notna().sum() == 6
    assert set(frame[frame["verdict"] == "not run"]["reason"]) == {"needs Cityscapes", "needs CamVid"}


def test_what_was_measured_takes_its_cell_with_its_protocol() -> None:
    results = {("DABNet (Ours)", "ms_256"): Measured(2.5, "H100, eager")}
    comparison = reproduce("dabnet/table-5", results)
    cell, other = (comparison.cell("DABNet (Ours)", column) for column in ("ms_256", "fps_256"))
    assert cell is not None
    assert other is not None
    assert (cell.verdict, cell.ours, cell.difference, cell.protocol) == ("measured", 2.5, None, "H100, eager")
    assert (other.verdict, other.reason) == ("not run", "needs a GPU")
    assert "[1] H100, eager" in render([comparison])


def test_the_list_says_what_can_run() -> None:
    summary = summarise(table_of("regseg/table-9"))
    assert (summary.rows, summary.own_rows) == (18, 1)
    assert summary.runs == ("Params", "GFLOPs")
    assert summary.waits == {"val mIOU": "Cityscapes", "test mIOU": "Cityscapes' test server", "FPS": "a GPU"}
    assert summarise(table_of("regseg/table-9"), ["Cityscapes", "a GPU"]).waits.keys() == {"test mIOU"}
    assert at_hand(["CamVid"]) >= {"CamVid"}
    assert [one.name for one in list_tables() if one.name in COMPUTED] == list(COMPUTED)


def test_what_starts_from_imagenet_in_the_paper_says_from_scratch_here() -> None:
    assert "From scratch here" in ours("stdc/table-4").columns[0].protocol
    assert "From scratch here" in ours("eseg/table-2").columns[0].protocol
    assert "From scratch" not in ours("regseg/table-4").columns[-1].protocol
    assert all("From scratch here" in note for note in ours("bisenetv2/table-6").notes.values())
