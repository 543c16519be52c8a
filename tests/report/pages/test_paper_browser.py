"""A report in a browser: figures saved for a paper, LaTeX and BibTeX, comparisons, and the table of every trial."""

import io
import re
import shlex
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from nasseg.analyse.trials import front_frame, outcome, trial_figures
from nasseg.report import write_report
from nasseg.report.numbers.all_trials import all_trials
from nasseg.report.parts.for_paper import bibtex, latex_front
from tests.report.fake import fake_record
from tests.report.pages.shown import opened


def copied(page):
    """What the page has put on the clipboard."""
    return page.evaluate("window.copied")


@pytest.fixture
def visit_copying(visit):
    """Visit, with the clipboard's text at hand: a browser without a window has none to share."""

    def go(*given, **options):
        page = visit(*given, **options)
        page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        return page

    return go


def saved(page, kind):
    with page.expect_download() as download:
        page.click(f"#save-figure [data-format={kind}]")
    return download.value.suggested_filename, download.value.path().read_bytes()


@pytest.mark.slow
def test_the_chart_is_saved_as_wide_as_a_column_or_a_page(visit_copying, written, record):
    page = visit_copying(written)
    page.click("#save-figure summary")
    name, svg = saved(page, "svg")
    assert name == "street-scenes-cpu-front-latency_ms-miou.svg"
    text = svg.decode()
    head = re.match(r"<svg[^>]*>", text)[0]
    assert 'width="8.5cm"' in head
    assert 'viewBox="0 0 321 241"' in head
    assert "Latency (median), ms" in text
    assert "regseg</text>" in text  # the legend
    assert "limit: max" in text
    assert "budget" not in text
    page.select_option("#save-width", "17.5")
    name, png = saved(page, "png")
    assert name.endswith("latency_ms-miou.png")
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (3 * 661, 3 * 331)
    page.select_option("#x-axis", "macs")
    page.click("#save-figure [data-format=pdf]")
    page.wait_for_selector("#save-message:has-text('nasseg figure')")
    words = shlex.split(copied(page))
    expected = ["nasseg", "figure", record.name, "--x", "macs", "--y", "miou", "--wide", "-o"]
    assert words == [*expected, "street-scenes-cpu-front-macs-miou.pdf"]
    assert page.locator(".off-screen").count() == 0


@pytest.mark.slow
def test_the_front_and_its_papers_are_copied(visit_copying, written, record):
    page = visit_copying(written)
    page.click("#copy-latex")
    page.wait_for_selector("#copy-latex:has-text('Copied')")
    assert copied(page) == latex_front(record)
    page.click("#copy-bibtex")
    page.wait_for_selector("#copy-bibtex:has-text('Copied')")
    assert copied(page) == bibtex(record)


@pytest.mark.slow
def test_the_download_has_a_column_a_figure_a_class_and_a_parameter(visit, written, record):
    page = visit(written)
    with page.expect_download() as download:
        page.click("#csv")
    frame, expected = pd.read_csv(download.value.path()), all_trials(record)
    assert list(frame) == list(expected)
    for name in ("latency_p99_ms", "iou.road", "group_width"):
        assert frame[name].tolist() == pytest.approx(expected[name].astype(float).tolist(), nan_ok=True)


@pytest.mark.slow
def test_a_comparison_begins_with_the_open_network_and_says_which_is_best(visit, written, record):
    page = visit(written)
    first, second = front_frame(record)["number"].tolist()[:2]
    page.click(f"#trial-{first} a")
    opened(page, first)
    page.check(f"#trial-{second} input")
    page.wait_for_selector(f"#compare th:has-text('#{second} ')")
    heads = page.locator("#compare thead th").all_inner_texts()
    assert [re.search(r"#(\d+)", head)[1] for head in heads] == [str(first), str(second)]
    trials = [next(t for t in record.trials if t.number == number) for number in (first, second)]
    latency = [trial_figures(t)["latency_ms"] for t in trials]
    line = page.locator("#compare tbody tr", has=page.locator("th", has_text=re.compile("^median$"))).locator("td")
    better = 0 if latency[0] < latency[1] else 1
    assert ["best" in (line.nth(i).get_attribute("class") or "") for i in (0, 1)] == [better == 0, better == 1]
    away = re.search(r"([+−][\d.]+) %", line.nth(1).inner_text())[1].replace("−", "-")  # noqa: RUF001
    assert float(away) == pytest.approx(100 * (latency[1] / latency[0] - 1), rel=0.05, abs=0.05)
    rings = page.evaluate("document.getElementById('front').data.find((t) => t.meta === 'selected').text")
    assert rings == ["<b>1</b>", "<b>2</b>"]
    assert page.locator("#compare svg.curve path").count() == 2 * page.locator("#compare svg.curve").count()
    assert page.locator("#compare svg.stages").count() == 2
    schedules = sum("dilations" in trial.arch for trial in trials)
    assert page.locator("#compare svg.schedule").count() == schedules


