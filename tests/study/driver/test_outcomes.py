"""Workers that die and devices that break: jobs are tried again, and no network is blamed for its surroundings."""

import pytest
from optuna.trial import TrialState

from nasseg.errors import Fault, UserError
from tests.study.fakes import FakeEngine, make_driver

COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "s.log")


def states(driver):
    return [trial.state for trial in driver.record.trials()]


def test_a_worker_that_dies_gets_its_job_again(url):
    deaths = []

    def spoil(job):
        if job.kind == "train" and len(deaths) < 2:
            deaths.append(job)
            return Fault.WORKER_DIED, "worker died (exit code -9)"
        return None

    driver = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil))
    driver.run()
    assert states(driver) == [COMPLETE] * 6


def test_a_job_of_a_broken_device_is_tried_once_more_elsewhere(url):
    broken = []

    def spoil(job):
        if job.kind != "train" or len(broken) > 1 or (broken and job.key not in broken):
            return None
        broken.append(job.key)
        return Fault.DEVICE, "the device failed: CUDA error"

    driver = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil))
    driver.run()
    assert broken[0] == broken[1]
    failed = [trial for trial in driver.record.trials() if trial.state == FAIL]
    assert [trial.user_attrs["fault"] for trial in failed] == ["device"]
    assert states(driver).count(COMPLETE) == 5


def test_a_device_that_fails_three_jobs_in_a_row_stops_the_search_and_blames_no_network(url):
    trained = []

    def spoil(job):
        trained.append(job.key) if job.kind == "train" else None
        return (Fault.DEVICE, "the device failed: CUDA error") if len(trained) > 2 else None

    driver = make_driver(url, engine=FakeEngine(workers=3, spoil=spoil))
    with pytest.raises(UserError, match=r"the device failed: CUDA error \(3 jobs in a row\)"):
        driver.run()
    driver.stop("the device failed")
    assert states(driver).count(COMPLETE) == 2
    assert RUNNING not in states(driver)


def test_a_job_for_which_others_leave_no_memory_is_tried_again_and_then_stops_the_search(url):
    tried = []

    def spoil(job):
        if job.kind == "train" and (not tried or job.key == tried[0]):
            tried.append(job.key)
            return Fault.CROWDED, "out of memory, of which other processes hold 45%"
        return None

    driver = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil))
    with pytest.raises(UserError, match="other processes hold 45%"):
        driver.run()
    assert len(tried) == 3
    driver.stop("out of memory")
    ended = [trial for trial in driver.record.trials() if trial.state == FAIL]
    assert [trial.user_attrs["fault"] for trial in ended] == ["interrupted"]
    assert RUNNING not in states(driver)
