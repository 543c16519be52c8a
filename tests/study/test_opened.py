"""A study opened in a notebook: tables with a column a figure and a parameter, and charts of any columns."""

import pandas as pd
import pytest

from nasseg.analyse.trials import front_frame, on_front
from nasseg.errors import UserError
from nasseg.study.opened import OpenStudy
from tests.report.fake import fake_record


@pytest.fixture(scope="module")
def study():
    return OpenStudy(fake_record())


def test_trials_have_a_column_a_figure_and_a_column_a_parameter(study):
    trials = study.trials()
    assert len(trials) == len(study.record.trials)
    assert {"miou", "latency_ms", "macs", "params", "activations", "field_of_view"} <= set(trials)
    assert trials.columns.is_unique
    for trial, row in zip(study.record.trials, trials.to_dict("records"), strict=True):
        for name, value in (trial.arch or {}).items():
            assert row[name] == value
        if trial.measurement and trial.measurement.cost:
            assert row["activations"] == trial.measurement.cost.activations


def test_the_front_is_the_records_in_its_order(study):
    front = study.front()
    assert front["on_front"].all()
    assert front["number"].tolist() == front_frame(study.record)["number"].tolist()
    assert len(front) == on_front(study.record).sum()


@pytest.mark.slow
def test_charts_draw_what_is_asked_for(study):
    trials = study.trials()
    finished = trials[(trials["state"] == "COMPLETE") & trials["reused_from"].isna()]
    ours = [len(trace.x) for trace in study.plot_front().data if trace.meta == "trials"]
    assert sum(ours) == len(finished)
    by_field = study.plot_front(x="params", y="miou", color="field_of_view")
    assert sorted(by_field.data[0].x) == sorted(finished["params"])
    assert list(by_field.data[0].marker.color) == finished["field_of_view"].tolist()
    assert len(by_field.data[1].x) == len(study.front())
    parameter = next(
        name
        for name in finished
        if pd.api.types.is_string_dtype(finished[name]) and name not in ("state", "arch_id", "reason")
    )
    assert {trace.name for trace in study.plot_front(color=parameter).data} > {"on the front"}
    assert "none" in {trace.name for trace in study.plot_front(color="aggregation").data}
    assert len(study.plot_hypervolume().data[0].x) > 1


def test_a_column_that_is_not_there_is_named_with_the_nearest(study):
    with pytest.raises(UserError, match=r"'latency'.*latency_ms"):
        study.plot_front(x="latency")


def test_it_says_what_it_is(study):
    assert repr(study).startswith(f"study {study.record.name}: ")
    assert study._repr_html_().count("<tr") == len(study.front()) + 1
