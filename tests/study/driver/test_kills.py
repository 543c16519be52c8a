"""Many trials by many processes on one study: none lost, none doubled, not one too many."""

from collections import Counter

import pytest

from nasseg.processes.children import Child
from nasseg.study.store.read_study import open_record
from tests.study.fakes import FakeEngine, make_driver, make_study

PROCESSES = 4


def _search(pipe):
    url, trials, seed = pipe.recv()
    make_driver(url, make_study(space="regseg"), FakeEngine(workers=2), trials=trials, seed=seed).run()


def soak(url, trials):
    processes = [Child(_search) for _ in range(PROCESSES)]
    for seed, process in enumerate(processes):
        process.pipe.send((url, trials, seed))
    assert [process.join() for process in processes] == [0] * PROCESSES
    found = open_record("fake", url).trials()
    assert [trial.number for trial in found] == list(range(len(found)))
    finished = [trial for trial in found if trial.state.name == "COMPLETE" and "reused_from" not in trial.user_attrs]
    assert len(finished) == trials
    assert max(Counter(trial.user_attrs["eval_key"] for trial in finished).values()) == 1
    # The rest: candidates that came when another process had begun the last trial, and networks met twice.
    numbers = {trial.number for trial in finished}
    rest = [trial for trial in found if trial.number not in numbers]
    assert all(
        "reused_from" in trial.user_attrs or "another process began the last trial" in trial.user_attrs["reason"]
        for trial in rest
    )
    assert len(rest) < trials / 10 + PROCESSES * 2
    owners = Counter(trial.user_attrs["lease"].rpartition(":")[0] for trial in finished)
    if trials > 1_000:  # else one process may be done before the next has started
        assert len(owners) == PROCESSES
        assert min(owners.values()) > trials / PROCESSES / 3


@pytest.mark.slow
def test_four_processes_share_a_hundred_trials(tmp_path):
    soak(str(tmp_path / "s.log"), 100)


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "trials"), [("s.db", 1_500), ("s.log", 2_000)])
def test_four_processes_share_thousands_of_trials(tmp_path, storage, trials):
    soak(f"sqlite:///{tmp_path}/{storage}" if storage == "s.db" else str(tmp_path / storage), trials)
