"""The first screen in a browser: the answer beside the chart, its buttons, and what networks predict."""

import shlex

import pytest

from nasseg.analyse.trials import best_within, front_frame
from nasseg.report import write_report
from tests.report.examples import with_made_up_examples
from tests.report.fake import fake_record
from tests.report.pages.shown import opened

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept():
    record = fake_record(150)
    last = front_frame(record)["number"].tolist()[-1]
    return with_made_up_examples(record, but=(last,))


@pytest.fixture(scope="module")
def page_file(kept, tmp_path_factory):
    return write_report(kept, tmp_path_factory.mktemp("answer") / "report.html")


def loaded(page, where):
    """The pictures that are shown there and could be decoded, by their descriptions."""
    page.wait_for_selector(f"{where} img")
    return page.evaluate(
        """async (where) => {
        const pictures = [...document.querySelectorAll(`${where} img`)];
        await Promise.all(pictures.map((picture) => picture.decode()));
        return pictures.map((picture) => [picture.alt, picture.naturalWidth]);
    }""",
        where,
    )


@pytest.mark.parametrize(("width", "beside"), [(1440, True), (1024, True), (390, False)])
def test_the_answer_is_on_the_first_screen(visit, page_file, width, beside):
    page = visit(page_file, width)
    answer, chart = (page.locator(name).bounding_box() for name in ("#answer", "#front"))
    assert answer["y"] + answer["height"] < 900
    if beside:
        assert answer["x"] + answer["width"] < chart["x"]
        assert chart["y"] + chart["height"] < 900
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_its_buttons_copy_a_command_that_exports_it(visit, page_file, kept):
    page = visit(page_file)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy-export")
    page.wait_for_selector("#copy-export:has-text('Copied')")
    number = best_within(kept, "latency_ms", 80.0, "miou").number
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert words == ["nasseg", "export", f"{kept.name}#{number}", "-o", f"street-scenes-cpu-front-{number}.onnx"]
    page.click("#copy-link")
    page.wait_for_selector("#copy-link:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()").startswith(page_file.as_uri())


def test_predictions_are_in_the_answer_the_panel_and_side_by_side(visit, page_file, kept):
    page = visit(page_file)
    shown = loaded(page, "#answer-pictures")
    assert [width for _, width in shown] == [320] * 6
    assert shown[0][0] == "image of validation image 33"
    before = page.get_attribute("#answer-pictures img >> nth=2", "src")
    page.fill("#budget-value", "20")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.querySelectorAll('#answer-pictures img')[2]?.getAttribute('src') !== before", arg=before
    )
    first, second, *_, last = front_frame(kept)["number"].tolist()
    page.click(f"#trial-{first} a")
    opened(page, first)
    assert len(loaded(page, "#panel")) == 6
    page.click(f"#trial-{last} a")
    assert "No predictions of this network are kept" in opened(page, last)
    assert page.locator("#panel img").count() == 0
    for number in (first, second, last):
        page.check(f"#trial-{number} input")
    page.wait_for_selector("#compare .predictions img >> nth=7")
    found = [alt for alt, _ in loaded(page, "#compare")]
    assert len(found) == 2 * (2 + 2)
    assert sum(f"of #{second} " in alt for alt in found) == 2
    assert page.locator("#compare .predictions .note").count() == 2
