"""Budgets, over all processes of a study: trials, hours, minutes a trial."""

import pytest
from optuna.trial import TrialState

from nasseg.study.driver import budget
from nasseg.study.driver.budget import Stopwatch
from nasseg.study.store.trial_attributes import counts
from tests.slow import slow
from tests.study.fakes import FakeEngine, make_driver, make_study

FAIL, COMPLETE, RUNNING = TrialState.FAIL, TrialState.COMPLETE, TrialState.RUNNING


class Clock:
    """A monotonic clock that is set by hand, and a value that processes share."""

    def __init__(self, monkeypatch):
        self.now, self.shared = 100.0, 0.0
        monkeypatch.setattr(budget.time, "monotonic", lambda: self.now)

    def stopwatch(self):
        return Stopwatch(lambda: self.shared, lambda seconds: setattr(self, "shared", seconds))


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_a_pause_counts_nothing(clock):
    watch = clock.stopwatch()
    clock.now += 10
    assert watch.tick() == 10
    clock.now += 1000  # nobody works
    watch = clock.stopwatch()
    clock.now += 5
    assert watch.tick() == 15


def test_processes_side_by_side_count_once(clock):
    one, other = clock.stopwatch(), clock.stopwatch()
    for _ in range(50):
        clock.now += 1
        one.tick()
        clock.now += 1
        other.tick()
    assert 98 <= clock.shared <= 100


def test_the_one_that_lives_goes_on_counting(clock):
    one, other = clock.stopwatch(), clock.stopwatch()
    for _ in range(5):
        clock.now += 2
        one.tick()
        other.tick()
    del one  # killed
    for _ in range(5):
        clock.now += 2
        other.tick()
    assert 18 <= clock.shared <= 20


@pytest.fixture(params=["journal", slow("sqlite")])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else str(tmp_path / "s.log")


@pytest.mark.slow
def test_hours_end_a_search_and_its_continuation(url, monkeypatch):
    clock = Clock(monkeypatch)

    def spoil(job):
        clock.now += 60.0 if job.kind == "train" else 0.0

    first = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil), trials=100, hours=0.1)
    assert first.run() == "the 0.1 hours are over: 6 of 100 trials are done"
    again = make_driver(url, trials=100, hours=0.1)
    assert again.run() == "the 0.1 hours are over: 6 of 100 trials are done"
    more = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil), trials=100, hours=0.2)
    assert more.run().endswith("12 of 100 trials are done")


def test_what_runs_when_the_hours_are_over_is_finished(url, monkeypatch):
    clock = Clock(monkeypatch)

    def spoil(job):
        clock.now += 3600.0 if job.kind == "train" else 0.0

    driver = make_driver(url, engine=FakeEngine(workers=4, spoil=spoil), trials=100, hours=0.1)
    driver.run()
    assert [trial.state for trial in driver.record.trials()] == [COMPLETE] * 4


def test_a_job_that_takes_too_long_fails_its_trial_and_the_search_goes_on(url, monkeypatch):
    hung, clock = [], Clock(monkeypatch)

    def hang(job):
        if job.kind == "train" and not hung:
            hung.append(job.candidate)
        hangs = job.kind == "train" and job.candidate == hung[0]
        clock.now += 1.0 if hangs else 0.0
        return hangs

    engine = FakeEngine(hang=hang)
    driver = make_driver(url, engine=engine, trials=6, max_trial_minutes=0.05)
    driver.run()
    trials = driver.record.trials()
    assert [trial.user_attrs["reason"] for trial in trials if trial.state == FAIL] == [
        "longer than max_trial_minutes of 0.05"
    ]
    assert [trial.state for trial in trials].count(COMPLETE) == 5
    assert not engine.jobs


def test_the_last_trial_of_a_budget_is_begun_by_one_process_only(url):
    """Both processes cost a candidate for the one place that is left."""
    one, other = make_driver(url, trials=1), make_driver(url, trials=1, seed=1)
    for driver in (one, other):
        driver.fill()
    assert one.engine.jobs
    assert other.engine.jobs
    for driver in (one, other):
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
    assert sum(counts(trial) for trial in one.record.trials()) == 1
    one.run()
    other.run()
    states = [trial.state for trial in one.record.trials()]
    assert sorted(state.name for state in states) == ["COMPLETE", "FAIL"]


def test_published_networks_and_copies_are_outside_the_budget(url):
    study = make_study(published="[bisenetv2, regseg]")
    driver = make_driver(url, study, trials=3)
    driver.run()
    states = [trial.state for trial in driver.record.trials()]
    assert states == [COMPLETE] * 5
