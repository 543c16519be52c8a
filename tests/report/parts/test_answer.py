"""The answer to a budget: which figure has it first, and what is said of a network besides its figures."""

import re
from dataclasses import replace
from html import unescape

import pytest

from nasseg.analyse.trials import best_within
from nasseg.records import PublishedPoint
from nasseg.report.numbers.content import content_of
from nasseg.report.parts.answer import answer, answer_beside, data
from tests.report.fake import fake_record


@pytest.fixture(scope="module")
def record():
    return fake_record(120, seed=2)


def said(content, figure, budget):
    return unescape(re.sub("<[^>]*>", "", answer(content, figure, budget)))


def first(record):
    """The figure and the budget that the page begins with."""
    markup = answer_beside(content_of(record))
    return re.search(r'value="(\w+)" selected', markup)[1], float(re.search(r'data-start="([^"]+)"', markup)[1])


def test_the_budget_begins_at_the_studys_own_limit(record):
    assert first(record) == ("latency_ms", 80.0)
    assert first(replace(record, limits={"macs": {"max": 5e9}})) == ("macs", 5e9)
    figure, budget = first(replace(record, limits={}))
    assert figure == "latency_ms"
    assert best_within(replace(record, limits={}), figure, budget, "miou") is not None


def test_its_weakest_classes_and_what_it_rests_on_are_named(record):
    number = best_within(record, "latency_ms", 80.0, "miou").number
    trial = record.trials[number]
    iou = {**trial.accuracy.class_iou, "pole": 0.0, "fence": 3.25}
    accuracy = replace(trial.accuracy, class_iou=iou)
    trial = replace(trial, measurement=replace(trial.measurement, accuracy=accuracy))
    trials = tuple(trial if row == number else other for row, other in enumerate(record.trials))
    shown = replace(record, trials=trials, identity={"accuracy protocol": {"steps": 1200}})
    text = said(content_of(shown), "latency_ms", 80.0)
    lowest = min(value for name, value in iou.items() if value is not None and name not in ("pole", "fence"))
    assert re.search(rf"Weakest classes: pole 0.0 %, fence 3.2 %, [a-z ]+ {lowest:.1f} %", text)
    assert "Best with latency (median) up to 80 ms. Based on 1 seed, 1,200 of 1,200 steps, val split" in text
    assert "AMD EPYC 9R14, 1 thread, fp32." in text
    assert answer(content_of(shown), "latency_ms", 80.0).count('class="poor"') == 2


def test_a_published_network_over_the_budget_is_named_with_it(record):
    big = PublishedPoint(name="Big", citation="", family="x", figures={"latency_ms": 90.0, "miou": 70.0, "macs": 1e9})
    content = content_of(replace(record, limits={}, published=(big,)))
    assert "Published Big: 70 %, but latency (median) 90 ms, over the budget of 30 ms." in said(
        content, "latency_ms", 30.0
    )
    within = said(content, "latency_ms", 90.0)
    assert "Big, the best published network within this budget." in within
    content = content_of(replace(record, published=(big,)))
    assert "Published Big: 70 %, but latency (median) 90 ms, over the limit of 80 ms." in said(
        content, "latency_ms", 30.0
    )


def test_the_script_has_a_card_for_each_network_that_may_answer(record):
    content = content_of(record)
    found = data(content)
    assert set(found["cards"]) == set(content.view.front["regseg"] + content.view.front["bisenetv2"]) | {
        row for rows in (content.view.dominated, content.view.over) for part in rows.values() for row in part
    }
    assert len(found["bases"]) == 1
    assert "7".join(found["export"]) == "nasseg export 'street-scenes/cpu-front#7' -o street-scenes-cpu-front-7.onnx"
