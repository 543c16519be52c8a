"""A figure is what nasseg.figures says it is, wherever it is shown, compared or limited."""

import math
from dataclasses import fields, replace

import pytest

from nasseg.figures import FIGURES, all_figures, figure_in, find_figure, value_of
from nasseg.records import Accuracy, Cost, Latency
from nasseg.study.limits import in_doubt, over_limit
from tests.report.fake import fake_record

PARTS = {"cost": Cost, "latency": Latency, "accuracy": Accuracy}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=lambda figure: figure.name)
def test_every_figure_has_a_label_and_a_place_in_its_part(figure):
    part = PARTS[figure.part]
    assert "_" not in figure.label
    assert figure.attribute in {field.name for field in fields(part)} | {*vars(part)}


@pytest.fixture(scope="module")
def measurement():
    return next(trial.measurement for trial in fake_record(60).trials if trial.accuracy)


def test_all_figures_are_those_of_each_figure(measurement):
    known = all_figures(measurement)
    assert known == {name: figure.of(measurement) for name, figure in FIGURES.items() if name in known}
    assert {"miou_reduced", "latency_p99_ms", "peak_activation_bytes"} <= {*known}


@pytest.mark.parametrize(("side", "bound"), [("max", 1.0), ("min", 1.0)])
def test_a_figure_that_is_not_a_number_breaks_its_limit_and_the_reason_says_so(measurement, side, bound):
    broken = replace(measurement, accuracy=replace(measurement.accuracy, miou=math.nan))
    assert over_limit({"miou": {side: bound}}, broken) == "miou has a limit, but its value is not a number"


@pytest.mark.parametrize(
    ("lower_ms", "limit", "broken"),
    [
        (8.0, {"max": 12.0}, None),
        (13.0, {"max": 12.0}, "latency_ms is over the limit of 12"),
        (None, {"max": 12.0}, None),
        (8.0, {"min": 10.0}, None),
        (8.0, {"min": 30.0}, "latency_ms is under the limit of 30"),
    ],
)
def test_a_latency_taken_beside_other_work_breaks_a_limit_only_if_it_cannot_keep_it(
    measurement, lower_ms, limit, broken
):
    latency = replace(measurement.latency, p50_ms=20.0, disturbed=True, lower_ms=lower_ms)
    doubtful, limits = replace(measurement, latency=latency), {"latency_ms": limit}
    assert over_limit(limits, doubtful) == broken
    assert in_doubt(limits, doubtful) == (broken is not None)
    quiet = replace(measurement, latency=replace(latency, disturbed=False))
    assert (over_limit(limits, quiet) is None) == (limit == {"min": 10.0})
    assert not in_doubt(limits, quiet)


def test_a_figure_of_a_users_own_has_its_unit_and_part_in_a_study(measurement):
    entry = {"value": 3.0, "unit": "mJ", "phase": "latency", "source": "energy.py:energy", "hash": "0"}
    measured = replace(measurement, custom={"energy": entry})
    study = fake_record(60)
    trial = replace(next(t for t in study.trials if t.accuracy), measurement=measured)
    figure = figure_in(replace(study, trials=(trial,)), "energy")
    assert (figure.unit, figure.part, figure.text(3.0)) == ("mJ", "latency", "3 mJ")
    assert value_of("energy", measured) == 3.0
    assert value_of("power", measured) is None


def test_the_iou_of_a_class_is_a_figure(measurement):
    name = next(iter(measurement.accuracy.class_iou))
    assert find_figure(f"iou.{name}").of(measurement) == measurement.accuracy.class_iou[name]
    assert find_figure(f"iou.{name}").label == f"IoU of {name}"
