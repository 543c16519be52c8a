"""A job's result: what a worker hands back of one network."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nasseg.errors import Fault
from nasseg.families import arch_of
from nasseg.figures import Figure
from nasseg.own_code import load_code
from nasseg.records import LatencyProtocol
from nasseg.report.parts.network_panel import trial_detail
from nasseg.study.engines import jobs
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.own_figures import try_on
from nasseg.study.search.run_study import prepare
from nasseg.train import checkpoint
from tests.report.fake import fake_record
from tests.study.fakes import make_context, make_study

SETTINGS = {"family": "dabnet", "width": 0.125}


def test_latency_comes_with_that_of_each_part():
    protocol = LatencyProtocol(
        device="cpu", input_size=(64, 128), num_classes=3, warmup=1, min_replicates=3, min_seconds=0
    )
    workshop = Workshop(replace(make_context(make_study()), latency=protocol, weights=Path()))
    cost = workshop.run(Job(0, "cost", SETTINGS))
    assert all(stage.width > 0 for stage in cost.measurement.cost.stages if stage.macs and stage.stride)
    latency = workshop.run(Job(0, "latency", SETTINGS, cost.measurement)).measurement.latency
    assert list(latency.parts_ms) == ["encoder", "decoder", "head", "upsampling"]
    assert all(ms > 0 for ms in latency.parts_ms.values())
    assert latency.parts_ms["encoder"] > latency.parts_ms["head"]


def test_the_panel_shows_the_parts_and_their_share():
    record = fake_record(30)
    trial = next(trial for trial in record.trials if trial.measurement and trial.measurement.latency)
    latency = replace(trial.measurement.latency, parts_ms={"encoder": 3.0, "head": 1.0})
    trial = replace(trial, measurement=replace(trial.measurement, latency=latency))
    detail = trial_detail(record, trial, False)
    assert [(name, share) for name, _ms, share in detail["parts"]] == [("encoder", 75.0), ("head", 25.0)]


@pytest.mark.slow
def test_a_training_that_is_lost_in_mid_rung_loses_five_minutes_at_most(tmp_path, monkeypatch):
    study = make_study(
        data="{name: scenes, size: [32, 64], train: 8, val: 4}", recipe="{steps: 12, batch_size: 2, warmup_steps: 0}"
    )
    context, _ = prepare(study, None, 0)
    context, clock, steps = replace(context, weights=tmp_path), [time.monotonic()], []
    monkeypatch.setattr(checkpoint, "monotonic", lambda: clock[0])

    def minute(_candidate, step, _loss):
        """Each step takes one; at the ninth the worker is gone."""
        clock[0] += 60
        steps.append(step)
        if len(steps) == 9:
            raise SystemExit

    cost = Workshop(context).run(Job(0, "cost", SETTINGS)).measurement
    job = Job(0, "train", SETTINGS, cost, key="k", until=10)
    with pytest.raises(SystemExit):
        Workshop(context, minute).run(job)
    assert Workshop(context, minute).run(job).measurement.accuracy.protocol.steps == 10
    assert steps[:9] == list(range(1, 10))
    assert 9 - 5 < steps[9] <= 9
    assert steps[9:] == list(range(steps[9], 11))


def test_patience_with_a_busy_machine_runs_out_and_comes_back(monkeypatch):
    monkeypatch.setenv("NASSEG_PATIENCE", "60")
    workshop, asked, quiet = Workshop(make_context(make_study())), [], [False, False, True, False]
    latency = next(t.measurement.latency for t in fake_record(30).trials if t.measurement and t.measurement.latency)

    def measure(*_, patience, **__):
        asked.append(patience)
        return replace(latency, disturbed=not quiet[len(asked) - 1])

    monkeypatch.setattr(jobs, "measure_latency", measure)
    for _ in quiet:
        assert workshop.run(Job(0, "reference", {})).measurement.latency.disturbed is not None
    assert asked == [60.0, 30.0, 15.0, 60.0]


# A figure that says in which way its caller holds the CPU: 2 alone, 1 beside others, 0 not.
TURN = """
import fcntl
from nasseg.measure.latency.device_lock import DeviceLock

