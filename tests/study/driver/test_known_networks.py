"""What happens to the driver when processes die, budgets end and the same network comes again at a bad moment."""

from collections import Counter

import pytest
from optuna.trial import TrialState

from nasseg.study.driver import driver as module
from nasseg.study.engines.jobs import Job
from nasseg.study.store.candidate import Candidate
from tests.study.fakes import FakeEngine, make_driver, make_study

COMPLETE, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING
PAUSES = 30


@pytest.fixture
def url(tmp_path):
    return f"{tmp_path}/s.log"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """A driver that would wait for ever fails."""
    pauses = iter(range(PAUSES))
    monkeypatch.setattr("nasseg.study.driver.housekeeping.HOUSEKEEPING_SECONDS", 0.0)
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)

    def pause(_driver):
        if next(pauses, None) is None:
            pytest.fail("the driver waits for ever")
        return []

    monkeypatch.setattr(module.Driver, "_pause", pause)


def one_network(**options):
    return FakeEngine(workers=1, arch_id=lambda settings: "one", **options)


def begin(driver, kind="train"):
    """Until a job of this kind is given to a worker."""
    driver.ended_trials.sync()
    driver.fill()
    while not any(job.kind == kind for job in driver.engine.jobs):
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
        driver.fill()


def states(driver):
    return [trial.state for trial in driver.record.trials()]


def test_when_the_hours_are_over_what_waits_is_left_for_another_call(url):
    stopped = make_driver(url, trials=1, engine=FakeEngine(workers=1))
    begin(stopped)
    assert stopped.stop("the search was stopped") == 1
    late = make_driver(url, trials=1, hours=1e-9)
    assert late.run() == "the 1e-09 hours are over: 1 of 1 trials are done"
    assert make_driver(url, trials=1).run() == "all 1 trials are done"


def test_what_was_timed_before_a_stop_is_not_timed_again(url):
    stopped = make_driver(url, trials=1, engine=FakeEngine(workers=1))
    begin(stopped)
    stopped.stop("the search was stopped")
    again = make_driver(url, trials=1)
    again.run()
    assert [job.kind for job in again.engine.done] == ["train"]


def test_a_requeued_network_is_not_trained_beside_one_that_waited_for_it(url):
    """A is killed while it trains; B has the same network parked, and takes A's trial up."""
    killed = make_driver(url, trials=4, engine=one_network())
    begin(killed)
    other = make_driver(url, trials=4, engine=one_network())
    other.housekeeping._watch.is_stale = lambda number, lease: False
    while not other.parked.items:
        other.housekeeping.turn()
        other.fill()
        for result in other.engine.wait(0):
            other.outcomes.handle(result)
    other.housekeeping._watch.is_stale = lambda number, lease: True
    other.housekeeping.turn()  # re-queues
    other.housekeeping.turn()  # and looks after what it has parked
    while not (other.record.trials(COMPLETE) and not other.at_work.items):
        other.housekeeping.turn()
        other.fill()
        for result in other.engine.wait(0):
            other.outcomes.handle(result)
        if len(other.record.trials()) > PAUSES:
            break
    assert len(other.engine.trained()) == 1
    complete = other.record.trials(COMPLETE)
    assert sum("reused_from" not in trial.user_attrs for trial in complete) == 1


def test_a_network_that_waits_to_be_trained_is_not_trained_beside_it(url):
    """It is re-queued while another process has the same network costed."""
    stopped = make_driver(url, trials=4, engine=one_network())
    begin(stopped)
    other = make_driver(url, trials=4, engine=one_network())
    begin(other, "cost")
    stopped.stop("the search was stopped")
    while not other.record.trials(COMPLETE):
        for result in other.engine.wait(0):
            other.outcomes.handle(result)
        other.housekeeping.turn()
        other.fill()
    other.housekeeping.turn()
    assert len(other.engine.trained()) == 1
    trials = other.record.trials(COMPLETE)
    assert [trial.user_attrs.get("retry_of", trial.user_attrs.get("reused_from")) for trial in trials[:2]] == [0, 1]


def test_a_requeued_network_that_another_process_finished_meanwhile_is_not_trained(url):
    stopped = make_driver(url, trials=1, engine=one_network())
    begin(stopped)
    stopped.stop("the search was stopped")
    (waiting,) = stopped.record.trials(TrialState.WAITING)
    candidate, key = Candidate.of(waiting), waiting.user_attrs["eval_key"]
    known = one_network().measure(Job(0, "train", candidate.settings, candidate.measurement, key))
    other = stopped.record.claim(candidate, key, {}, {})
    stopped.record.complete(other, [known.accuracy.miou, known.cost.macs], {"measurement": known.to_json()})
    last = make_driver(url, trials=1, engine=one_network())
    assert last.run() == "all 1 trials are done"
    assert last.engine.trained() == []
    assert states(last)[-2:] == [COMPLETE, COMPLETE]


def test_a_job_whose_lease_is_lost_before_a_worker_had_it_is_dropped(url):
    slow = make_driver(url, trials=1, engine=FakeEngine(workers=1))
    slow.ended_trials.sync()
    slow.fill()
    while not slow.at_work._ready:
        for result in slow.engine.wait(0):
            slow.outcomes.handle(result)
    (trial,) = slow.record.trials(RUNNING)
    make_driver(url).record.requeue(trial, "its process is gone")  # it was suspended for a while
    slow.housekeeping._renewed = -1e9
    slow.housekeeping.turn()
    assert slow.at_work.take() is None
    assert not slow.at_work.items
    slow.fill()


