"""A report in a browser: any column on any axis and as colour, selections in charts, and links that say it all."""

import math
from dataclasses import replace

import pytest

from nasseg.analyse.trials import on_front, outcome, trial_figures
from nasseg.report import write_report
from tests.report.pages.shown import population_shown, rows_of


def finished_of(record):
    return {row: trial for row, trial in enumerate(record.trials) if outcome(trial) == "finished"}


def marks_of(page):
    """Row -> (x, y) of what the chart of the front shows."""
    found = page.evaluate(
        """() => document.getElementById("front").data.flatMap((t) => t.meta === "trials" && t.visible ?
        t.customdata.map((row, i) => [row, t.x[i], t.y[i]]) : [])"""
    )
    return {row: (x, y) for row, x, y in found}


def drag(page, chart, start, end, *between):
    """Drag over a chart, from and to shares of its plot."""
    page.evaluate("(id) => document.getElementById(id).scrollIntoView({block: 'center'})", chart)
    box = page.evaluate(
        "(id) => (({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector(`#${id} .nsewdrag`).getBoundingClientRect())",
        chart,
    )
    places = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in (start, *between, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    page.wait_for_selector("#filter-bar:not([hidden])")


def front_in_view(page):
    page.evaluate("document.getElementById('front').scrollIntoView({block: 'center'})")
    page.hover("#front")


@pytest.mark.slow
def test_any_figure_is_an_axis_or_the_colour(visit, written, record):
    page = visit(written)
    done = finished_of(record)
    page.select_option("#x-axis", "params")
    page.select_option("#y-axis", "latency_p99_ms")
    marks = {row: (f["params"], f["latency_p99_ms"]) for row, t in done.items() if (f := trial_figures(t))}
    assert marks_of(page) == marks
    page.select_option("#y-axis", "iou.road")
    ious = {row: round(trial.measurement.accuracy.class_iou["road"], 2) for row, trial in done.items()}
    assert {row: y for row, (_, y) in marks_of(page).items()} == ious
    page.select_option("#colour", "macs")
    shown = page.evaluate(
        """() => document.getElementById("front").data.flatMap((t) => t.meta === "trials" ?
        t.customdata.map((row, i) => [row, t.marker.color[i]]) : [])"""
    )
    log = page.evaluate("document.getElementById('front').layout.coloraxis.cmin") < 20
    expected = {row: math.log10(t.values["macs"]) if log else t.values["macs"] for row, t in done.items()}
    assert dict(shown) == pytest.approx(expected)
    assert page.locator("#front .cbtitle").count() == 1
    assert page.evaluate("location.hash") == "#x=params&y=iou.road&colour=macs"


@pytest.mark.slow
def test_a_parameter_is_an_axis_of_its_levels(visit, written, record):
    page = visit(written)
    page.select_option("#x-axis", "arch.regseg.group_width")
    names = page.locator("#front .xaxislayer-above .xtick text").all_text_contents()
    assert names == ["8", "16"]
    for row, (x, y) in marks_of(page).items():
        trial = record.trials[row]
        assert (trial.arch["group_width"], trial.values["miou"]) == ((8, 16)[round(x)], y)
    assert len(marks_of(page)) > 10


@pytest.mark.slow
def test_ticks_of_a_log_axis_are_whole_numbers_and_follow_a_zoom(visit, written):
    page = visit(written)
    page.check("#x-log")
    texts = page.locator("#front .xtick text").all_text_contents()
    assert {"10", "20", "50"} <= set(texts)
    front_in_view(page)
    page.evaluate("Plotly.relayout('front', {'xaxis.range': [Math.log10(21), Math.log10(33)]})")
    page.wait_for_function("document.querySelectorAll('#front .xtick text').length > 3")
    texts = page.locator("#front .xtick text").all_text_contents()
    assert all(21 <= float(text) <= 33 for text in texts)
    assert len(texts) > 4


@pytest.mark.slow
def test_a_box_keeps_ranges_which_are_chips_and_in_the_link(visit, written, record):
    page = visit(written)
    everything = rows_of(page)
    front_in_view(page)
    page.click("#front [data-title='Box Select']")
    drag(page, "front", (0.05, 0.1), (0.4, 0.8))
    kept = rows_of(page)
    assert 0 < len(kept) < len(everything)
    low, high = page.evaluate("Object.values(document.getElementById('front').layout.xaxis.range)")
    inside = [row for row in everything if low + 0.05 * (high - low) < record.trials[row].values["latency_ms"]]
    assert kept <= set(inside)
    chips = page.locator("#filter-bar .chip")
    assert chips.count() == 2
    assert chips.nth(0).inner_text().startswith("latency (median): ")
    page.click(".legend button >> nth=0")
    page.select_option("#colour", "params")
    page.fill("#go-number", record_key := str(record.trials[min(kept)].number))
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#panel .title:has-text('#{record_key} ')")
    fewer, link = rows_of(page), page.evaluate("location.hash")
    assert {"range.latency_ms", "range.miou", "hide", "colour", "trial"} == {
        part.partition("=")[0] for part in link[1:].split("&")
    }
    again = visit(written, hash=link)
    assert rows_of(again) == fewer
    assert again.input_value("#colour") == "params"
    assert again.locator("#filter-bar .chip").count() == 3
    assert f"#{record_key} " in again.inner_text("#panel .title")
    again.click("#filter-bar .chip >> nth=0")
    assert again.get_attribute(".legend button >> nth=0", "aria-pressed") == "true"
    assert rows_of(again) == kept
    again.click("#filter-clear")
    assert rows_of(again) == everything
    assert "range" not in again.evaluate("location.hash")


@pytest.mark.slow
def test_a_lasso_keeps_what_lies_inside(visit, written, record):
    page = visit(written)
    everything, places = rows_of(page), marks_of(page)
    front_in_view(page)
    page.click("#front [data-title='Lasso Select']")
    drag(page, "front", (0.02, 0.02), (0.02, 0.98), (0.5, 0.02), (0.5, 0.98))
    kept = rows_of(page)
    right = max(places[row][0] for row in everything)
    assert 0 < len(kept) < len(everything)
    assert all(places[row][0] < 0.6 * right for row in kept)
    assert page.inner_text("#filter-bar .chip").startswith("inside the lasso")
    again = visit(written, hash=page.evaluate("location.hash"))
    assert rows_of(again) == kept


@pytest.mark.slow
def test_a_stretch_of_a_parallel_axis_is_a_filter(visit, written, record):
    page = visit(written)
    population_shown(page)
    everything = rows_of(page)
    axes = page.evaluate("document.getElementById('parallel').layout.meta.axes")
    left, right = page.evaluate("document.getElementById('parallel').layout.xaxis.range")
    bottom, top = page.evaluate("document.getElementById('parallel').layout.yaxis.range")
    last = (len(axes) - 1 - left) / (right - left)
    drag(
        page,
        "parallel",
        (last - 0.02, 1 - (1.05 - bottom) / (top - bottom)),
        (last + 0.02, 1 - (0.5 - bottom) / (top - bottom)),
    )
    figure, (low, high) = axes[-1]["figure"], axes[-1]["ends"]
    expected = {row for row in everything if record.trials[row].values[figure] >= (low + high) / 2}
    kept = rows_of(page)
    assert abs(len(kept) - len(expected)) <= 3  # pixels
    assert page.inner_text("#filter-bar .chip").startswith("mIoU: ")
    page.click("#filter-clear")
    first = (0 - left) / (right - left)  # the family: its upper level
    drag(
        page,
        "parallel",
        (first - 0.01, 1 - (1.06 - bottom) / (top - bottom)),
        (first + 0.02, 1 - (0.8 - bottom) / (top - bottom)),
    )
    assert {record.trials[row].arch["family"] for row in rows_of(page)} == {"regseg"}
    assert page.evaluate("location.hash") == "#only.family=regseg"


@pytest.mark.slow
def test_the_key_names_what_is_drawn(visit, written, record):
    page = visit(written)

    def key():
        return page.locator("#key > span:visible").all_inner_texts()

    assert {"on the front", "dominated", "best trade-off of these two", "limit of the study", "your budget"} <= set(
        key()
    )
    assert "over a limit, or not finished" not in key()
    page.select_option("#x-axis", "number")
    assert "best so far" in key()
    assert "limit of the study" not in key()
    line = page.evaluate("(({x, y}) => [x, y])(document.getElementById('front').data.find((t) => t.meta === 'steps'))")
    best = max(trial.values["miou"] for trial in finished_of(record).values())
    assert line[1][-1] == line[1][-2] == best
    assert line[0][-1] == max(trial.number for trial in finished_of(record).values())
    page.select_option("#x-axis", "arch.family")
    assert "best so far" not in key()
    assert any(on_front(record))


@pytest.mark.slow
def test_a_comparison_is_in_the_link(visit, written, record):
    page = visit(written)
    first, second = (record.trials[row].number for row in sorted(rows_of(page))[:2])
    published = record.published[0].name
    page = visit(written, hash=f"#compare={first}|{second}|{published}|999999&trial={second}")
    heads = page.locator("#compare thead th")
    assert heads.count() == 3
    assert f"#{first} " in heads.nth(0).inner_text()
    assert published in heads.nth(2).inner_text()
    page.click("#compare thead button >> nth=0")
    assert page.evaluate("decodeURIComponent(location.hash)") == f"#compare={second}|{published}&trial={second}"


@pytest.mark.slow
def test_one_network_with_two_seeds_has_ticks_that_differ(visit, record, tmp_path):
    best = next(trial for trial in finished_of(record).values() if trial.number in on_front_numbers(record))
    alone = replace(record, trials=tuple(replace(best, number=seed, seed=seed) for seed in range(2)), published=())
    page = visit(write_report(alone, tmp_path / "alone.html"))
    page.select_option("#x-axis", "params")
    page.uncheck("#x-log")
    ticks = page.locator("#front .xtick text").all_text_contents()
    assert len(set(ticks)) == len(ticks) > 2
    assert page.inner_text(".headline").startswith("2 trials of 1 network finished. ")


def on_front_numbers(record):
    return {trial.number for trial, on in zip(record.trials, on_front(record).tolist(), strict=True) if on}