def turn(model, measurement):
    lock = DeviceLock("cpu")
    try:
        for value, kind in ((2, fcntl.LOCK_SH), (1, fcntl.LOCK_EX)):
            try:
                fcntl.flock(lock._body, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return value
        return 0
    finally:
        lock.close()
"""


def with_turns(tmp_path):
    """Return a study's context whose own figures, one a phase, say how the device is held."""
    (tmp_path / "own.py").write_text(TURN)
    own = tuple(
        Figure(f"turn_{phase}", "", "minimize", phase, "own.py:turn") for phase in ("cost", "latency", "trained")
    )
    study = make_study(
        data="{name: scenes, size: [32, 64], train: 8, val: 4}",
        recipe="{steps: 2, batch_size: 2, warmup_steps: 0}",
        latency="{warmup: 0, min_replicates: 1, min_seconds: 0}",
    )
    context, _ = prepare(study, None, 0)
    code = {"own.py:turn": load_code("own.py:turn", tmp_path)[1]}
    return replace(context, figures=own, folder=tmp_path, code=code, weights=tmp_path)


@pytest.mark.slow
def test_own_figures_have_the_device_alone_where_latency_is_known(tmp_path):
    workshop, measured = Workshop(with_turns(tmp_path)), None
    for kind in ("cost", "latency", "train"):
        result = workshop.run(Job(0, kind, SETTINGS, measured, key="k"))
        assert not result.fault, result.reason
        measured = result.measurement
    assert {name: entry["value"] for name, entry in measured.custom.items()} == {
        "turn_cost": 1.0,
        "turn_latency": 2.0,
        "turn_trained": 1.0,
    }


def test_own_figures_are_tried_in_their_turn(tmp_path, monkeypatch):
    context, seen = with_turns(tmp_path), []
    monkeypatch.setattr(
        "nasseg.study.own_figures.custom_entry", lambda _figure, value, _hash: (seen.append(value), {"value": value})[1]
    )
    try_on(arch_of(SETTINGS), context, ["road"], "space")
    assert seen == [1, 2, 1]


def on_a_gpu(monkeypatch, raised):
    """Return a workshop of a study on a GPU, whose jobs raise."""
    context = make_context(make_study())
    protocol = replace(context.latency, device="cuda")
    workshop = Workshop(replace(context, device="cuda", latency=protocol))

    def fail(_job):
        raise raised

    monkeypatch.setattr(workshop, "_cost", fail)
    return workshop


@pytest.mark.slow
def test_memory_that_a_neighbour_holds_is_not_the_networks_fault(two_gpus, monkeypatch):
    workshop = on_a_gpu(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    assert workshop.run(Job(0, "cost", SETTINGS)).fault is Fault.OUT_OF_MEMORY
    two_gpus.free, two_gpus.reserved = 10, 45
    result = workshop.run(Job(0, "cost", SETTINGS))
    assert result.fault is Fault.CROWDED
    assert "out of memory on cuda, of which other processes hold 45%" in result.reason
    assert "fewer workers" in result.reason


def test_an_idle_worker_gives_its_memory_back(two_gpus, monkeypatch):
    on_a_gpu(monkeypatch, torch.OutOfMemoryError("CUDA out of memory")).run(Job(0, "cost", SETTINGS))
    assert two_gpus.calls[-2:] == ["empty_cache", "synchronize"]
    two_gpus.calls.clear()
    broken = on_a_gpu(monkeypatch, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert broken.run(Job(0, "cost", SETTINGS)).fault is Fault.DEVICE
    assert "empty_cache" not in two_gpus.calls


def test_a_worker_whose_memory_cannot_be_freed_is_broken(two_gpus, monkeypatch):
    workshop = on_a_gpu(monkeypatch, ValueError("of the network's own"))

    def fails():
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "empty_cache", fails)
    assert workshop.run(Job(0, "cost", SETTINGS)).fault is Fault.DEVICE
