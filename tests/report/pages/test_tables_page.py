"""The page of all tables: self-contained, escaped, one figure each."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nasseg.analyse.paper_table import Cell, Comparison
from nasseg.analyse.paper_verdict import answer
from nasseg.errors import UserError
from nasseg.report.pages.tables_page import figure_of, render_tables, write_tables
from tests.analyse.test_paper_formats import small

HOSTILE = '</script><img src=x onerror="alert(1)">&<b>'


def measured() -> Comparison:
    runs = {"a|b": {0: 50.0, 1: 51.0}, "c_d": {0: 40.0, 1: 41.0}}
    found = answer("mIoU", {"a|b": 70.0, "c_d": 60.0}, runs, "a|b", unit="%")
    cells = [replace(c, ours=71.0, verdict="measured") if c.verdict == "not run" else c for c in small().cells]
    return replace(small(), cells=tuple(cells), answers=(found,))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_the_page_needs_nothing_else_and_is_the_same_each_time(tmp_path: Path) -> None:
    path = write_tables([small(), replace(small(), name="x/table-2")], tmp_path / "new/index.html")
    page = path.read_text()
    found = tags(page)
    assert not [attributes for _, attributes in found if attributes.get("src") or attributes.get("srcset")]
    assert {a["href"] for _, a in found if "href" in a} == {"data:,", "#x/table-1", "#x/table-2"}
    assert not re.findall(r"@import|url\(", page)
    assert "default-src 'none'" in unescape(page)
    assert [a["data-table"] for _, a in found if "data-table" in a] == ["x/table-1", "x/table-2"]
    assert {a["id"] for name, a in found if name == "section" and "id" in a} == {"x/table-1", "x/table-2"}
    assert page == render_tables([small(), replace(small(), name="x/table-2")])


def test_what_stands_in_a_table_is_text() -> None:
    cell = Cell(row=HOSTILE, column="miou", printed=HOSTILE, ours=HOSTILE, verdict="differs", reason=HOSTILE)
    one = replace(
        small(),
        title=HOSTILE,
        question=HOSTILE,
        table=HOSTILE,
        rows=(HOSTILE,),
        cells=(cell,),
        notes={HOSTILE: HOSTILE},
    )
    page = render_tables([one])
    assert "img" not in [name for name, _ in tags(page)]
    assert "<b>" not in page
    assert HOSTILE not in str(figure_of(one).to_plotly_json())


def test_measured_rows_are_drawn_against_the_base_row() -> None:
    ours, printed = figure_of(measured()).data
    assert (list(ours.x), list(ours.y)) == ([-10.0], ["c_d"])
    assert list(printed.x) == [-10.0]
    assert ours.error_x.array[0] == pytest.approx(ours.error_x.arrayminus[0])
    page = render_tables([measured()])
    assert measured().conclusion in unescape(page)
    assert 'class="badge confirmed"' in page


def test_computed_numbers_are_drawn_beside_print_and_texts_as_verdicts() -> None:
    ours, printed = figure_of(small()).data
    assert (list(ours.x), list(printed.x)) == ([1.52, 2.1, None], [1.5, 2.0, 7.0])
    cells = tuple(replace(cell, ours="3x3", verdict="equal") for cell in small().cells)
    figure = figure_of(replace(small(), cells=cells))
    assert figure.data[0].type == "heatmap"
    assert figure.data[0].z[0][0] == 1


def test_columns_of_one_label_are_told_apart_by_their_units() -> None:
    columns = tuple(replace(column, label="512x1024") for column in small().columns)
    cells = tuple(replace(cell, ours="3x3", verdict="equal") for cell in small().cells)
    figure = figure_of(replace(small(), columns=columns, cells=cells))
    assert list(figure.data[0].x) == ["512x1024, %", "512x1024, G", "512x1024, ms"]


def test_own_rows_are_drawn_against_the_base_row_too() -> None:
    runs = {"a": {0: 50.0, 1: 51.0}, "b": {0: 40.0, 1: 41.0}, "mine": {0: 60.0, 1: 61.1}}
    found = answer("mIoU", {"a": 70.0, "b": 60.0, "mine": None}, runs, "a", unit="%")
    ours, printed = figure_of(replace(small(), answers=(found,))).data
    assert list(ours.y) == ["b", "mine"]
    assert list(printed.x) == [-10.0, None]


def test_it_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*choose another place with -o"):
        write_tables([small()], tmp_path / "file/index.html")
