"""What a reader does with a page of several studies, and with a folder of pages."""

import pytest

from nasseg.report import write_report
from nasseg.report.numbers.front_view import histories_of
from tests.report.fake import fake_record, hostile_record
from tests.report.pages.test_several_studies import on_gpu


@pytest.fixture(scope="module")
def records():
    return [fake_record(60), on_gpu(fake_record(50, seed=4))]


def shown(page):
    """Keys of the networks that the front shows."""
    keys = page.evaluate(
        """() => document.getElementById("front").data.flatMap((t) =>
        t.meta === "trials" && t.visible !== false ? t.customdata : [])"""
    )
    return set(keys)


@pytest.mark.slow
def test_a_study_can_be_hidden_and_other_filters_hold_beside_it(visit, records, tmp_path):
    page = visit(write_report(records, tmp_path / "two.html"))
    first = len(records[0].trials)
    everything = shown(page)
    page.wait_for_function("document.getElementById('hypervolume').data")
    page.click(".legend button >> nth=0")
    assert shown(page) == {row for row in everything if row >= first}
    lines = page.evaluate(
        "document.getElementById('front').data.filter((t) => t.meta === 'steps').map((t) => t.visible)"
    )
    assert lines == [False, True]
    volumes = page.evaluate("document.getElementById('hypervolume').data.map((t) => t.visible)")
    assert volumes == [False, False, True, True]
    ids = page.locator("#front-table tbody tr:visible").evaluate_all("rows => rows.map((row) => row.id)")
    assert ids
    assert all(key.startswith("trial-B") for key in ids)
    page.click("#filters summary")
    page.select_option("select[data-parameter=family]", label="regseg")
    both = records[0].trials + records[1].trials
    assert shown(page) == {row for row in everything if row >= first and both[row].arch["family"] == "regseg"}
    page.click("#filter-clear")
    assert shown(page) == everything
    page.click(f"#{ids[0]} a")
    page.wait_for_selector(f"#panel .title:has-text('#{ids[0].removeprefix('trial-')} ')")
    assert page.locator("#panel svg.stages rect").count() == 5
    page.fill("#go-number", "a3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel .title:has-text('#A3 ')")
    page.check("#front-table tbody input >> nth=0")
    page.wait_for_selector("#compare table")


@pytest.mark.slow
def test_hypervolume_over_trials_training_and_time(visit, records, tmp_path):
    page = visit(write_report(records[0], tmp_path / "one.html"))
    expected = histories_of(records[0])
    assert list(expected) == ["trial", "compute", "time"]
    page.wait_for_function("document.getElementById('hypervolume').data")
    for over, history in expected.items():
        page.select_option("#over", over)
        line = page.evaluate("(({x, y}) => [x, y])(document.getElementById('hypervolume').data[0])")
        assert line == [history.at, history.share]


@pytest.mark.slow
def test_a_page_that_shares_its_library_draws_and_says_when_it_is_missing(visit, browser, records, tmp_path):
    path = write_report(records[0], tmp_path / "report.html", shared=True)
    beside = [tmp_path / "plotly.min.js", tmp_path / "index.html"]
    page = visit(path, beside=beside)
    assert shown(page)
    page.goto(beside[1].as_uri())
    page.click("#reports a")
    page.wait_for_selector("body[data-drawn=yes]")
    beside[0].unlink()
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#panel:has-text('The charts need plotly.min.js beside this page.')")
    page.close()


@pytest.mark.slow
def test_hostile_names_of_studies_stay_text(visit, tmp_path):
    text = "</script><script>alert(1)</script>'\"<img src=x onerror=alert(1)>"
    page = visit(write_report([hostile_record(text), hostile_record(text)], tmp_path / "hostile.html"), 420)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    page.wait_for_function("document.getElementById('hypervolume').data")
    assert page.text_content("#hypervolume .legendtext") == f"A {text}"
    assert page.locator("img:not(#front img)").count() == 0
    page.click("#front-table tbody a >> nth=0")
    page.wait_for_selector("#panel .title .state")
    assert text in page.inner_text("#panel")
