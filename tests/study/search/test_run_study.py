"""Searches as users run them, with real workers: stopped, killed, taken up again."""

import os
import signal
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from nasseg.analyse.trials import on_front
from nasseg.study.engines import local_engine
from nasseg.study.search.run_study import run_study
from nasseg.study.store.read_study import open_record, read_study
from nasseg.study.store.record import Record
from nasseg.study.study_file import load_study
from tests import HUNG_SECONDS
from tests.command_line import nasseg
from tests.processes.tree import children
from tests.study.fakes import InlineEngine
from tests.study.small_space import SMALL_SPACE

STUDY = """
question: Does it survive?
expected: a minute
space: small.yaml
data: {name: scenes, size: [32, 64], train: 32, val: 8}
objectives: [miou, macs, latency_ms]
recipe: {steps: 60, batch_size: 2}
latency: {min_seconds: 0.0, min_replicates: 2, warmup: 1}
trials: 5
workers: 2
"""
# The front that weights are kept for is the search's: times that are taken again at its end may move it.
SEARCH = ("search", "s.yaml", "--no-remeasure")

pytestmark = pytest.mark.slow


def start(folder):
    (folder / "s.yaml").write_text(STUDY)
    (folder / "small.yaml").write_text(SMALL_SPACE)
    command = [sys.executable, "-m", "nasseg", *SEARCH]
    # What a shell runs in the background, and all below it, ignores Ctrl-C: this search must not.
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_training(folder, process, count=1):
    url = f"sqlite:///{folder}/runs/s/study.db"
    deadline = time.time() + HUNG_SECONDS
    while time.time() < deadline:
        assert process.poll() is None, process.stdout.read()
        try:
            trials = open_record("s", url).trials(TrialState.RUNNING, TrialState.COMPLETE)
            if len([t for t in trials if "latency_ms" in t.user_attrs]) >= count:
                return
        except (ValueError, KeyError, SQLAlchemyError):  # not there yet, or just being made
            pass
        time.sleep(0.3)
    raise AssertionError("no trial began to train")


def finish(folder):
    """Run the study to its end; its trials must then be whole."""
    nasseg(*SEARCH, cwd=folder)
    record = read_study("s", f"sqlite:///{folder}/runs/s/study.db")
    states = [trial.state for trial in record.trials]
    assert "RUNNING" not in states
    assert "WAITING" not in states
    complete = [trial for trial in record.trials if trial.state == "COMPLETE" and trial.reused_from is None]
    assert len(complete) == 5
    keys = [trial.extra["eval_key"] for trial in complete]
    assert len(set(keys)) == len(keys)
    front = {t.extra["eval_key"] for t, on in zip(record.trials, on_front(record), strict=True) if on}
    assert front
    for name in ("last.pt", "predictions.zip"):
        assert {path.parent.name for path in (folder / "runs" / "s").glob(f"*/{name}")} == front
    return record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_says_how_to_go_on_and_does(tmp_path, number):
    process = start(tmp_path)
    wait_for_training(tmp_path, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=HUNG_SECONDS)
    assert process.returncode == 130, output
    assert "To resume: nasseg search s.yaml --no-remeasure" in output
    assert "Traceback" not in output
    finish(tmp_path)


def test_a_killed_search_is_taken_up(tmp_path):
    process = start(tmp_path)
    wait_for_training(tmp_path, process)
    process.kill()
    process.communicate()
    record = finish(tmp_path)
    assert [t for t in record.trials if str(t.reason).startswith("interrupted")]


def test_a_killed_worker_loses_nothing(tmp_path):
    process = start(tmp_path)
    wait_for_training(tmp_path, process)
    workers = [worker for server in children(process.pid) for worker in children(server)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=HUNG_SECONDS)
    assert process.returncode == 0, output
    record = finish(tmp_path)
    assert "FAIL" not in [trial.state for trial in record.trials]


def test_a_study_may_be_started_twice_at_once(tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate(timeout=HUNG_SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    record = finish(tmp_path)
    failed = [trial.reason for trial in record.trials if trial.state == "FAIL"]
    assert set(failed) <= {"interrupted: another process began the last trial"}


def test_two_searches_share_one_study(tmp_path):
    first = start(tmp_path)
    wait_for_training(tmp_path, first)
    second = start(tmp_path)
    outputs = [process.communicate(timeout=HUNG_SECONDS)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    record = finish(tmp_path)
    failed = [trial.reason for trial in record.trials if trial.state == "FAIL"]
    assert set(failed) <= {"interrupted: another process began the last trial"}


def test_an_interrupt_waits_for_the_end_of_a_transaction(tmp_path, monkeypatch):
    """One that comes while the storage writes is heeded after that; a second one at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(STUDY.replace("workers: 2", "workers: 1"))
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    monkeypatch.setattr(local_engine, "LocalEngine", InlineEngine)
    complete, sent = Record.complete, []

    def interrupted(self, trial, values, attributes):
        if not sent:
            sent.append(trial.number)
            signal.raise_signal(signal.SIGINT)
        return complete(self, trial, values, attributes)

    monkeypatch.setattr(Record, "complete", interrupted)
    before = signal.getsignal(signal.SIGINT)
    ended = run_study(load_study("s.yaml"))
    assert ended.interrupted
    assert [trial.number for trial in ended.record.trials if trial.state == "COMPLETE"] == sent
    assert signal.getsignal(signal.SIGINT) is before
    ended = run_study(load_study("s.yaml"))
    assert not ended.interrupted
    assert not ended.fault
