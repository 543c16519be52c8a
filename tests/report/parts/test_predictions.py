"""What a page holds of predictions: each picture once, and no word where a study keeps none."""

import json
from base64 import b64decode
from dataclasses import replace

import pytest

from nasseg.analyse.trials import best_within, front_frame
from nasseg.report.pages.study_page import render
from nasseg.report.parts.predictions import NOT_KEPT
from tests.report.examples import with_made_up_examples
from tests.report.fake import fake_record, without_parameters
from tests.report.unpacked import unpacked


@pytest.fixture(scope="module")
def record():
    return without_parameters(fake_record(120, seed=2))


@pytest.fixture(scope="module")
def kept(record):
    return with_made_up_examples(record)


@pytest.mark.slow
def test_pictures_are_in_the_page_and_shared_ones_are_there_once(record, kept):
    page = render(kept, shared=True)
    block = json.loads(unpacked(page, "pictures"))
    networks = len(kept.examples)
    assert networks == len(front_frame(record)) > 3
    assert len(block["files"]) <= 4 + 2 * networks
    for row, (_classes, shown) in block["rows"].items():
        for (number, *places), example in zip(shown, kept.examples[kept.trials[int(row)].number], strict=True):
            assert number == example.number
            files = [b64decode(block["files"][place].partition(",")[2]) for place in places]
            assert files == [example.image, example.labels, example.prediction]
    pictures = sum(len(e.image) + len(e.labels) + len(e.prediction) for e in next(iter(kept.examples.values())))
    growth = len(page) - len(render(record, shared=True))
    assert growth < 2 * 45_000 * networks
    assert growth < 1.5 * (2 * pictures + sum(len(e.prediction) for known in kept.examples.values() for e in known))


def test_the_first_answer_shows_them_without_a_script(kept):
    number = best_within(kept, "latency_ms", 80.0, "miou").number
    page = render(kept, shared=True)
    assert page.count("<img ") == 6
    missing = replace(kept, examples={n: known for n, known in kept.examples.items() if n != number})
    without = render(missing, shared=True)
    assert "<img " not in without
    assert NOT_KEPT in without


def test_a_study_without_predictions_says_nothing_of_them(record):
    page = render(record, shared=True)
    assert "<img " not in page
    assert NOT_KEPT not in page.partition("<script")[0]


def test_names_of_classes_stay_text(kept):
    text = "</span><script>alert(1)</script>"
    number, known = next(iter(kept.examples.items()))
    number = best_within(kept, "latency_ms", 80.0, "miou").number
    spoilt = tuple(replace(example, classes=((text, "red'\"><script>"),)) for example in known)
    page = render(replace(kept, examples={number: spoilt}), shared=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
