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
from nasseg.report.charts.paper_tables import figure_of
from nasseg.report.pages.tables_page import render_tables, write_tables
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
    assert [a["data-figure"] for _, a in found if "data-figure" in a] == ["x/table-1", "x/table-2"]
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
    assert 'class="badge trend confirmed"' in page
    assert "mIoU: trend seen" in page


def test_it_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*choose another place with -o"):
        write_tables([small()], tmp_path / "file/index.html")


def test_two_badges_tell_what_the_architecture_decides_from_what_was_trained() -> None:
    page = render_tables([small(), replace(measured(), name="x/table-2")])
    assert page.count("1 of 2 cells equal, 1 flagged") == 2
    assert page.count("training: not run") == 1
    found = [a for name, a in tags(page) if name == "section" and "id" in a]
    assert [(a["data-paper"], a["data-cells"], a["data-trend"]) for a in found] == [
        ("X", "flagged", "not-run"),
        ("X", "flagged", "confirmed"),
    ]


def test_cells_have_the_colours_of_the_legend() -> None:
    page = render_tables([small()])
    kinds = [a["class"] for name, a in tags(page) if name == "td" and "cell" in (a.get("class") or "").split()]
    assert kinds.count("number is-equal cell") == 1
    assert kinds.count("number is-flagged cell") == 1
    assert kinds.count("number is-measured cell") == 1
    for kind in {kind.split()[1] for kind in kinds}:
        assert f".{kind} {{ --shade: #" in page


def test_titles_stand_in_the_navigation() -> None:
    page = render_tables([small()])
    assert f"<strong>{small().table}</strong> {small().title}</a>" in page
