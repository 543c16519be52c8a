"""What a reader does with a report, in a real browser from a file, with every request and console error collected."""

import json
import re

import pandas as pd
import pytest

from nasseg.analyse.parameters import importance_frame, population_of
from nasseg.analyse.trials import front_frame, outcome, trial_figures, trials_frame
from nasseg.report import write_report
from nasseg.report.charts.front import front_figure
from nasseg.report.numbers.front_view import view_of
from nasseg.schedule import parse_schedule
from tests.report.fake import hostile_record
from tests.report.pages.shown import opened, position


def test_a_click_on_a_mark_shows_its_network(visit, written, record):
    page = visit(written)
    assert page.locator("#panel").is_hidden()
    said = page.text_content("#answer")
    page.evaluate("document.getElementById('front').scrollIntoView({block: 'center'})")
    x, y = record.objectives[1], record.objectives[0]
    # The mark that is farthest to the right has no neighbour over it.
    finished = [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]
    row = max(finished, key=lambda row: record.trials[row].values[x.name])
    page.mouse.move(*position(page, row))
    page.wait_for_timeout(200)
    page.mouse.click(*position(page, row))
    trial = record.trials[row]
    panel = opened(page, trial.number)
    assert page.evaluate("location.hash") == f"#trial={trial.number}"
    assert f"#{trial.number} {trial.arch['family']}" in panel
    for key, value in trial.arch.items():
        assert key == "family" or key in panel
        assert key != "dilations" or value in panel
    assert f"{trial.values[y.name]:.4g} %" in panel
    assert f"nasseg measure '{record.name}#{trial.number}'" in panel
    parts = trial.measurement.latency.parts_ms
    assert all(f"{name}\t{ms:.4g} ms" in panel for name, ms in parts.items())
    assert "IoU by class" in panel
    assert "Cost by stage" in panel
    assert page.locator("#panel svg path").count() == 1 + bool(trial.extra.get("continues"))
    ring = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'selected')")
    assert (ring["x"], ring["y"]) == ([trial.values[x.name]], [trial.values[y.name]])
    assert page.locator("#answer").is_hidden()
    page.click("text=Back to the answer")
    assert page.inner_text("#answer").startswith(said[:4])
    assert page.evaluate("location.hash") == ""


