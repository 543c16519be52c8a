"""The page of all tables in a browser: found, unfolded, copied and printed."""

from dataclasses import replace

import pytest

from nasseg.analyse.paper_formats import latex
from nasseg.report.pages.tables_page import write_tables
from tests.analyse.test_paper_formats import small
from tests.report.pages.test_tables_page import measured

pytestmark = pytest.mark.slow


@pytest.fixture
def tables(visit, tmp_path):
    both = [small(), replace(measured(), name="y/table-2", paper="Y", title="Dilation rates")]
    more = [replace(small(), name=f"z/table-{i}", paper="Z") for i in range(12)]
    return visit(write_tables([*both, *more], tmp_path / "tables.html")), both


def test_tables_are_found_by_word_paper_and_verdict(tables):
    page, _ = tables

    def shown():
        return page.locator("main > section[id]:visible").evaluate_all("nodes => nodes.map((node) => node.id)")

    assert len(shown()) == 14
    page.fill("#bar-search", "dilation")
    assert shown() == ["y/table-2"]
    assert page.inner_text("#bar-count") == "1 of 14 tables"
    page.fill("#bar-search", "")
    page.select_option("#bar-paper", "Z")
    assert len(shown()) == 12
    assert page.locator("nav a:visible").count() == 12
    page.select_option("#bar-paper", "")
    page.select_option("#bar-trend", label="trend seen")
    assert shown() == ["y/table-2"]


def test_a_link_unfolds_its_table_and_draws_it(tables):
    page, both = tables
    assert page.locator("details.one[open]").count() == 0
    assert page.locator(".js-plotly-plot").count() == 0
    page.click("nav a[href='#y/table-2']")
    page.wait_for_selector("[id='y/table-2'] .js-plotly-plot")
    assert page.locator("details.one[open]").count() == 1
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.click("[id='y/table-2'] [data-latex]")
    page.wait_for_selector("[data-latex]:has-text('Copied')")
    assert page.evaluate("window.copied") == latex(both[1])


def test_print_has_every_figure_and_folds_again(tables):
    page, _ = tables
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.one[open]").count() == 14
    assert page.locator(".js-plotly-plot .main-svg").count() >= 14
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.one[open]").count() == 0


def test_all_unfold_and_fold(tables):
    page, _ = tables
    page.click("#unfold")
    assert page.locator("details.one[open]").count() == 14
    page.click("#unfold")
    assert page.locator("details.one[open]").count() == 0
