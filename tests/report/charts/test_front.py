"""The chart of the front: its axes, its lines, and marks that can be seen."""

import json
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from nasseg.analyse.parameters import edf_frame, population_of
from nasseg.analyse.trials import outcome
from nasseg.report.charts.front import EDGES, _front, front_figure, plain_figure
from nasseg.report.charts.parameters import edf_figure
from nasseg.report.html.one_file import resource
from nasseg.report.numbers.front_view import view_of
from nasseg.report.pages.study_page import render
from tests.report.fake import fake_record
from tests.report.unpacked import unpacked


@pytest.fixture(scope="module")
def record():
    return fake_record(120, seed=2)


def test_every_figure_that_differs_is_an_axis(record):
    axes = view_of(record).axes
    assert list(axes)[:3] == [objective.name for objective in record.objectives]
    assert {"params", "latency_p99_ms", "peak_activation_bytes", "number", "iou.road"} <= set(axes)
    assert "activations" not in axes  # the same in all
    assert "iou.train" not in axes  # in no image
    trial = next(t for t in record.trials if outcome(t) == "finished")
    assert view_of(record).columns["iou.road"][trial.number] == round(trial.measurement.accuracy.class_iou["road"], 2)


def test_over_the_trials_the_line_is_the_best_so_far(record):
    (line,) = [t for t in front_figure(view_of(record), "number", "miou").data if t.meta == "steps"]
    best, expected = 0.0, []
    for trial in record.trials:
        if outcome(trial) == "finished" and trial.values["miou"] > best:
            best = trial.values["miou"]
            expected.append((trial.number, best))
    assert list(zip(line.x, line.y, strict=True)) == expected


def test_plain_figures_are_those_that_plotly_checks_and_writes(record):
    view = view_of(record)
    whole = json.loads(json.dumps(front_figure(view).to_plotly_json()))
    assert json.loads(json.dumps(plain_figure(*_front(view)))) == whole
    population = population_of(record)
    rows = {row: row + 7 for row in population.figures.index[::2]}
    distribution = edf_figure(edf_frame(population, str(population.choices.columns[0])), view.axes["miou"], rows)
    assert go.Figure(distribution).to_plotly_json() == distribution
    assert {row for trace in distribution["data"] for row in trace["customdata"]} <= {-1, *rows.values()}


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("paper", ["#ffffff", "#12181f"])
def test_pale_marks_stand_out_from_a_light_and_a_dark_page(record, paper):
    assert paper == "#ffffff" or f"--paper: {paper};" in resource("page.css")
    data = front_figure(view_of(record)).data
    opacity = min(trace.marker.opacity for trace in data if trace.meta == "trials")
    for edge in EDGES:
        mixed = [opacity * int(edge[i : i + 2], 16) + (1 - opacity) * int(paper[i : i + 2], 16) for i in (1, 3, 5)]
        low, high = sorted([luminance(paper), luminance("#" + "".join(f"{round(c):02x}" for c in mixed))])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_before_a_network_has_finished_cost_is_shown_over_latency(record):
    early = replace(record, trials=tuple(t for t in record.trials if outcome(t) not in ("finished", "reused")))
    view = view_of(early)
    assert (view.x, view.y) == ("latency_ms", "macs")
    rows = [row for row, trial in enumerate(early.trials) if trial.measurement]
    assert view.drawn == rows
    page = render(early)
    assert "no network has finished yet" in page
    data = json.loads(unpacked(page, "payload"))
    assert data["rows"]["finished"] == rows
    assert data["rows"]["unfinished"]
    assert "hypervolume" not in data or data["hypervolume"] is None
