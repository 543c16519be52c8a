"""A latency that was taken beside other work rejects no network for good."""

from dataclasses import replace

import pytest
from optuna.trial import TrialState

from nasseg.records import Measurement
from nasseg.study.driver import claiming
from tests.study.fakes import FakeEngine, make_driver

COMPLETE, PRUNED, FAIL, WAITING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING


class BusyEngine(FakeEngine):
    """Networks take 9 ms. The first `busy` timings of each take `ms` beside other work, and `lower_ms` at the least.

    The limit of the study is 50 ms.
    """

    def __init__(self, busy, ms=90.0, lower_ms=60.0):
        super().__init__()
        self.busy, self.ms, self.lower_ms, self.timed = busy, ms, lower_ms, {}

    def measure(self, job):
        found = super().measure(job)
        if job.kind != "latency":
            return found
        self.timed[found.arch_id] = self.timed.get(found.arch_id, 0) + 1
        quiet = replace(found.latency, p50_ms=9.0, p90_ms=9.0, p99_ms=9.0)
        busy = replace(quiet, p50_ms=self.ms, p90_ms=self.ms, p99_ms=self.ms, disturbed=True, lower_ms=self.lower_ms)
        return replace(found, latency=busy if self.timed[found.arch_id] <= self.busy else quiet)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(claiming, "AGAIN_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr("nasseg.study.driver.housekeeping.HOUSEKEEPING_SECONDS", 0.0)


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "s.log")


def ended(driver, state):
    return [trial for trial in driver.record.trials() if trial.state == state]


def test_a_network_in_doubt_is_timed_again_and_trained(url):
    engine = BusyEngine(busy=2)
    driver = make_driver(url, engine=engine, trials=3)
    assert driver.run() == "all 3 trials are done"
    assert set(engine.timed.values()) == {3}
    assert {trial.user_attrs["latency_ms"] for trial in ended(driver, COMPLETE)} == {9.0}
    assert not ended(driver, PRUNED)


def test_it_is_trained_where_it_may_well_be_within_the_limit(url):
    engine = BusyEngine(busy=99, lower_ms=40.0)
    driver = make_driver(url, engine=engine, trials=3)
    assert driver.run() == "all 3 trials are done"
    assert set(engine.timed.values()) == {1}
    assert len(ended(driver, COMPLETE)) == 3
    assert all(Measurement.from_json(t.user_attrs["measurement"]).latency.disturbed for t in ended(driver, COMPLETE))


def test_a_quiet_latency_over_the_limit_rejects_as_ever(url):
    engine = BusyEngine(busy=1, lower_ms=60.0)
    driver = make_driver(url, engine=engine, trials=1)
    quiet = engine.measure
    slow = {"p50_ms": 70.0, "p90_ms": 70.0, "p99_ms": 70.0}

    def measure(job):
        found = quiet(job)
        first = len(engine.timed) == 1 and job.kind == "latency" and not found.latency.disturbed
        return replace(found, latency=replace(found.latency, **slow)) if first else found

    engine.measure = measure
    assert driver.run() == "all 1 trials are done"
    (rejected,) = ended(driver, PRUNED)
    assert rejected.user_attrs["reason"] == "latency_ms is over the limit of 50"


def test_what_could_not_be_timed_waits_for_another_call(url):
    driver = make_driver(url, engine=BusyEngine(busy=99), trials=3)
    reason = driver.run()
    assert reason.startswith("0 of 3 trials are done; 3 more could not be timed")
    assert "run the same command again" in reason
    assert len(ended(driver, WAITING)) == 3
    assert not ended(driver, PRUNED)
    assert all(trial.user_attrs["fault"] == "interrupted" for trial in ended(driver, FAIL))
    engine = BusyEngine(busy=0)
    again = make_driver(url, engine=engine, trials=3)
    assert again.run() == "all 3 trials are done"
    assert len(ended(again, COMPLETE)) == len(engine.timed) == 3


def test_a_stopped_search_times_what_was_in_doubt_again(url, monkeypatch):
    monkeypatch.setattr(claiming, "AGAIN_SECONDS", (1e6,))
    driver = make_driver(url, engine=BusyEngine(busy=99), trials=1)
    driver.fill()
    while driver.at_work.items:
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
        driver.fill()
    assert len(driver.parked.items) == 1
    assert driver.stop("the search was stopped") == 1
    engine = BusyEngine(busy=0)
    again = make_driver(url, engine=engine, trials=1)
    again.run()
    assert [trial.user_attrs["latency_ms"] for trial in ended(again, COMPLETE)] == [9.0]
    assert len(engine.timed) == 1
