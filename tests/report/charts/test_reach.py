"""The page by keyboard, on paper, and in three dimensions."""

import pytest

from nasseg.analyse.trials import outcome
from tests.report.pages.shown import rows_of


@pytest.mark.slow
def test_tab_goes_through_all_that_can_be_set_in_order_and_shows_where_it_is(visit, written):
    page = visit(written)
    page.locator("#trials-box").scroll_into_view_if_needed()
    page.wait_for_selector("#trials-box tr[data-at]")
    page.evaluate("scrollTo(0, 0)")
    page.evaluate("document.getElementById('filters').open = true")
    expected = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, select, summary, [tabindex='0']")].filter(
        (e) => e.tabIndex >= 0 && e.checkVisibility() && !e.closest(".modebar")
        ).map((e, i) => (e.dataset.place = String(i)))"""
    )
    reached = []
    for _ in range(len(expected) + 12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.place"))
        assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 1
    known = [place for place in reached if place is not None]  # a browser stops at what scrolls, too
    assert known[: len(expected)] == expected
    page.focus("#front-table th:nth-child(4) button")
    page.keyboard.press("Enter")
    cells = page.locator("#front-table tbody td:nth-child(4)")
    column = cells.evaluate_all("cells => cells.map((cell) => +cell.dataset.value)")
    assert column == sorted(column)
    page.keyboard.press("Enter")
    assert page.get_attribute("#front-table th:nth-child(4)", "aria-sort") == "descending"


@pytest.mark.slow  # WebGL without a GPU
def test_three_objectives_are_drawn_in_space(visit, written, record):
    page = visit(written)
    page.select_option("#z-axis", "macs")
    page.wait_for_function("document.getElementById('front').data[0].type === 'scatter3d'")
    finished = [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]
    marks = page.evaluate(
        """() => document.getElementById("front").data.flatMap((t) => t.meta === "trials" ?
        t.customdata.map((row, i) => [row, t.x[i], t.y[i], t.z[i]]) : [])"""
    )
    values = [record.trials[row].values for row in finished]
    assert sorted(marks) == [
        [row, v["latency_ms"], v["miou"], v["macs"]] for row, v in zip(finished, values, strict=True)
    ]
    planes = page.evaluate(
        "document.getElementById('front').data.filter((t) => t.meta === 'limit').map((t) => [t.x[0], t.z[0]])"
    )
    assert planes[0][0] == record.limits["latency_ms"]["max"]
    assert planes[1][1] == record.limits["macs"]["max"]
    page.click(".legend button >> nth=0")
    assert rows_of(page) == {row for row in finished if record.trials[row].arch["family"] == "regseg"}
    page.select_option("#x-axis", "macs")  # the same twice says nothing: they swap
    assert page.input_value("#z-axis") == "latency_ms"
    page.select_option("#z-axis", "")
    page.wait_for_selector("#front .nsewdrag")
    assert page.evaluate("document.getElementById('front').data.some((t) => t.meta === 'steps' && t.x.length)")


@pytest.mark.slow
def test_on_paper_nothing_is_cut_covered_or_folded(visit, written):
    page = visit(written)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_selector("#parallel .main-svg", state="attached")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 1000})  # A4 between the margins
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    covered = page.evaluate(
        """() => [...document.querySelectorAll(".chart")].filter((chart) => {
        const box = chart.getBoundingClientRect(), svg = chart.querySelector(".main-svg").getBoundingClientRect();
        return svg.right > 692 || svg.bottom > box.bottom + 1;
    }).map((chart) => chart.id)"""
    )
    assert covered == []
    assert page.locator("button:visible:not(.legend button):not(th button), input:visible, select:visible").count() == 0
    assert page.locator("summary:visible").all_inner_texts() == ["How to read this chart", "Every parameter in words"]
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#population details[open]").count() == 0
