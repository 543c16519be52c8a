"""Reports of studies of every kind in a browser: nothing fails, and axe finds nothing serious, in light and dark."""

from dataclasses import replace
from pathlib import Path

import pytest

from nasseg.analyse.trials import outcome
from nasseg.records import Objective
from nasseg.report import write_report
from tests.report.fake import fake_record
from tests.report.pages.shown import rows_of

AXE = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"


def objectives(record, *names):
    """The study with other objectives: the values are those measured."""
    known = {o.name: o for o in record.objectives}
    known["params"] = Objective(name="params", unit="", direction="minimize")

    def of(trial):
        cost = trial.measurement.cost if trial.measurement else None
        values = {**trial.values, "params": float(cost.params)} if trial.values and cost else trial.values
        return replace(trial, values={name: values[name] for name in names if name in values})

    return replace(record, objectives=tuple(known[name] for name in names), trials=tuple(map(of, record.trials)))


def early(record):
    """The study before a network has finished."""
    return replace(record, trials=tuple(t for t in record.trials if outcome(t) not in ("finished", "reused")))


def first(record, finished):
    """The study up to that many finished networks."""
    done = [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]
    return replace(record, trials=record.trials[: done[finished - 1] + 1])


def serious(page):
    """What axe calls serious or critical: rule, element, and why."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(
        """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
        .filter(({ impact }) => ["serious", "critical"].includes(impact))
        .flatMap(({ id, nodes }) => nodes.slice(0, 5).map((n) => [id, n.html.slice(0, 160), n.failureSummary]))"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("trials", [1, 2, 24, 286, 5000])
def test_studies_of_every_size(visit, tmp_path, trials):
    record = fake_record(trials)
    page = visit(write_report(record, tmp_path / "report.html"))
    done = {row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"}
    assert rows_of(page) == done or not done
    page.wait_for_timeout(1800)  # what is drawn later


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing", "one network", "early"])
def test_studies_that_have_just_begun(visit, browser, tmp_path, name):
    record = fake_record(40)
    made = {"nothing": replace(record, trials=()), "one network": first(record, 1), "early": early(record)}[name]
    path = write_report(made, tmp_path / "report.html")
    if name == "nothing":  # no chart to wait for
        page, problems = browser.new_page(), []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready=yes]")
        page.wait_for_timeout(300)
        page.close()
        assert problems == []
        return
    page = visit(path)
    if name == "early":
        assert page.inner_text("#front-title") == "Cost and latency so far"
        rows = {row for row, trial in enumerate(made.trials) if trial.measurement}
        both = {row for row in rows if made.trials[row].measurement.latency}
        assert rows_of(page) == both
        assert page.text_content("#front .xtitle") == "Latency (median), ms"
        page.select_option("#x-axis", "params")
        assert rows_of(page) == rows
        assert page.locator("#key > span:visible", has_text="not finished").count() == 1
    page.wait_for_timeout(1800)


@pytest.mark.slow
@pytest.mark.parametrize("names", [("miou",), ("latency_ms",), ("miou", "latency_ms", "macs", "params")])
def test_one_and_four_objectives(visit, tmp_path, names):
    page = visit(write_report(objectives(fake_record(60), *names), tmp_path / "report.html"))
    page.wait_for_timeout(1800)
    if len(names) == 1:
        assert page.input_value("#x-axis") == "number"
        steps = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'steps').y")
        assert steps == sorted(steps, reverse=names == ("latency_ms",))
        assert len(steps) > 2


def long_names():
    """A study whose name, family and objective are long words."""
    long = "a-name-of-seventy-letters-without-a-space-" * 2
    record = fake_record(60)
    label = "weighted-agreement-of-the-boundaries-of-thin-things-at-night-in-the-rain"

    def of(trial):
        arch = {**trial.arch, "family": long[:70]} if trial.arch and trial.arch["family"] == "regseg" else trial.arch
        own = {label: {"value": 1.0 + trial.number, "unit": "", "phase": "trained", "source": "own.py:f", "hash": ""}}
        m = replace(trial.measurement, custom=own) if trial.measurement else None
        return replace(trial, arch=arch, measurement=m, values={**trial.values, label: 1.0 + trial.number})

    objective = Objective(name=label, unit="", direction="maximize")
    made = replace(
        record, name=long, objectives=(objective, *record.objectives[1:]), trials=tuple(map(of, record.trials))
    )
    return replace(
        made, trials=tuple(replace(t, values={k: v for k, v in t.values.items() if k != "miou"}) for t in made.trials)
    )


@pytest.mark.slow
def test_long_names_break_no_layout(visit, tmp_path):
    path = write_report(long_names(), tmp_path / "report.html")
    for width in (390, 1024, 1440):
        page = visit(path, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        inside = page.evaluate(
            """() => { const chart = document.getElementById("front").getBoundingClientRect();
            return [...document.querySelectorAll("#front .xtitle, #front .ytitle")].every((t) => {
            const box = t.getBoundingClientRect();
            return box.left >= chart.left - 1 && box.right <= chart.right + 1 && box.top >= chart.top - 1; }); }"""
        )
        assert inside


@pytest.mark.slow
@pytest.mark.skipif(not AXE.exists(), reason="no node_modules: run npm ci")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["one", "several", "index"])
def test_axe_finds_nothing_serious(visit, browser, records_of, kind, scheme):
    path = records_of(kind)
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.goto(path.as_uri())
    if kind != "index":
        page.wait_for_selector("body[data-drawn=yes]")
        page.locator("details").evaluate_all("all => all.forEach((fold) => (fold.open = true))")
        page.click(".legend button >> nth=0")
        page.click("#front-table tbody tr:visible a >> nth=0")
        page.wait_for_selector("#panel .title .state")
        page.wait_for_timeout(1800)
        dark = page.evaluate("document.getElementById('front')._fullLayout.paper_bgcolor")
        assert dark == ("white" if scheme == "light" else "#12181f")
    found = serious(page)
    page.close()
    assert found == []


@pytest.fixture
def records_of(tmp_path):
    def write(kind):
        record = fake_record(60)
        if kind == "several":
            return write_report([record, fake_record(40, seed=4)], tmp_path / "several.html")
        path = write_report(record, tmp_path / "one.html", shared=kind == "index")
        return path.with_name("index.html") if kind == "index" else path

    return write


@pytest.mark.slow
def test_colours_follow_the_system_and_paper_is_light(visit, written):
    page = visit(written)

    def ground():
        return page.evaluate("document.getElementById('front')._fullLayout.plot_bgcolor")

    assert ground() == "white"
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert ground() == "#12181f"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert ground() == "white"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert ground() == "#12181f"
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(300)
    assert ground() == "white"
