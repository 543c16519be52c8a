"""All trials as one table: a column a figure, a class and a parameter."""

from dataclasses import replace

from nasseg.report.numbers.all_trials import all_trials, figure_name
from tests.report.fake import CLASSES, fake_record


def test_each_percentile_class_and_field_has_a_column():
    record = fake_record(60)
    frame = all_trials(record)
    assert frame.columns.is_unique
    assert {f"iou.{name}" for name in CLASSES} <= set(frame)
    for trial, row in zip(record.trials, frame.to_dict("records"), strict=True):
        if trial.measurement and trial.measurement.latency:
            assert row["latency_p90_ms"] == trial.measurement.latency.p90_ms
            assert row["latency_p99_ms"] == trial.measurement.latency.p99_ms
        if trial.accuracy:
            assert row["iou.road"] == round(trial.accuracy.class_iou["road"], 4)
        if trial.arch and "dilations" in trial.arch:
            assert row["dilations"] == trial.arch["dilations"]
    assert set(frame["outcome"]) >= {"finished", "rejected", "stopped"}


def test_nested_fields_are_flat_and_names_of_figures_stay_apart():
    record = fake_record(4)
    arch = {"family": "composed", "params": 3, "encoder_settings": {"depth": 2}}
    trials = tuple(replace(trial, arch=arch) for trial in record.trials)
    frame = all_trials(replace(record, trials=trials))
    assert set(frame["encoder_settings.depth"]) == {2}
    assert set(frame["arch.params"]) == {3}


def test_a_figure_is_named_by_study_and_axes():
    assert figure_name("a b/c", "latency_ms", "iou.road") == "a-b-c-latency_ms-iou.road"
