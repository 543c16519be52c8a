"""The report: what is in it, that nothing of a study's text becomes markup, and what a reader does in a browser."""

import re
import shutil
from dataclasses import replace

import pytest

from nasseg.analyse.table import front_frame
from nasseg.errors import UserError
from nasseg.report import write_report
from nasseg.report.figures import front_figure, front_figures, hypervolume_figure, number
from nasseg.report.page import render
from tests.report.fake import fake_record, hostile_record


@pytest.fixture(scope="module")
def record():
    return fake_record(120)


def test_every_finished_trial_is_a_point_and_the_front_stands_out(record):
    x, y = record.objectives[:2]
    figure = front_figure(record, x, y)
    points = [n for trace in figure.data if trace.customdata is not None for n in trace.customdata]
    finished = [t for t in record.trials if t.state == "COMPLETE" and t.reused_from is None]
    assert sorted(points) == [trial.number for trial in finished]
    bright = [
        n
        for trace in figure.data
        if trace.customdata is not None and trace.marker.opacity == 1
        for n in trace.customdata
    ]
    assert sorted(bright) == sorted(front_frame(record)["number"])
    position = {
        n: at for t in figure.data if t.customdata is not None for n, *at in zip(t.customdata, t.x, t.y, strict=True)
    }
    for trial in finished:
        assert position[trial.number] == [trial.values[x.name], trial.values[y.name]]


def test_published_networks_are_named_where_both_figures_are_known(record):
    objectives = {objective.name: objective for objective in record.objectives}
    figure = front_figure(record, objectives["macs"], objectives["miou"])
    shown = {name for trace in figure.data if trace.mode == "markers+text" for name in trace.text}
    assert shown == {p.name for p in record.published if {"macs", "miou"} <= set(p.figures)}
    assert shown < {p.name for p in record.published}


def test_there_is_a_figure_for_each_pair_of_objectives(record):
    names = [objective.name for objective in record.objectives]
    assert set(front_figures(record)) == {f"{x}|{y}" for x in names for y in names if x != y}


def test_hypervolume_never_falls(record):
    (line,) = hypervolume_figure(record).data
    assert list(line.y) == sorted(line.y)
    assert 0 < line.y[-1] <= 1


def test_the_page_asks_for_nothing(record):
    page = render(record)
    outside = re.sub(r"<script type='application/gzip'.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*['\"](?!#)", outside)
    assert "http://" not in outside.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in outside


def test_the_front_is_a_table_without_javascript(record):
    page = render(record)
    for n in front_frame(record)["number"]:
        assert f"data-trial='{n}'" in page


def test_text_of_a_study_never_becomes_markup():
    page = render(hostile_record("</script><script>alert(1)</script>'\"<img src=x onerror=alert(1)>"))
    assert "alert(1)</script><" not in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert len(re.findall(r"</script", page)) == 3


def test_a_study_without_finished_trials_has_a_report(record, tmp_path):
    empty = replace(record, trials=())
    assert "No trial is finished yet" in write_report(empty, tmp_path / "empty.html").read_text()


def test_a_report_that_cannot_be_written_says_so_and_leaves_nothing(record, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(UserError, match="choose another place"):
        write_report(record, blocked / "report.html")
    assert list(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize(
    ("value", "text"),
    [(3_334_951, "3.335 M"), (39_077_228_288, "39.08 G"), (12.5, "12.5"), (None, "-"), (12_345, "12.35 k")],
)
def test_numbers_are_read_by_people(value, text):
    assert number(value) == text


@pytest.fixture(scope="module")
def page(record, tmp_path_factory):
    """The report open in a real browser; every console error and every request are collected."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine: the report is not tested in a browser")
    sync_api = pytest.importorskip("playwright.sync_api")
    path = write_report(record, tmp_path_factory.mktemp("report") / "report.html")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.problems, page.requests_made = [], []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests_made.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready=yes]")
        yield page
        browser.close()


def test_in_a_browser_nothing_is_fetched_and_nothing_fails(page):
    assert page.problems == []
    assert [url for url in page.requests_made if not url.startswith(("file:", "data:", "blob:"))] == []


def test_in_a_browser_a_click_shows_the_network(page, record):
    target = page.evaluate("""() => {
        const chart = document.getElementById('front'), trace = chart.data.findIndex((t) => t.marker.opacity === 0.35);
        const t = chart.data[trace], l = chart._fullLayout;
        const box = chart.querySelector('.nsewdrag').getBoundingClientRect();
        return {number: t.customdata[0], x: box.x + l.xaxis.d2p(t.x[0]), y: box.y + l.yaxis.d2p(t.y[0])};
    }""")
    page.mouse.move(target["x"], target["y"])
    page.wait_for_timeout(200)
    page.mouse.click(target["x"], target["y"])
    page.wait_for_timeout(200)
    shown = page.inner_text("#panel h3")
    trial = next(t for t in record.trials if f"Trial {t.number}:" in shown)
    assert trial.arch["family"] in shown
    assert "nasseg measure" in page.inner_text("#panel")
    assert f"{trial.measurement.accuracy.miou:.2f} %" in page.inner_text("#panel")


def test_in_a_browser_an_axis_can_be_changed(page):
    before = page.evaluate("document.getElementById('front').layout.xaxis.title.text")
    page.select_option("#x", "latency_ms")
    page.wait_for_timeout(200)
    after = page.evaluate("document.getElementById('front').layout.xaxis.title.text")
    assert before.startswith("macs")
    assert after.startswith("latency_ms")
    page.check("#log-x")
    assert page.evaluate("document.getElementById('front').layout.xaxis.type") == "log"


def test_in_a_browser_the_table_sorts(page):
    page.click("#front-table th:nth-child(3) button")
    column = page.eval_on_selector_all(
        "#front-table tbody td:nth-child(3)", "cells => cells.map(c => +c.dataset.value)"
    )
    assert column == sorted(column, reverse=True)