@pytest.mark.slow
def test_every_trial_is_found_sorted_and_opened(visit, written, record):
    page = visit(written)
    page.locator("#trials-box").scroll_into_view_if_needed()
    page.wait_for_selector("#trials-box tr[data-at]")
    assert page.inner_text("#trials-count") == f"{len(record.trials)} of {len(record.trials)}"
    assert page.locator("#trials-box tr[data-at]").count() < len(record.trials)  # only what is in sight
    page.fill("#trials-find", "regseg miou>50 latency_ms<=40 outcome=finished")
    kept = [
        t
        for t in record.trials
        if t.arch["family"] == "regseg"
        and outcome(t) == "finished"
        and trial_figures(t)["miou"] > 50
        and trial_figures(t)["latency_ms"] <= 40
    ]
    assert len(kept) > 1
    assert page.inner_text("#trials-count") == f"{len(kept)} of {len(record.trials)}"
    page.click("#trials-box th button:has-text('mIoU')")
    page.click("#trials-box th button:has-text('mIoU')")
    assert page.locator("#trials-box th[aria-sort=descending]").inner_text().startswith("mIoU")
    shown = page.locator("#trials-box tr[data-at] td:nth-child(2)").all_inner_texts()
    assert shown == [f"#{t.number}" for t in sorted(kept, key=lambda t: -trial_figures(t)["miou"])]
    page.check("#trials-box tr[data-at='1'] input")
    page.wait_for_selector(f"#compare th:has-text('{shown[1]} ')")
    assert page.locator("#trials-box tr[data-at='1'] input").is_checked()
    page.click("#trials-box tr[data-at='0'] td:nth-child(3)")
    opened(page, shown[0].removeprefix("#"))
    page.focus("#trials-box")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    opened(page, shown[1].removeprefix("#"))
    page.fill("#trials-find", "latncy>3")
    assert "There is no column latncy" in page.inner_text("#trials-count")
    page.fill("#trials-find", "miou>high")
    assert "> needs a number" in page.inner_text("#trials-count")


@pytest.mark.slow
def test_five_thousand_trials_sort_and_filter_at_once(visit, tmp_path):
    page = visit(write_report(fake_record(5000), tmp_path / "report.html"))
    page.locator("#trials-box").scroll_into_view_if_needed()
    page.wait_for_selector("#trials-box tr[data-at]")
    assert page.locator("#trials-box tr[data-at]").count() < 80
    spent = page.evaluate(
        """() => {
        const began = performance.now();
        [...document.querySelectorAll("#trials-box th button")].find((b) => b.textContent.startsWith("mIoU")).click();
        const find = document.getElementById("trials-find");
        find.value = "regseg miou>50";
        find.dispatchEvent(new Event("input"));
        return performance.now() - began;
    }"""
    )
    assert spent < 2000  # a tenth of it on a quiet machine
    page.evaluate("document.getElementById('trials-box').scrollTop = 1e6")
    page.wait_for_timeout(100)
    last = page.locator("#trials-box tr[data-at]").last.get_attribute("data-at")
    assert f"{int(last) + 1:,} of" in page.inner_text("#trials-count")


@pytest.mark.slow
def test_several_studies_have_one_table_and_save_figures_too(visit, tmp_path):
    records = [replace(fake_record(60, seed), name=f"study {seed}") for seed in (1, 2)]
    page = visit(write_report(records, tmp_path / "report.html"))
    page.click("#save-figure summary")
    assert page.locator("#save-figure [data-format=pdf]").is_hidden()
    name, svg = saved(page, "svg")
    assert name == "study-1-study-2-latency_ms-miou.svg"
    assert b"A study 1</text>" in svg
    assert page.locator("#copy-latex").is_hidden()
    page.locator("#trials-box").scroll_into_view_if_needed()
    page.wait_for_selector("#trials-box tr[data-at]")
    page.fill("#trials-find", "study=B outcome=finished")
    page.click("#trials-box tr[data-at='0'] a")
    page.wait_for_selector("#panel .title:has-text('#B')")
