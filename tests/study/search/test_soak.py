"""Real searches whose processes are killed at random: nothing is lost, nothing doubled, and nothing is left running.

NASSEG_SOAK_SECONDS: how long the kills go on with each storage; default: 30. Before a release: 600.
"""

import os
import random
import subprocess
import sys
import time
from contextlib import nullcontext, suppress

import pytest

from nasseg.errors import UserError
from nasseg.study.store.read_study import open_record, read_study
from nasseg.study.store.trial_attributes import counts
from tests.command_line import nasseg
from tests.processes.tree import below
from tests.study.store.postgres import postgres, postgres_server  # noqa: F401

STUDY = """
question: Does it survive?
expected: as long as it may
space: quickstart
data: {name: scenes, size: [32, 64], train: 8, val: 4}
objectives: [miou, macs]
recipe: {steps: 20, batch_size: 2}
trials: 100000
workers: 3
"""
SECONDS = float(os.environ.get("NASSEG_SOAK_SECONDS", "30"))
SEARCHES = 2  # each with its workers: eight processes on one study
PAUSES = (0.2, 3.0)  # seconds between kills: the least and the most

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else str(tmp_path / "s.log")


@pytest.fixture
def start(tmp_path, url):
    """Return a function that begins a search in a process of its own; all end with the test."""
    (tmp_path / "s.yaml").write_text(STUDY)
    begun = []

    def begin(seed):
        command = [sys.executable, "-m", "nasseg", "search", "s.yaml", "--storage", url, "--seed", str(seed)]
        with (tmp_path / "output").open("a") as output:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def finished(url, begun=True):
    """Return the values of the finished trials by number. begun: there is a study for sure."""
    with nullcontext() if begun else suppress(UserError, KeyError):
        return {trial.number: trial.values for trial in read_study("s", url).trials if trial.values}
    return {}


def test_kills_at_random_lose_and_double_nothing(start, url, tmp_path):
    rng, seeds = random.Random(), iter(range(1_000_000))
    searches, seen, kills = [start(next(seeds)) for _ in range(SEARCHES)], {}, 0
    end = None
    while end is None or time.monotonic() < end:  # the time runs from the first result on
        with suppress(subprocess.TimeoutExpired):
            searches[0].wait(rng.uniform(*PAUSES))
        now = finished(url, bool(seen))
        assert now.items() >= seen.items()
        seen, end = now, end or (time.monotonic() + SECONDS if now else None)
        if end:
            place = rng.randrange(SEARCHES)
            with suppress(ProcessLookupError):
                os.kill(rng.choice([searches[place].pid, *below(searches[place].pid)]), 9)
                kills += 1
        for place, search in enumerate(searches):
            if search.poll() is not None:
                assert search.returncode in (-9, 2), (tmp_path / "output").read_text()
                searches[place] = start(next(seeds))
    for search in searches:
        search.kill()
        search.wait()
    assert kills
    wanted = sum(map(counts, open_record("s", url).trials())) + 2
    nasseg("search", "s.yaml", "--storage", url, "--trials", wanted, cwd=tmp_path)
    trials = open_record("s", url).trials()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert all(trial.state.is_finished() for trial in trials)
    assert finished(url).items() >= seen.items()
    keys = [t.user_attrs["eval_key"] for t in trials if t.values and "reused_from" not in t.user_attrs]
    assert len(set(keys)) == len(keys)