def test_a_network_over_a_limit_that_training_decides_is_trained_once(url, monkeypatch):
    monkeypatch.setattr("nasseg.study.driver.next_jobs.MAX_REJECTIONS", 20)
    study = make_study(limits="{miou: {min: 99.9}}")
    engine = FakeEngine(workers=1, arch_id=lambda settings: settings["family"])
    driver = make_driver(url, study, engine, trials=3)
    for _ in range(60):
        driver.housekeeping.turn()
        driver.fill()
        for result in engine.wait(0):
            driver.outcomes.handle(result)
    assert len(engine.trained()) == 2  # the families of the space
    assert set(states(driver)) == {PRUNED}
    reused = [trial for trial in driver.record.trials() if "reused_from" in trial.user_attrs]
    assert {trial.user_attrs["reason"] for trial in reused} == {"miou is under the limit of 99.9"}


def test_limits_hold_for_what_a_published_network_is_exempt_from(url):
    """The published network is over a limit and finished; the same network drawn from the space is rejected."""
    study = make_study(published="[regseg]")
    engine = FakeEngine(workers=1, arch_id=lambda settings: settings["family"], macs=slow_regseg)
    driver = make_driver(url, study, engine, trials=1)
    driver.run()
    by_family = {}
    for trial in driver.record.trials():
        by_family.setdefault(("published" in trial.user_attrs, trial.user_attrs["arch"][12:18]), trial.state)
    assert by_family[True, "regseg"] == COMPLETE
    assert by_family.get((False, "regseg"), PRUNED) == PRUNED


def slow_regseg(settings):
    return 90_000_000 if settings["family"] == "regseg" else 1_000_000


def test_a_published_network_is_trained_to_the_end_though_its_twin_was_stopped(url):
    halving = "{rungs: [2], factor: 9}"
    first, second = (FakeEngine(workers=1, arch_id=lambda settings: settings["family"]) for _ in range(2))
    make_driver(url, make_study(halving=halving), first, trials=2).run()
    study = make_study(halving=halving, published="[regseg, bisenetv2]")
    driver = make_driver(url, study, second, trials=2)
    driver.run()
    published = [trial for trial in driver.record.trials() if "published" in trial.user_attrs]
    assert [trial.state for trial in published] == [COMPLETE, COMPLETE]
    assert [job.until for job in second.trained()] == [None]  # the other was finished in the first search


@pytest.mark.parametrize(("trials", "rungs"), [(1, "[2]"), (2, "[2]"), (3, "[2, 5]"), (8, "[2, 5]")])
def test_a_small_search_with_halving_finishes_a_network(url, trials, rungs):
    driver = make_driver(url, make_study(halving=f"{{rungs: {rungs}, factor: 3}}"), trials=trials)
    assert driver.run() == f"all {trials} trials are done"
    assert 1 <= states(driver).count(COMPLETE) <= max(1, trials // 3)


TWO_NETWORKS = """
about: two networks, three trainings of each
parameters:
  family: regseg
  width: [0.25, 0.5]
  recipe.learning_rate: [0.01, 0.05, 0.1]
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "two.yaml").write_text(TWO_NETWORKS)
    return make_study(space=str(tmp_path / "two.yaml"))


def kinds(driver):
    return Counter(job.kind for job in driver.engine.done)


def test_trainings_of_one_network_share_its_latency(url, study):
    driver = make_driver(url, study, FakeEngine(workers=3))
    assert driver.run() == "all 6 trials are done"
    assert kinds(driver) == {"cost": 6, "latency": 2, "train": 6}
    trials = driver.record.trials(COMPLETE)
    asked = {(job.settings["width"], job.recipe["learning_rate"]) for job in driver.engine.trained()}
    assert asked == {(width, rate) for width in (0.25, 0.5) for rate in (0.01, 0.05, 0.1)}
    assert len({trial.user_attrs["eval_key"] for trial in trials}) == 6
    assert len({(trial.user_attrs["arch_id"], trial.user_attrs["latency_ms"]) for trial in trials}) == 2


def test_a_latency_of_an_earlier_call_is_shared(url, study):
    first = make_driver(url, study, trials=4)
    first.run()
    later = make_driver(url, study)
    assert later.run() == "all 6 trials are done"
    assert kinds(first)["latency"] + kinds(later)["latency"] == 2


def test_a_network_that_is_too_slow_is_timed_once_and_never_trained(url, study):
    driver = make_driver(url, study, FakeEngine(workers=2, macs=lambda settings: 60_000_000))
    assert driver.run() == "every architecture in the space was tried"
    assert kinds(driver) == {"cost": 6, "latency": 2}
    assert states(driver) == [PRUNED] * 6
    assert {trial.user_attrs["reason"] for trial in driver.record.trials()} == {"latency_ms is over the limit of 50"}


def test_where_a_timing_fails_the_next_training_times_the_network(url, study):
    failed = []

    def spoil(job):
        if job.kind == "latency" and not failed:
            failed.append(job)
            return "the operator is not supported"
        return None

    driver = make_driver(url, study, FakeEngine(workers=3, spoil=spoil))
    driver.run()
    assert kinds(driver) == {"cost": 6, "latency": 3, "train": 5}
