"""Figures of another study that were got in the same way are taken, and nothing is trained again."""

import shutil

import pytest

from nasseg.analyse.trials import on_front
from nasseg.errors import UserError
from nasseg.study.search.run_study import run_study
from nasseg.study.store.read_study import read_study
from nasseg.study.study_file import load_study
from nasseg.train import session
from tests.study.fakes import search_here

GPU = """
question: What is accurate?
expected: seconds
space: quickstart
data: {name: scenes, size: [32, 64], train: 4, val: 2}
objectives: [miou, macs]
recipe: {steps: 2, batch_size: 2}
latency: {warmup: 1, min_replicates: 1, min_seconds: 0}
trials: 4
"""
# Another latency protocol, objective and limit: the accuracy protocol is the same.
BOARD = GPU.replace("[miou, macs]", "[miou, latency_ms]").replace("min_replicates: 1", "min_replicates: 2")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder in which one of the two studies was run."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "gpu.yaml").write_text(GPU)
    (folder / "board.yaml").write_text(BOARD)
    with pytest.MonkeyPatch.context() as patch:
        search_here(patch, folder)
        run_study(load_study("gpu.yaml"))
    return folder


@pytest.fixture
def home(searched, tmp_path, monkeypatch):
    """A copy of that folder."""
    shutil.copytree(searched, tmp_path / "home")
    search_here(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


def finished(record):
    return [trial for trial in record.trials if trial.state == "COMPLETE"]


@pytest.mark.slow
def test_a_reused_study_is_timed_and_not_trained(home, monkeypatch):
    def train(*_arguments, **_options):
        raise AssertionError("a training step was run")

    gpu = finished(run_study(load_study("gpu.yaml")).record)
    monkeypatch.setattr(session, "train", train)
    board = finished(run_study(load_study("board.yaml"), reuse="gpu.yaml").record)
    assert len(board) == len(gpu) == 4
    by_id = {trial.measurement.arch_id: trial for trial in gpu}
    for trial in board:
        other = by_id[trial.measurement.arch_id]
        assert trial.measurement.accuracy == other.measurement.accuracy
        assert trial.extra["accuracy_from"] == f"gpu#{other.number}"
        assert trial.measurement.latency.protocol.min_replicates == 2
        assert trial.values["miou"] == other.values["miou"]


@pytest.mark.slow
def test_what_is_left_over_is_trained_and_nothing_is_tried_twice(home):
    board = finished(run_study(load_study("board.yaml"), reuse="gpu", trials=3).record)
    assert all("accuracy_from" in trial.extra for trial in board)
    board = finished(run_study(load_study("board.yaml"), reuse="gpu", trials=6).record)
    assert sum("accuracy_from" in trial.extra for trial in board) == 4
    assert len({trial.measurement.arch_id for trial in board}) == 6


@pytest.mark.slow
def test_another_accuracy_protocol_is_refused_and_the_difference_named(home):
    (home / "longer.yaml").write_text(BOARD.replace("steps: 2", "steps: 3"))
    with pytest.raises(UserError, match=r"'gpu' has nothing to reuse: .*steps is 2 there, 3 here"):
        run_study(load_study("longer.yaml"), reuse="gpu")
    with pytest.raises(UserError, match=r"gpx"):
        run_study(load_study("board.yaml"), reuse="gpx")


@pytest.mark.slow
def test_a_search_may_start_from_another_front_and_measures_it_anew(home):
    (home / "longer.yaml").write_text(BOARD.replace("steps: 2", "steps: 3"))
    record = read_study("gpu")
    on = [trial.measurement.arch_id for trial, front in zip(record.trials, on_front(record), strict=True) if front]
    longer = finished(run_study(load_study("longer.yaml"), start_from="gpu", trials=len(on)).record)
    assert {trial.measurement.arch_id for trial in longer} == set(on)
    assert {trial.measurement.accuracy.protocol.steps for trial in longer} == {3}
    (home / "other.yaml").write_text(BOARD.replace("space: quickstart", "space: stdc"))
    with pytest.raises(UserError, match="no network on its front that space 'stdc' holds"):
        run_study(load_study("other.yaml"), start_from="gpu")
