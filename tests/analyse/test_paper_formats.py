"""Comparisons with papers: judging a cell, and the formats that they are written in."""

import csv
import io
import json
from dataclasses import replace

import pytest

from nasseg.analyse.paper_formats import render
from nasseg.analyse.paper_table import Cell, Column, Comparison, judge
from nasseg.analyse.paper_verdict import answer
from nasseg.errors import UserError


@pytest.mark.parametrize(
    ("printed", "value", "flag", "verdict"),
    [
        ("73.0", 73.04, "", "equal"),
        ("73.00", 73.04, "", "differs"),
        ("73.00", 73.04, "why", "flagged"),
        ("73.0", 73.04, "stale", "equal"),
        ("0.5", 0.55, "", "equal"),  # half a digit exactly
        ("0.5", 0.5500001, "", "differs"),
        ("813", 812.6, "", "equal"),
        ("78.13±0.48", 78.134, "", "equal"),
        ("3", "3", "", "equal"),
        ("3", "5", "", "differs"),
        (None, 1.0, "", "not printed"),
        ("-", 1.0, "", "not printed"),
    ],
)
def test_judging(printed: str | None, value: float | str, flag: str, verdict: str) -> None:
    assert judge(printed, value, flag) == verdict


def small() -> Comparison:
    columns = (
        Column(name="miou", label="mIoU", unit="%", protocol="on Streets"),
        Column(name="flops", label="GFLOPs", unit="G", protocol="by a rule"),
        Column(name="ms", label="time", unit="ms", protocol="on a device"),
    )
    cells = (
        Cell(row="a|b", column="miou", printed="70.1", ours=None, verdict="not run", reason="needs Streets"),
        Cell(row="a|b", column="flops", printed="1.5", ours=1.52, verdict="equal"),
        Cell(
            row="a|b",
            column="ms",
            printed="2.0",
            ours=3.0,
            verdict="measured",
            protocol="on a laptop",
            spread=0.21,
            alike=True,
        ),
        Cell(row="c_d", column="flops", printed="2.0", ours=2.1, verdict="flagged", reason="50% & more"),
        Cell(row="e", column="flops", printed="7", ours=None, verdict="cited"),
    )
    return Comparison(
        name="x/table-1",
        paper="X",
        table="Table 1",
        title="T",
        question="Why?",
        expected="",
        columns=columns,
        rows=("a|b", "c_d", "e"),
        cells=cells,
        notes={"e": "far"},
    )


def test_markdown() -> None:
    lines = render([small()], "markdown").splitlines()
    assert lines[:3] == ["## X, Table 1: T", "", "Why?"]
    assert lines[4] == (
        "undecided: some asked values were not measured (needs Streets); 1 of 2 computed cells are equal to print, "
        "1 differ for a known reason."
    )
    assert lines[6] == (
        "| row | mIoU (%) printed | GFLOPs printed | GFLOPs ours | difference | time (ms) printed | time (ms) ours "
        "| difference |"
    )
    assert lines[8] == r"| a\|b | 70.1 | 1.5 | 1.52 | +0.02 | 2.0 | 3.00 ± 0.21 [1] | +1.00 |"
    assert lines[9:11] == ["| c_d |  | 2.0 | 2.10 [2] | +0.10 |  |  |  |", "| e |  | 7 |  |  |  |  |  |"]
    assert lines[12:] == [
        "- [1] on a laptop",
        "- [2] 50% & more",
        "- e: far",
        "- mIoU: on Streets. Not run: needs Streets.",
        "- GFLOPs: by a rule.",
        "- time: on a device.",
        "- Rows without ours: other papers' networks, as the paper quotes them.",
    ]


def test_what_was_measured_under_other_conditions_has_no_difference() -> None:
    other = replace(small(), cells=tuple(replace(cell, alike=False) for cell in small().cells))
    lines = render([other], "markdown").splitlines()
    assert lines[6].endswith("| time (ms) printed | time (ms) ours |")
    assert lines[8] == r"| a\|b | 70.1 | 1.5 | 1.52 | +0.02 | 2.0 | 3.00 ± 0.21 [1] |"


def test_one_column_alone_confirms_no_table() -> None:
    runs = {"a|b": {0: 3.0, 1: 3.1}, "c_d": {0: 9.0, 1: 9.3}}
    times = answer("time", {"a|b": 2.0, "c_d": 6.0}, runs, "a|b", unit="ms", kind="ratio", repeated="round")
    one = replace(small(), answers=(times,))
    assert (times.verdict, one.verdict) == ("confirmed", "undecided")
    assert one.conclusion.startswith("time: confirmed; Kendall's tau")
    assert "; some asked values were not measured (needs Streets); 1 of 2 computed cells" in one.conclusion
    done = replace(one, cells=tuple(cell for cell in one.cells if cell.verdict != "not run"))
    assert done.verdict == "confirmed"
    assert "not all" not in done.conclusion


def test_a_table_of_one_measured_row_says_so() -> None:
    one = replace(small(), cells=tuple(cell for cell in small().cells if cell.verdict == "measured"))
    assert one.conclusion == "undecided: only one row was measured."


def test_other_formats() -> None:
    text = render([small()], "text").splitlines()
    assert [line.split() for line in text[4:7]] == [  # heads are broken where that makes their column narrower
        ["row", "mIoU", "GFLOPs", "GFLOPs", "difference", "time", "time", "(ms)", "ours", "difference"],
        ["(%)", "printed", "ours", "(ms)"],
        ["printed", "printed"],
    ]
    assert {*text[7]} == {"-"}
    assert max(map(len, text[4:11])) == len(text[7])
    narrow = render([small()], "text", width=40).split("\n\n")
    assert max(len(line) for block in narrow[1:-1] for line in block.splitlines()) <= 40
    assert len(narrow) > 3
    rows_of = [[line.split()[0] for line in block.splitlines()[-len(small().rows) :]] for block in narrow[1:-1]]
    assert rows_of == [list(small().rows)] * len(rows_of)
    latex = render([small()], "latex")
    assert r"c\_d &  & 2.0 & 2.10 {[}2] & +0.10" in latex
    assert r"{[}2] 50\% \& more" in latex
    rows = list(csv.DictReader(io.StringIO(render([small(), small()], "csv"))))
    assert len(rows) == 2 * len(small().cells)
    assert (rows[1]["printed"], rows[1]["ours"], rows[1]["verdict"]) == ("1.5", "1.52", "equal")
    assert (rows[0]["ours"], rows[2]["protocol"], rows[3]["reason"]) == ("", "on a laptop", "50% & more")
    (data,) = json.loads(render([small()], "json"))
    assert data["counts"]["flagged"] == 1
    assert data["cells"][0] | {"ours": None, "reason": "needs Streets"} == data["cells"][0]
    with pytest.raises(UserError, match="unknown format 'markdwn': did you mean 'markdown'"):
        render([small()], "markdwn")
