"""How well cheap figures rank mIoU, on records where that is known."""

from dataclasses import replace
from random import Random

import pytest

from nasseg.analyse.early_figures import cheap_figures_frame
from nasseg.analyse.trials import outcome
from nasseg.report.sections.cheap_figures import cheap_table
from tests.report.fake import fake_record


def record_with(miou, trials=60):
    """The made-up study with mIoU a function of multiply-adds, and a figure of the user's own that runs against it."""
    record = fake_record(trials)
    rows = []
    for trial in record.trials:
        m = trial.measurement
        if outcome(trial) == "finished" and m and m.accuracy and m.cost:
            value = miou(m.cost.macs)
            custom = {"own": {"value": -value, "phase": "cost"}, "late": {"value": value, "phase": "trained"}}
            m = replace(m, accuracy=replace(m.accuracy, miou=value), custom=custom)
            trial = replace(trial, measurement=m, values={**trial.values, "miou": value})
        rows.append(trial)
    return replace(record, trials=tuple(rows))


def test_a_figure_that_orders_as_miou_does_has_tau_one_and_its_opposite_minus_one():
    frame = cheap_figures_frame(record_with(lambda macs: macs**0.5)).set_index("figure")
    assert frame.loc["macs", "tau"] == pytest.approx(1)
    assert frame.loc["own", "tau"] == pytest.approx(-1)
    assert "late" not in frame.index  # it is known only after training
    assert "miou" not in frame.index


def test_the_interval_narrows_with_networks_and_holds_zero_for_noise():
    widths = []
    draws = Random(0)
    for trials in (60, 400):
        row = cheap_figures_frame(record_with(lambda macs: draws.random(), trials)).set_index("figure")
        low, high = row.loc["macs", ["low", "high"]]
        widths.append(high - low)
        assert low < 0 < high
    assert widths[1] < widths[0]


def test_too_few_networks_say_nothing():
    assert cheap_figures_frame(record_with(lambda macs: macs, trials=8)).empty
    assert cheap_table(record_with(lambda macs: macs, trials=8)) is None
    assert "+1.00" in cheap_table(record_with(lambda macs: macs**0.5))
