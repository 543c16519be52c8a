"""The reference network's time: taken once a study, and what every latency is a multiple of."""

from dataclasses import replace

import pytest

from nasseg.records import BY_ITSELF, IN_TURNS, Measurement
from nasseg.study.engines.jobs import Result
from nasseg.study.search.reference_time import keep_reference, reference_ms
from tests.study.fakes import LATENCY, FakeEngine, make_driver, make_study

PROTOCOL = replace(LATENCY, rule=IN_TURNS)


class ReferenceEngine(FakeEngine):
    """The reference takes 3 ms."""

    def __init__(self, disturbed=False, before=lambda: None):
        super().__init__()
        self.disturbed, self.before = disturbed, before

    def wait(self, _timeout):
        job = self.jobs.pop()
        self.done.append(job)
        self.before()
        latency = replace(self.measure(job).latency, p50_ms=3.0, disturbed=self.disturbed)
        return [Result(job.candidate, job.kind, Measurement(arch_id="reference", latency=latency))]


@pytest.fixture
def record(tmp_path):
    return make_driver(str(tmp_path / "s.log")).record


def keep(record, engine, lines=None, protocol=PROTOCOL):
    return keep_reference(record, protocol, engine, lambda: None, (lines if lines is not None else []).append)


def test_it_is_timed_once_and_kept(record):
    first, second, lines = ReferenceEngine(), ReferenceEngine(), []
    assert keep(record, first, lines) == keep(record, second, lines) == 3.0
    assert [job.kind for job in first.done] == ["reference"]
    assert not second.done
    assert not lines
    assert reference_ms(record.attributes()) == 3.0


def test_of_two_searches_that_begin_at_once_the_first_one_decides(record):
    other = {"latency_reference": {"ms": 2.5, "disturbed": False}}
    assert keep(record, ReferenceEngine(before=lambda: record.set_attributes(other))) == 2.5


def test_a_busy_beginning_is_said(record):
    lines = []
    assert keep(record, ReferenceEngine(disturbed=True), lines) == 3.0
    assert "the reference network takes 3 ms beside other work" in lines[0]


def test_a_target_has_none(record):
    engine = ReferenceEngine()
    assert keep(record, engine, protocol=replace(PROTOCOL, rule=BY_ITSELF)) is None
    assert not engine.done


def test_every_latency_job_knows_it(tmp_path):
    engine = FakeEngine()
    driver = make_driver(str(tmp_path / "t.log"), engine=engine, trials=2, reference_ms=3.0)
    driver.run()
    assert {job.reference_ms for job in engine.done if job.kind == "latency"} == {3.0}


@pytest.mark.parametrize(("latency", "rule"), [("{device: cpu}", IN_TURNS), ("{backend: command}", BY_ITSELF)])
def test_the_rule_is_part_of_a_studys_protocol(latency, rule):
    assert make_study(latency=latency).file.latency.protocol((64, 128), 3).rule == rule
