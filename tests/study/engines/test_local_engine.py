"""The local engine's processes: they start without the user's program, and what kills them at once stops a search."""

import subprocess
import sys
from unittest.mock import Mock

import pytest

from nasseg.errors import Fault
from nasseg.study.engines import local_engine
from nasseg.study.engines.jobs import Job
from nasseg.study.engines.local_engine import LocalEngine
from tests import HUNG_SECONDS, ROOT
from tests.study.fakes import make_context, make_study

# As in the README: no `if __name__ == "__main__"`.
SCRIPT = """
import nasseg

print("the script runs")
ended = nasseg.run_study(nasseg.load_study("tiny.yaml"), trials=1)
print(ended.reason)
"""
STUDY = """
question: Does a plain script work?
expected: seconds
space: quickstart
data: {name: scenes, size: [32, 64], train: 4, val: 2}
objectives: [miou, macs]
recipe: {steps: 2, batch_size: 2}
latency: {min_seconds: 0.0, min_replicates: 2, warmup: 1}
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["script", "notebook"])
def test_a_plain_script_searches(tmp_path, way):
    """A notebook has no main file: as code that is read from standard input."""
    (tmp_path / "plain.py").write_text(SCRIPT)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    command = [sys.executable, "plain.py"] if way == "script" else [sys.executable, "-"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        input=SCRIPT if way == "notebook" else None,
        capture_output=True,
        text=True,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1",
            "NASSEG_PATIENCE": "0",
        },
        timeout=HUNG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the script runs", "all 1 trials are done"]
    assert "Traceback" not in done.stderr


def test_workers_are_started_when_they_are_needed(monkeypatch):
    started = []
    monkeypatch.setattr(local_engine, "Child", lambda work: started.append(work) or FakeChild())
    engine = LocalEngine(make_context(make_study()), 2)
    assert engine.idle == 2
    assert not started
    engine.submit(Job(1, "cost", {"family": "regseg"}))
    assert engine.idle == 1
    assert len(started) == 1
    engine.cancel(1)
    assert engine.idle == 2
    assert len(started) == 1
    engine.close()


class FakeChild:
    """A process that takes everything and answers nothing."""

    def __init__(self):
        self.pipe = Mock()

    def kill(self):
        self.pipe.close()


def dies_at_once(_pipe):
    raise SystemExit(7)


@pytest.mark.slow
def test_workers_that_die_at_once_stop_the_search_and_blame_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(local_engine, "work", dies_at_once)
    engine = LocalEngine(make_context(make_study()), 1)
    try:
        engine.submit(Job(1, "cost", {"family": "regseg"}))
        results = []
        while not results:
            results = engine.wait(1.0)
        assert results[0].fault is Fault.SURROUNDINGS
        assert "no worker could be started, 3 times in a row (exit code 7)" in results[0].reason
    finally:
        engine.close()
