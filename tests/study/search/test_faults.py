"""Faults in mid-search: what is wrong with a candidate fails its trial, what is wrong around it stops the search."""

import datetime
import multiprocessing
import os
import resource
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from nasseg.errors import Fault, UserError
from nasseg.files import parse_yaml
from nasseg.report import write_report
from nasseg.study.engines import jobs, local_engine
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.search import run_study as search
from nasseg.study.search.dry_run import preview
from nasseg.study.store.read_study import open_record, record_of
from nasseg.study.study_file import study_from
from nasseg.train.weights import save_weights
from tests import HUNG_SECONDS
from tests.data.test_dataset import write_camvid
from tests.study.fakes import FakeEngine, InlineEngine, make_driver, make_study

TINY = """
question: Does it survive?
expected: seconds
space: quickstart
data: {data}
objectives: [miou, macs]
limits: {{macs: {{max: {macs}}}}}
recipe: {{steps: 2, batch_size: 2}}
latency: {{min_seconds: 0.0, min_replicates: 2, warmup: 1}}
trials: 3
"""
SCENES = "{name: scenes, size: [32, 64], train: 4, val: 2}"


@pytest.fixture(params=["sqlite", "journal"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else str(tmp_path / "s.log")


def tiny(tmp_path, data=SCENES, macs="1.0e+9"):
    return study_from(parse_yaml(TINY.format(data=data, macs=macs), tmp_path / "tiny.yaml"), "tiny")


def states(record):
    return Counter(trial.state for trial in record.trials)


@pytest.mark.slow
def test_a_full_disk_stops_the_search_and_loses_no_figure(inline, tmp_path, monkeypatch):
    def full(model, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs, "save_weights", full)
    ended = search.run_study(tiny(tmp_path))
    assert "cannot keep weights in" in ended.fault
    assert ended.fault.endswith("No space left on device")
    assert states(ended.record) == {"COMPLETE": 1}
    assert ended.record.trials[0].measurement.accuracy is not None
    monkeypatch.setattr(jobs, "save_weights", save_weights)
    ended = search.run_study(tiny(tmp_path))
    assert not ended.fault
    assert states(ended.record) == {"COMPLETE": 3}


def test_weights_that_cannot_be_written_leave_the_last_ones(tmp_path):
    path, model = tmp_path / "last.pt", nn.Conv2d(8, 64, 3)
    save_weights(model, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the system refuses to write on, as a full disk would
    try:
        with pytest.raises(OSError, match="too large"):
            save_weights(nn.Conv2d(8, 64, 3), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_report_that_cannot_be_written_leaves_the_last_one(tmp_path):
    driver = make_driver(f"sqlite:///{tmp_path}/s.db")
    driver.run()
    run_attributes(driver)
    path = write_report(record_of(driver.record), tmp_path / "report.html")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*report.*; choose another place with -o"):
            write_report(record_of(driver.record), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert not [other for other in tmp_path.iterdir() if other.name.startswith(".")]


def run_attributes(driver):
    """What a search writes of its study, for a driver that was made without one."""
    driver.record.set_attributes(
        {
            "question": "?",
            "objectives": [["miou", "%", "maximize"], ["macs", "", "minimize"]],
            "limits": {},
            "published": [],
            "command": "",
            "created": "2026-01-01",
            "environment": {},
            "study_file": "",
            "space_file": "",
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_that_breaks_in_mid_search_stops_it_by_name(inline, tmp_path, monkeypatch, kind):
    """Between the start of a search and its first training a file is truncated; mended, the search goes on."""
    root = write_camvid(tmp_path / "data", size=(32, 64))
    broken = root / ("train" if kind == "image" else "trainannot") / "f1.png"
    whole, stat = broken.read_bytes(), broken.stat()

    class Breaking(InlineEngine):
        def wait(self, timeout):
            if self.jobs[0].kind == "train":
                broken.write_bytes(whole[: len(whole) // 2])
            return super().wait(timeout)

    monkeypatch.setattr(local_engine, "LocalEngine", Breaking)
    ended = search.run_study(tiny(tmp_path, f"{{name: {root}}}"))
    assert str(broken) in ended.fault
    assert ended.requeued == 1
    assert states(ended.record) == {"FAIL": 1, "WAITING": 1}
    assert ended.record.trials[0].reason.startswith("interrupted")
    broken.write_bytes(whole)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setattr(local_engine, "LocalEngine", InlineEngine)
    ended = search.run_study(tiny(tmp_path, f"{{name: {root}}}"))
    assert not ended.fault
    assert states(ended.record) == {"FAIL": 1, "COMPLETE": 3}


@pytest.mark.slow
def test_a_storage_that_fails_in_mid_search_is_one_clear_error(inline, tmp_path, monkeypatch):
    class Wrecking(InlineEngine):
        def wait(self, timeout):
            if self.jobs[0].kind == "train" and len(self.trained()) == 1:
                with sqlite3.connect(tmp_path / "s.db") as connection:
                    connection.execute("alter table trial_values rename to gone")
            return super().wait(timeout)

    monkeypatch.setattr(local_engine, "LocalEngine", Wrecking)
    url = f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(UserError, match=r"storage sqlite.*failed: .*trial_values.*run the same command again"):
        search.run_study(tiny(tmp_path), storage=url)
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("alter table gone rename to trial_values")
    monkeypatch.setattr(local_engine, "LocalEngine", InlineEngine)
    monkeypatch.setattr("nasseg.study.store.lease._start_ticks", lambda pid: None)  # as after the end of that process
    monkeypatch.setattr("nasseg.study.driver.housekeeping.HOUSEKEEPING_SECONDS", 0.0)
    ended = search.run_study(tiny(tmp_path), storage=url)
    complete = [trial for trial in ended.record.trials if trial.state == "COMPLETE"]
    assert len(complete) == len({trial.measurement.arch_id for trial in complete}) == 3


@pytest.mark.slow
def test_a_storage_that_is_locked_for_30_seconds_is_waited_for(tmp_path):
    path = tmp_path / "s.db"
    driver, locked = make_driver(f"sqlite:///{path}", trials=20), []

    def lock():
        with sqlite3.connect(path) as connection:
            connection.execute("begin exclusive")
            locked.append(time.monotonic())
            time.sleep(30)
            locked.append(time.monotonic())

    thread = threading.Thread(target=lock)

    def spoil(job):
        if not locked and len(driver.engine.trained()) == 5:
            thread.start()
            while not locked:
                time.sleep(0.01)

    driver.engine.spoil = spoil
    assert driver.run() == "all 20 trials are done"
    assert time.monotonic() > locked[1]
    thread.join()
    assert [trial.state for trial in driver.record.trials()] == [TrialState.COMPLETE] * 20


@pytest.mark.slow
def test_a_clock_that_is_moved_back_changes_nothing(url, monkeypatch, tmp_path):
    """Every look at the wall clock finds it an hour earlier."""
    start, looks = datetime.datetime.now(), [0]

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            looks[0] += 1
            return (start - datetime.timedelta(hours=looks[0])).astimezone(tz)

    monkeypatch.setattr(time, "time", lambda: Backwards.now().timestamp())
    for module in ("_rdb.storage", "journal._storage", "_in_memory"):
        monkeypatch.setattr(f"optuna.storages.{module}.datetime", Backwards, raising=False)
    driver, other = make_driver(url, trials=4), make_driver(url, trials=8, seed=1)
    driver.run()
    assert looks[0] > 4
    other.run()
    run_attributes(other)
    record = record_of(other.record)
    assert states(record) == {"COMPLETE": 8}
    assert write_report(record, tmp_path / "report.html").stat().st_size > 1_000_000


def test_a_journal_that_was_cut_off_goes_on(tmp_path):
    url = str(tmp_path / "s.log")
    make_driver(url, trials=3).run()
    with open(url, "ab") as file:
        file.write(b'{"op_code":8,"worker_id":"x","trial')
    again = make_driver(url, trials=5)
    again.run()
    assert [trial.state for trial in open_record("fake", url).trials()] == [TrialState.COMPLETE] * 5


def test_a_journal_on_a_full_disk_keeps_what_it_has(tmp_path):
    url = str(tmp_path / "s.log")
    driver = make_driver(url, trials=3)
    driver.run()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(url) + 200, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            make_driver(url, trials=5).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    make_driver(url, trials=5).run()
    found = open_record("fake", url).trials()
    assert [trial.state for trial in found].count(TrialState.COMPLETE) == 5


def test_two_studies_share_a_storage(url):
    one = make_driver(url, make_study(name="one"), trials=5)
    other = make_driver(url, make_study(space="dabnet", name="other"), trials=7)
    for driver in (one, other):
        driver.fill()
    while one.engine.jobs or other.engine.jobs:
        for driver in (one, other):
            for result in driver.engine.wait(0) if driver.engine.jobs else []:
                driver.outcomes.handle(result)
            driver.fill()
    assert len(one.record.trials()) == 5
    assert len(other.record.trials()) == 7
    assert {trial.params["family"] for trial in open_record("one", url).trials()} == {"bisenetv2", "regseg"}
    assert all("dabnet" in trial.user_attrs["arch"] for trial in open_record("other", url).trials())


def test_a_worker_that_dies_again_and_again_fails_its_trial(url):
    doomed = []

    def spoil(job):
        doomed.append(job.key) if job.kind == "train" and not doomed else None
        return (Fault.WORKER_DIED, "worker died (exit code 3)") if job.key and job.key in doomed else None

    driver = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil), trials=3)
    driver.run()
    failed = [trial.user_attrs["reason"] for trial in driver.record.trials() if trial.state == TrialState.FAIL]
    assert failed == ["worker died (exit code 3)"]
    assert len([job for job in driver.engine.done if job.key in doomed and job.kind == "train"]) == 3


def _with_little_memory(study, context, results):
    torch.set_num_threads(1)
    workshop = Workshop(context)
    cost = workshop.run(Job(0, "cost", {"family": "bisenetv2"}))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # The small network takes 770 MB more, the large one 1,860 MB. Allocators differ, so both margins are wide.
    resource.setrlimit(resource.RLIMIT_AS, (used + (1250 << 20), resource.RLIM_INFINITY))
    large = workshop.run(Job(0, "train", {"family": "bisenetv2"}, cost.measurement, "key"))
    small = workshop.run(Job(0, "train", {"family": "regseg", "width": 0.25}, cost.measurement, "other"))
    results.put((large.fault, large.reason, small.fault, small.measurement is not None))


@pytest.mark.slow
def test_a_network_that_does_not_fit_into_memory_fails_and_the_next_one_trains(inline, tmp_path):
    study = tiny(tmp_path, "{name: scenes, size: [128, 256], train: 40, val: 2}")
    context, _ = search.prepare(study, None, 0)
    object.__setattr__(context, "recipe", context.recipe.model_copy(update={"batch_size": 40}))
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=_with_little_memory, args=(None, context, results))
    process.start()
    fault, reason, small, trained = results.get(timeout=HUNG_SECONDS)
    process.join()
    assert fault is Fault.OUT_OF_MEMORY
    assert reason.startswith("out of memory: ")
    assert small is None
    assert trained


def test_onednn_without_memory_for_its_scratch_is_out_of_memory(inline, tmp_path, monkeypatch):
    def train(*_arguments, **_options):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr("nasseg.train.session.train", train)
    context, _ = search.prepare(tiny(tmp_path), None, 0)
    workshop = Workshop(context)
    cost = workshop.run(Job(0, "cost", {"family": "regseg", "width": 0.25}))
    failed = workshop.run(Job(0, "train", {"family": "regseg", "width": 0.25}, cost.measurement, "key"))
    assert failed.fault is Fault.OUT_OF_MEMORY
    assert failed.reason == "out of memory: could not create a primitive"


@pytest.fixture
def drawn(monkeypatch):
    """How many candidates a dry run draws here: fewer, for time."""
    monkeypatch.setattr("nasseg.study.search.dry_run.DRAWN", 8)
    return 8


@pytest.mark.slow
def test_a_dry_run_measures_and_stores_nothing(inline, tmp_path, drawn):
    told = []
    found = preview(tiny(tmp_path, macs="1.0e+7"), trials=50, workers=2, tell=told.append)
    assert told[-3:] == [f"training {number} of 3 for a few steps" for number in (1, 2, 3)]
    assert not list(tmp_path.glob("runs/**/*"))
    assert len(found.samples) == drawn
    low, high = found.interval
    assert 0 < low < found.passing / drawn < high < 1
    over = [sample for sample in found.samples if sample.verdict]
    assert all(sample.measurement.cost.macs > 1e7 for sample in over)
    assert all(sample.measurement.latency.p50_ms > 0 for sample in found.timed)
    assert len(found.trial_seconds) == 3
    assert found.trials_left == 50
    assert found.seconds > 50 * min(found.trial_seconds) / 2
    text = "\n".join(found.lines())
    assert f"{found.passing} of {drawn} candidates keep the limits on cost" in text
    assert "x macs is over the limit of 1e+07" in text


@pytest.mark.slow
def test_a_dry_run_goes_on_from_the_record(inline, tmp_path):
    study = tiny(tmp_path)
    search.run_study(study, trials=2)
    assert preview(study).trials_left == 1


def test_a_dry_run_that_would_train_nothing_says_so(inline, tmp_path, drawn):
    found = preview(tiny(tmp_path, macs="1.0"))
    assert found.passing == 0
    assert found.seconds is None
    assert "loosen a limit" in found.lines()[-1]


def test_optuna_is_not_asked_what_it_was_told_long_ago():
    """The view of a sampler is made anew now and then; what is on its way stays on its way."""
    driver = make_driver("sqlite:///:memory:", sampler="tpe")
    asked = [driver.proposer.propose() for _ in range(3)]
    driver.proposer._rebuild()
    view = driver.proposer._view
    assert [t.state for t in view.get_trials()] == [optuna.trial.TrialState.RUNNING] * 3
    driver.proposer.drop(asked[1].token)
    assert [t.state.name for t in view.get_trials()] == ["RUNNING", "FAIL", "RUNNING"]
    assert view.get_trials()[1].params == asked[1].sampled
