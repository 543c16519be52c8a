"""Figures for papers: their size, fonts and text, read back from the files."""

import re
import sys
from dataclasses import replace

import pytest
from PIL import Image

from nasseg.errors import UserError
from nasseg.report.charts.in_print import log_ticks, save_front
from nasseg.report.numbers.any_axis import with_axes
from nasseg.report.numbers.front_view import view_of
from tests.report.fake import fake_record
from tests.slow import slow

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def record():
    return replace(fake_record(120), limits={"latency_ms": {"max": 50.0}})


@pytest.fixture
def saved(record, tmp_path):
    def save(name, x="latency_ms", y="miou", **options):
        target = tmp_path / name
        save_front(with_axes(view_of(record), record, (x, y)), x, y, target, **options)
        return target

    return save


@pytest.mark.parametrize(("wide", "width_cm"), [(False, 8.5), slow(True, 17.5)])
def test_a_pdf_is_as_wide_as_a_column_or_a_page_and_holds_text_in_its_fonts(saved, wide, width_cm):
    found = saved("front.pdf", wide=wide).read_bytes()
    assert found.startswith(b"%PDF")
    width, height = map(float, re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", found).groups())
    assert width / 72 * 2.54 == pytest.approx(width_cm, abs=0.01)
    assert width > 1.2 * height
    assert re.findall(rb"/Subtype /(?:TrueType|CIDFontType2)", found)
    assert b"DejaVuSans" in found
    assert b"/Subtype /Type3" not in found  # which publishers refuse
    assert b"CreationDate" not in found
    assert saved("again.pdf", wide=wide).read_bytes() == found


def test_an_svg_holds_its_words_as_text(saved, record):
    text = saved("front.svg").read_text()
    words = set(re.findall(r"<text[^>]*>([^<]+)</text>", text))
    assert {"Latency (median), ms", "mIoU, %", "regseg", "bisenetv2", "published", "limit 50 ms"} <= words
    assert {"10", "20", "50"} <= words  # of the axis with logarithms
    assert {point.name for point in record.published} & words
    assert "budget" not in text
    sizes = {float(size) for size in re.findall(r"font: ([\d.]+)px", text)}
    assert sizes <= {7.0, 8.0}


@pytest.mark.slow
def test_a_png_has_300_dots_an_inch(saved):
    with Image.open(saved("front.png")) as image:
        assert image.size[0] == pytest.approx(8.5 / 2.54 * 300, abs=1)


@pytest.mark.slow
def test_any_column_is_an_axis_and_texts_are_categories(saved):
    words = re.findall(r"<text[^>]*>([^<]+)</text>", saved("a.svg", "aggregation", "iou.road").read_text())
    assert {"bga", "sum", "Aggregation", "IoU of road, %"} <= set(words)
    assert "Width" in saved("b.svg", "width", "latency_p99_ms").read_text()
    of_page = saved("c.svg", "arch.bisenetv2.width", "miou").read_text()  # the page's name of it
    assert "Bisenetv2.width" in of_page


@pytest.mark.slow
def test_names_with_signs_of_mathematics_are_text(record, tmp_path):
    point = replace(record.published[0], name="$\\frac{1}$ & <b>")
    save_front(view_of(replace(record, published=(point,))), "latency_ms", "miou", tmp_path / "a.svg")
    assert "$\\frac{1}$ &amp; &lt;b&gt;" in (tmp_path / "a.svg").read_text()


def test_ticks_of_logarithms_are_few_and_round():
    assert log_ticks(8, 80) == [10, 20, 50]
    assert log_ticks(5e8, 7e9) == [5e8, 1e9, 2e9, 5e9]
    assert log_ticks(12, 45) == [20, 30, 40]
    assert log_ticks(1, 1e6) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]


def test_what_cannot_be_drawn_is_said(saved, record, monkeypatch):
    with pytest.raises(UserError, match=r"a figure is a \.pdf, \.svg or \.png, got .*front\.jpg; choose another name"):
        saved("front.jpg")
    with pytest.raises(UserError, match=r"'latency'.*latency_ms"):
        saved("front.pdf", "latency")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'nasseg\[figures\]'"):
        saved("front.pdf")
