"""A job's result: what a worker hands back of one network."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from nasseg.records import LatencyProtocol
from nasseg.report.parts.network_panel import trial_detail
from nasseg.study.engines import jobs
from nasseg.study.engines.jobs import Job, Workshop
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
