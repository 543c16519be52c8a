"""A job's result: what a worker hands back of one network."""

from dataclasses import replace
from pathlib import Path

from nasseg.records import LatencyProtocol
from nasseg.report.details import trial_detail
from nasseg.study.jobs import Job, Workshop
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
