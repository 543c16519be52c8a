"""A report in a browser: what the reader sets, and whether Python says the same."""

import re

import numpy as np
import pytest

from nasseg.analyse.parameters import edf_frame, importance_frame, population_of, weights
from nasseg.analyse.trials import best_within, on_front, outcome
from nasseg.report.numbers.columns import figures_of
from nasseg.report.numbers.content import content_of
from nasseg.report.numbers.front_view import view_of
from nasseg.report.parts.answer import answer
from nasseg.report.sections import population as population_section
from tests.report.pages.shown import plain, population_shown, rows_of


@pytest.mark.slow
def test_the_slider_changes_the_answer_and_python_says_the_same(visit, written, record):
    page = visit(written)
    content = content_of(record)

    def said():
        return page.text_content("#answer")

    def expected(name):
        budget = page.input_value("#budget-value").replace(",", "")
        number, scale = re.fullmatch(r"([\d.]+)\s*([kMGT]?)", budget).groups()
        return plain(answer(content, name, float(number) * 1000 ** " kMGT".index(scale or " ")))

    first = said()
    assert first == expected("latency_ms")
    assert "1 seed, 1,200 steps, val split, AMD EPYC 9R14, 1 thread, fp32." in first
    box = page.locator("#budget-slider").bounding_box()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    assert said() != first
    assert "the best published network within this budget" in said()
    budget = float(page.input_value("#budget-value"))
    best = best_within(record, "latency_ms", budget, "miou")
    ring = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'answer')")
    trial = record.trials[best.number]
    assert (ring["x"], ring["y"]) == ([trial.values["latency_ms"]], [trial.values["miou"]])
    heard = set()
    for name in ("latency_ms", "macs", "params"):
        page.select_option("#budget-figure", name)
        page.focus("#budget-slider")
        for key in ["Home", *["PageUp"] * 9, "ArrowRight", "End"]:
            page.keyboard.press(key)
            assert said() == expected(name)
            heard.add(said())
    assert len(heard) > 15
    page.fill("#budget-value", "1 M")
    page.keyboard.press("Enter")
    assert said() == expected("params")
    page.fill("#budget-value", "3")
    page.keyboard.press("Enter")
    assert said() == "No finished network is within 3 and all limits of the study."
    assert page.locator("#copy-export").is_hidden()
    # The budget is a line where its figure is an axis.
    page.select_option("#budget-figure", "latency_ms")
    page.fill("#budget-value", "25")
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    shapes = page.evaluate("document.getElementById('front').layout.shapes.map((s) => [s.x0, s.label.text])")
    assert [25, "budget"] in shapes


@pytest.mark.slow
def test_a_filter_links_every_figure_the_tables_and_the_answer(visit, written, record):
    page = visit(written)
    population_shown(page)
    page.select_option("#parameter", "family")
    page.click("#filters summary")
    page.select_option("select[data-parameter='regseg.group_width']", label="16")
    page.fill("input[data-figure=latency_ms][data-side=max]", "60")
    page.wait_for_selector("#filter-bar:has-text('finished networks')")
    page.wait_for_timeout(400)
    finished = [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]

    def kept(trial):
        return trial.arch.get("group_width") == 16 and trial.values["latency_ms"] <= 60

    expected = {row for row in finished if kept(record.trials[row])}
    assert 5 < len(expected) < len(finished) / 2
    assert f"{len(expected)} of {len(finished)} finished" in page.inner_text("#filter-bar")
    assert rows_of(page) == expected
    front = on_front(record)
    shown = page.locator("#front-table tbody tr:visible").evaluate_all("rows => rows.map((row) => row.id)")
    assert set(shown) == {f"trial-{record.trials[row].number}" for row in expected if front[row]}
    line = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'steps').customdata")
    best, steps = -1.0, []
    for row in sorted(expected, key=lambda row: record.trials[row].values["latency_ms"]):
        if record.trials[row].values["miou"] > best:
            best, steps = record.trials[row].values["miou"], [*steps, row]
    assert line == steps
    assert rows_of(page, "effects", "networks") <= expected
    assert rows_of(page, "parallel", "lines") <= expected
    assert rows_of(page, "parallel", "lines") >= {row for row in expected if front[row]}
    gains = page.evaluate("document.getElementById('hypervolume').data[1].customdata")
    assert set(gains) <= expected
    within = [row for row in expected if record.trials[row].values["latency_ms"] <= 20]
    page.select_option("#budget-figure", "latency_ms")
    page.fill("#budget-value", "20")
    page.keyboard.press("Enter")
    first = max(within, key=lambda row: record.trials[row].values["miou"])
    assert page.text_content("#answer").startswith(f"#{record.trials[first].number} ")
    page.click("#filter-clear")
    assert rows_of(page) == set(finished)
    assert page.locator("#filter-bar").is_hidden()
    assert page.input_value("input[data-figure=latency_ms][data-side=max]") == ""


@pytest.mark.slow
def test_distributions_of_what_a_filter_keeps_weigh_every_cost_alike(visit, written, record):
    page = visit(written)
    population_shown(page)
    population = population_of(record)
    page.select_option("#parameter", "family")
    whole = edf_frame(population, "family")
    shown = page.evaluate("document.getElementById('edf').data.map((t) => [t.customdata, t.y])")
    for (rows, share), (_, part) in zip(shown, whole.groupby("value", observed=True), strict=True):
        assert rows == [-1, *part["row"]]
        assert share == pytest.approx([0, *part["share"]], abs=1e-5)
    page.click("#filters summary")
    page.fill("input[data-figure=miou][data-side=min]", "46")
    page.wait_for_selector("#filter-bar:has-text('finished networks')")
    frame = whole[whole["target"] >= 46]
    common = frame.groupby("bin")["value"].nunique() == 2
    assert common.sum() > 0
    frame = frame[frame["bin"].map(common)].copy()
    frame["weight"] = weights(frame["value"].cat.codes.to_numpy(), frame["bin"].to_numpy())
    shown = page.evaluate("document.getElementById('edf').data.map((t) => [t.customdata, t.y])")
    for (rows, share), (_, part) in zip(shown, frame.groupby("value", observed=True), strict=True):
        assert rows == [-1, *part["row"]]
        assert np.allclose(share, [0, *part["weight"].cumsum()])


@pytest.mark.slow
def test_a_parameter_is_chosen_by_name_or_in_the_chart_and_python_says_whether_it_matters(visit, written, record):
    page = visit(written)
    population_shown(page)
    population = population_of(record)
    frame = importance_frame(population)
    target = figures_of(record, view_of(record))["miou"]
    for row in frame.itertuples():
        page.select_option("#parameter", row.parameter)
        assert page.inner_text("#verdict") == population_section.sentence(row, population, target)
        means = page.evaluate("document.getElementById('effects').data.find((t) => t.meta === 'means').y")
        known = [value for value in population.fits[row.parameter].effects if value == value]
        assert means == pytest.approx(known)
    page.evaluate("document.getElementById('importance').scrollIntoView({block: 'center'})")
    mark = page.locator("#importance .points path").first
    box = mark.bounding_box()
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*centre)
    page.wait_for_timeout(200)
    page.mouse.click(*centre)
    first = page.evaluate("document.getElementById('importance').data.find((t) => t.x.length).customdata[0]")
    assert page.input_value("#parameter") == first
    assert first == frame["parameter"][0]
