"""What a reader does with a report, in a real browser from a file, with every request and console error collected."""

import shutil

import pandas as pd
import pytest

from nasseg.analyse.table import front_frame, outcome
from nasseg.report import write_report
from nasseg.report.figures import front_figure
from nasseg.report.view import view_of
from tests.report.fake import fake_record, hostile_record

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def record():
    return fake_record(150)


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine: reports are not tested in a browser")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(record, tmp_path_factory):
    return write_report(record, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def visit(browser):
    """Opens a report; at the end nothing may have failed, and nothing but the file been asked for."""
    visited = []

    def visit(path, width=1280, hash=""):
        page = browser.new_page(viewport={"width": width, "height": 900})
        problems, requests = [], []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri() + hash)
        page.wait_for_selector("body[data-drawn=yes]")
        visited.append((page, path, problems, requests))
        return page

    yield visit
    for page, path, problems, requests in visited:
        page.close()
        assert problems == []
        assert {url.partition("#")[0] for url in requests} == {path.as_uri()}


def position(page, row):
    """Where the mark of a row is on the screen."""
    return page.evaluate(
        """(row) => {
        const chart = document.getElementById("front"), box = chart.querySelector(".nsewdrag").getBoundingClientRect();
        const trace = chart.data.find((t) => t.meta === "trials" && t.customdata.includes(row));
        const i = trace.customdata.indexOf(row), { xaxis, yaxis } = chart._fullLayout;
        return [box.x + xaxis.d2p(trace.x[i]), box.y + yaxis.d2p(trace.y[i])];
    }""",
        row,
    )


def test_a_click_on_a_mark_shows_its_network(visit, written, record):
    page = visit(written)
    assert "How to read this" in page.inner_text("#panel")
    page.evaluate("document.getElementById('front').scrollIntoView({block: 'center'})")
    x, y = record.objectives[1], record.objectives[0]
    # The mark that is farthest to the right has no neighbour over it.
    finished = [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]
    row = max(finished, key=lambda row: record.trials[row].values[x.name])
    page.mouse.move(*position(page, row))
    page.wait_for_timeout(200)
    page.mouse.click(*position(page, row))
    trial = record.trials[row]
    page.wait_for_function(f"location.hash === '#trial-{trial.number}'")
    panel = page.inner_text("#panel")
    assert f"#{trial.number} {trial.arch['family']}" in panel
    for key, value in trial.arch.items():
        assert key == "family" or key in panel
        assert key != "dilations" or value in panel
    assert f"{trial.values[y.name]:.4g} %" in panel
    assert f"nasseg measure '{record.name}#{trial.number}'" in panel
    assert page.locator("#panel svg path").count() == 1
    ring = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'selected')")
    assert (ring["x"], ring["y"]) == ([trial.values[x.name]], [trial.values[y.name]])


def test_another_axis_shows_the_figure_that_python_made(visit, written, record):
    page = visit(written)
    page.select_option("#x-axis", "macs")
    expected = front_figure(view_of(record), "macs", "miou")
    shown = page.evaluate("document.getElementById('front').data.map((t) => [t.meta, t.x, t.y])")
    assert shown == [[t.meta, list(t.x), list(t.y)] for t in expected.data]
    layout = page.evaluate("document.getElementById('front').layout")
    assert layout["xaxis"]["title"]["text"] == "Multiply-adds"
    page.check("#x-log")
    assert page.evaluate("document.getElementById('front').layout.xaxis.type") == "log"
    page.select_option("#x-axis", "miou")  # the same twice says nothing: they swap
    assert page.input_value("#y-axis") == "macs"


def test_published_names_cover_neither_each_other_nor_the_edge(visit, written):
    page = visit(written)
    boxes = page.evaluate(
        """() => {
        const edge = document.querySelector("#front .nsewdrag").getBoundingClientRect();
        const texts = [...document.querySelectorAll("#front .textpoint text")].filter((t) => t.textContent);
        return [edge, ...texts.map((t) => t.getBoundingClientRect())].map((b) => [b.left, b.top, b.right, b.bottom]);
    }"""
    )
    (left, top, right, bottom), *names = boxes
    assert len(names) >= 2
    for i, (a, b, c, d) in enumerate(names):
        assert left - 1 <= a < c <= right + 1
        assert top - 1 <= b < d <= bottom + 1
        assert all(c <= e or g <= a or d <= f or h <= b for e, f, g, h in names[:i])


def test_the_keyboard_reaches_a_network_and_the_order_of_the_table(visit, written, record):
    page = visit(written)
    page.focus("#go-number")
    page.keyboard.type("999999")
    page.keyboard.press("Enter")
    assert "no such trial" in page.inner_text("#go-message")
    rejected = next(t for t in record.trials if outcome(t) == "rejected")
    page.fill("#go-number", str(rejected.number))
    page.keyboard.press("Enter")
    assert rejected.reason in page.inner_text("#panel")
    best = front_frame(record)["number"].iloc[-1]
    page.focus(f"#front-table #trial-{best} a")
    page.keyboard.press("Enter")
    assert f"#{best} " in page.inner_text("#panel .title")
    page.focus("#front-table th:nth-child(4) button")
    page.keyboard.press("Enter")
    cells = page.locator("#front-table tbody td:nth-child(4)")
    column = cells.evaluate_all("cells => cells.map((cell) => +cell.dataset.value)")
    assert column == sorted(column)
    page.keyboard.press("Enter")
    assert page.get_attribute("#front-table th:nth-child(4)", "aria-sort") == "descending"


def test_a_family_can_be_hidden_and_all_trials_downloaded(visit, written, record):
    page = visit(written)
    page.click(".legend button >> nth=0")
    hidden = page.evaluate("document.getElementById('front').data.filter((t) => t.visible === false).length")
    assert hidden == 2  # its front and its dominated trials
    with page.expect_download() as download:
        page.click("#csv")
    assert pd.read_csv(download.value.path())["number"].tolist() == [trial.number for trial in record.trials]


@pytest.mark.parametrize("width", [400, 700, 1280])
def test_no_width_scrolls_sideways_and_a_link_opens_a_trial(visit, written, record, width):
    trial = next(t for t in record.trials if outcome(t) == "stopped")
    page = visit(written, width, f"#trial-{trial.number}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert trial.reason in page.inner_text("#panel")


def test_hostile_text_stays_text(visit, tmp_path):
    text = "</script><script>alert(1)</script>'\"<img src=x onerror=alert(1)>"
    page = visit(write_report(hostile_record(text), tmp_path / "hostile.html"))
    page.click("#front-table tbody a >> nth=0")
    assert text in page.inner_text("#panel")
    assert page.locator("img:not(#front img)").count() == 0
    assert page.inner_text("h1") == text
    assert page.text_content("#front .xtitle").startswith(text)
