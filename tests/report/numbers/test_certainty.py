"""How certain a front is, and what a page says where that is not known."""

import json
from dataclasses import replace

import pytest

from nasseg.analyse.trials import front_frame, front_probabilities
from nasseg.report.pages.study_page import render
from tests.report.fake import fake_record, without_parameters
from tests.report.unpacked import unpacked


@pytest.fixture(scope="module")
def record():
    return without_parameters(fake_record(120, seed=2))


@pytest.mark.slow
def test_one_seed_gives_no_probability(record):
    page = render(record)
    assert front_probabilities(record) is None
    assert "stays on the front" not in page.lower()
    assert "certainty is not known: no network has a second seed" in page
    first = next(row for row, trial in enumerate(record.trials) if trial.number == front_frame(record)["number"][0])
    groups = {group["title"]: group for group in json.loads(unpacked(page, "details"))[first]["groups"]}
    latency = record.trials[first].measurement.latency
    low, high = latency.p50_ms - latency.iqr_ms / 2, latency.p50_ms + latency.iqr_ms / 2
    assert groups["Certainty"]["figures"] == [["latency, middle half of its runs", f"{low:.4g} to {high:.4g} ms"]]
    assert "Each has only one seed, so another seed may change the order." in page


@pytest.mark.slow
def test_certainty_is_in_the_table_and_in_the_panel(record):
    # Another seed of the first network of the front.
    first = next(t for t in record.trials if t.number == front_frame(record)["number"][0])
    accuracy = replace(
        first.measurement.accuracy, protocol=replace(first.measurement.accuracy.protocol, seed=1), miou=50.0
    )
    again = replace(first, number=len(record.trials), measurement=replace(first.measurement, accuracy=accuracy))
    again = replace(again, values={**first.values, "miou": 50.0})
    record = replace(record, trials=(*record.trials, again))
    page = render(record)
    assert "as over the seeds of the one network that has several" in page
    details = json.loads(unpacked(page, "details"))
    names = [name for group in details[first.number]["groups"] for name, _ in group["figures"]]
    assert f"mIoU over 2 seeds (also #{again.number})" in names
    row = int(front_probabilities(record).argmax())
    (sure,) = [group for group in details[row]["groups"] if group["title"] == "Certainty"]
    assert sure["figures"][0][0] == "stays on the front"
    assert "too close to call with" in page