@pytest.mark.slow
def test_a_network_is_drawn_and_its_rungs_are_there(visit, written, record):
    trial = next(t for t in record.trials if "continues" in t.extra and "dilations" in t.arch)
    page = visit(written, 420, f"#trial-{trial.number}")
    panel = opened(page, trial.number)
    stages = trial.measurement.cost.stages
    assert page.locator("#panel svg.stages rect").count() == len(stages)
    texts = page.locator("#panel svg.stages text").all_text_contents()
    for stage in stages:
        height, width = (-(-side // stage.stride) for side in (512, 1024))
        assert {f"1/{stage.stride}", f"{height} × {width}", str(stage.width)} <= set(texts)  # noqa: RUF001
    wide = page.locator("#panel svg.stages rect").evaluate_all(
        "boxes => boxes.map((box) => +box.getAttribute('width'))"
    )
    assert wide == sorted(wide, reverse=True)
    schedule = parse_schedule(trial.arch["dilations"])
    cells = page.locator("#panel svg.schedule rect")
    assert cells.count() == sum(map(len, schedule))
    rates = page.locator("#panel svg.schedule text").all_text_contents()
    assert sorted(rates) == sorted(str(rate) for entry in schedule for rate in entry)
    assert page.evaluate("document.querySelector('#panel svg.stages').getBoundingClientRect().right") <= 420
    assert page.locator("#panel svg circle").count() == 2  # mIoU at two rungs
    assert f"nasseg export '{record.name}#{trial.number}'" in panel


@pytest.mark.slow
def test_another_axis_shows_the_figure_that_python_made(visit, written, record):
    page = visit(written)
    page.select_option("#x-axis", "macs")
    expected = front_figure(view_of(record), "macs", "miou")
    shown = page.evaluate("document.getElementById('front').data.map((t) => [t.meta, t.x, t.y])")
    made = [[t.meta, list(t.x), list(t.y)] for t in expected.data]
    assert [mark for mark in shown if mark[0] != "answer"] == [mark for mark in made if mark[0] != "answer"]
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


@pytest.mark.slow
def test_the_keyboard_reaches_a_network_and_the_order_of_the_table(visit, written, record):
    page = visit(written)
    page.focus("#go-number")
    page.keyboard.type("999999")
    page.keyboard.press("Enter")
    assert "no such trial" in page.inner_text("#go-message")
    rejected = next(t for t in record.trials if outcome(t) == "rejected")
    page.fill("#go-number", str(rejected.number))
    page.keyboard.press("Enter")
    assert rejected.reason in opened(page, rejected.number)
    best = front_frame(record)["number"].iloc[-1]
    page.focus(f"#front-table #trial-{best} a")
    page.keyboard.press("Enter")
    assert f"#{best} " in opened(page, best)
    page.focus("#front")  # from mark to mark
    for key in ("Home", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    marks = page.evaluate(
        """() => document.getElementById("front").data.flatMap((t) => ["trials", "published"].includes(t.meta) ?
        t.customdata.map((row, i) => [t.x[i], row]) : []).sort((a, b) => a[0] - b[0] || a[1] - b[1])"""
    )
    third = record.trials[marks[2][1]]
    assert f"#{third.number} " in page.text_content("#mark")
    assert page.locator("#front .hoverlayer .hovertext").count() == 1
    page.keyboard.press("Enter")
    opened(page, third.number)
    page.focus("#front")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(f"#compare th:has-text('#{third.number} ')")


@pytest.mark.slow
def test_a_family_can_be_hidden_and_all_trials_downloaded(visit, written, record):
    page = visit(written)
    page.click(".legend button >> nth=0")
    hidden = page.evaluate("document.getElementById('front').data.filter((t) => t.visible === false).length")
    assert hidden == 2  # its front and its dominated trials
    with page.expect_download() as download:
        page.click("#csv")
    frame, expected = pd.read_csv(download.value.path()), trials_frame(record)
    assert frame["number"].tolist() == expected["number"].tolist()
    assert frame["miou"].tolist() == pytest.approx(expected["miou"].tolist(), nan_ok=True)
    assert frame["reason"].dropna().tolist() == expected["reason"].dropna().tolist()
    assert frame["on_front"].tolist() == expected["on_front"].tolist()
    with page.expect_download() as download:
        page.click("#json")
    found = json.loads(download.value.path().read_text())
    assert [trial["number"] for trial in found["trials"]] == expected["number"].tolist()
    assert found["studies"][0]["identity"] == record.identity


@pytest.mark.slow
def test_networks_stand_side_by_side_with_what_differs(visit, written, record):
    page = visit(written)
    numbers = front_frame(record)["number"].tolist()[:3]
    for number in numbers[:2]:
        page.check(f"#trial-{number} input")
    page.wait_for_selector(f"#compare th:has-text('#{numbers[1]} ')")
    page.click(f"#trial-{numbers[2]} a")
    opened(page, numbers[2])
    page.click("#panel .pick")
    page.wait_for_selector(f"#compare th:has-text('#{numbers[2]} ')")
    trials = [next(t for t in record.trials if t.number == number) for number in numbers]
    line = page.locator("#compare tbody tr", has=page.locator("th", has_text=re.compile("^median$"))).locator("td")
    shown = [" ".join(text.split()[:2]) for text in line.all_inner_texts()]  # without the difference to the first
    assert shown == [f"{trial_figures(t)['latency_ms']:.4g} ms" for t in trials]
    names = page.locator("#compare tbody th[scope=row]").all_inner_texts()
    assert "precision" not in names
    assert "stride" not in names
    texts = page.locator("#compare tbody tr:has(td)").evaluate_all(
        "rows => rows.map((row) => [...row.cells].slice(1).map((cell) => cell.textContent))"
    )
    assert all(len(set(row)) > 1 for row in texts)
    page.check("#compare label input")
    assert page.locator("#compare tbody tr:has(td)").count() > len(texts)
    page.click("#compare thead button >> nth=0")
    assert page.locator("#compare thead th").count() == 2
    assert not page.is_checked(f"#trial-{numbers[0]} input")
    ring = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'selected').y")
    assert set(ring) == {trials[1].values["miou"], trials[2].values["miou"]}


def test_without_a_script_the_front_the_answer_and_the_verdicts_are_there(browser, written, record):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    assert page.locator("#front-table tbody tr:visible").count() == len(front_frame(record))
    assert page.locator("#answer").inner_text().startswith("#")
    assert page.locator("#budget-slider").is_hidden()
    assert page.locator("#csv").is_hidden()
    page.click("#population summary")
    assert page.locator("#population tbody tr:visible").count() == len(importance_frame(population_of(record)))
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 700, 1280])
def test_no_width_scrolls_sideways_and_a_link_opens_a_trial(visit, written, record, width):
    trial = next(t for t in record.trials if outcome(t) == "stopped")
    page = visit(written, width, f"#trial-{trial.number}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert trial.reason in page.inner_text("#panel")


@pytest.mark.slow
def test_hostile_text_stays_text(visit, tmp_path):
    text = "</script><script>alert(1)</script>'\"<img src=x onerror=alert(1)>"
    page = visit(write_report(hostile_record(text), tmp_path / "hostile.html"))
    page.click("#front-table tbody a >> nth=0")
    page.wait_for_selector("#panel .title .state")
    assert text in page.inner_text("#panel")
    page.check("#front-table tbody input >> nth=0")
    page.wait_for_selector("#compare table")
    page.locator("#population").scroll_into_view_if_needed()
    page.wait_for_selector("body[data-population=yes]")
    assert text in page.inner_text("#compare")
    assert page.text_content("#importance .ytick text").startswith(text)
    assert page.locator("img:not(#front img)").count() == 0
    assert page.inner_text("h1") == text
    assert page.text_content("#front .xtitle").startswith(text)
