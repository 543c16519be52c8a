"""`nasseg finish`: which networks, what is trained, timed and tested, and that nothing is done twice."""

import json
import os
import re
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from PIL import Image

from nasseg.analyse.finished import finished_frame
from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.figures import Figure, custom_entry, load_function
from nasseg.network.export import export_address
from nasseg.records import StudyRecord
from nasseg.report import write_report
from nasseg.study.engines import jobs
from nasseg.study.finish import finish
from nasseg.study.finish.finish import LONGER, best_made, data_of, finish_study, made
from nasseg.study.finish.members import front_members
from nasseg.study.search import run_study as search
from nasseg.study.store.read_study import open_record, read_study
from nasseg.study.store.trained import find_trained
from nasseg.train import loop, run
from nasseg.train.loop import evaluate
from tests.command_line import refused
from tests.data.test_dataset import write_camvid
from tests.study.fakes import search_here
from tests.study.search.test_faults import tiny

STEPS = 3
RECIPE = {"steps": STEPS, "batch_size": 2, "ema_decay": 0.9}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a study `tiny` of three trained networks."""
    folder, threads = tmp_path_factory.mktemp("searched"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        search_here(patch, folder)
        ended = search.run_study(tiny(folder, macs="3.0e+7"))
    assert len(front_members(ended.record)) == 2
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def here(searched, tmp_path, monkeypatch):
    shutil.copytree(searched / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    return read_study("tiny")


@pytest.fixture
def counted(monkeypatch):
    """How many steps are trained, and networks timed."""
    found, step, time = Counter(), loop.Training._step, jobs.measure_latency

    def counting_step(training, **options):
        found["steps"] += 1
        return step(training, **options)

    def counting_time(*arguments, **options):
        found["timed"] += 1
        return time(*arguments, **options)

    monkeypatch.setattr(loop.Training, "_step", counting_step)
    monkeypatch.setattr(jobs, "measure_latency", counting_time)
    return found


def states(name="tiny@finish"):
    return Counter(trial.state for trial in open_record(name).trials())


def test_the_front_is_trained_timed_and_tested(here, counted, monkeypatch, tmp_path):
    looked = []
    monkeypatch.setattr(
        run,
        "evaluate",
        lambda model, split, *args, **options: (looked.append(len(split)), evaluate(model, split, *args, **options))[1],
    )
    lines = []
    done = finish_study("tiny", recipe=RECIPE, seeds=1, tell=lines.append)
    members = front_members(here)
    networks = {member.measurement.arch_id: member for member in members}
    assert not done.interrupted
    assert done.notes == ()
    assert states() == {TrialState.COMPLETE: 2}
    assert counted == {"steps": 2 * STEPS, "timed": 2}
    assert any(line.startswith(f"trial {members[0].number}: ") and " in the search" in line for line in lines)
    assert f"2 networks x 1 seed: 2 trainings of {STEPS:,} steps, less those that are done" in lines
    assert looked == [2, 2]  # as many scenes as the validation split has, once a run

    record = read_study("tiny@finish")
    assert record == done.record
    assert Counter(t.measurement.arch_id for t in record.trials) == dict.fromkeys(networks, 1)
    wider = load_data("scenes", size=[32, 64], train=4, val=2, test=2)
    for trial in record.trials:
        member, folder = networks[trial.measurement.arch_id], Path("runs/tiny") / trial.extra["eval_key"]
        assert trial.extra["of_trial"] == member.number
        assert trial.measurement.latency != member.measurement.latency
        assert trial.measurement.latency.protocol == member.measurement.latency.protocol
        assert trial.measurement.accuracy.protocol.seed == trial.seed
        assert trial.measurement.accuracy.protocol.steps == STEPS
        assert trial.values == {"miou": trial.measurement.accuracy.miou, "macs": trial.measurement.cost.macs}
        held_out = json.loads(trial.extra["held_out"])
        assert held_out["protocol"]["split"] == "test"
        assert held_out["miou"] == trial.extra["test_miou"]
        assert sorted(path.name for path in folder.glob("*.pt")) == ["best.pt", "last.pt"]
        model = jobs.arch_of(trial.arch).build(wider.num_classes)
        model.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
        assert trial.extra["test_miou"] == evaluate(model, wider.test, wider.num_classes).miou
        assert trial.extra["best_miou"] == evaluate(model, wider.val, wider.num_classes).miou
    frame = finished_frame(record, done.searched)
    assert list(frame["seeds"]) == [1, 1]
    assert set(frame["searched_miou"]) == {member.measurement.accuracy.miou for member in members}
    page = write_report(record, tmp_path / "report.html").read_text()
    assert len(page) > 1_000_000
    table = page.partition("Trained to the end</h2>")[2].partition("</table>")[0]
    heads = re.findall(r"<th[^>]*>([^<]*)<", table)
    assert heads[-3:] == ["Last weights, validation", "Best weights, validation", "Best weights, test"]
    cells = [re.findall(r"<td[^>]*>([^<]*)<", row)[1:] for row in table.split("</tr>")[1:-1]]
    shown = frame[["latency_ms", "seeds", "miou", "best_miou", "test_miou"]].itertuples(index=False)
    assert cells == [[f"{ms:.4g}", str(seeds), *(f"{miou:.2f}" for miou in mious)] for ms, seeds, *mious in shown]
    assert "from 1 seed per network. " in page
    assert f"Networks of tiny, trained to the end: {STEPS} steps by a recipe of its own" in page
    assert "the test split was used once" in page
    exported = export_address(f"tiny@finish#{record.trials[0].number}", tmp_path / "winner.pt")
    assert exported.card.weights == record.trials[0].extra["best_sha256"]
    assert exported.card.figures.latency == record.trials[0].measurement.latency
    assert exported.card.figures.accuracy.miou == record.trials[0].extra["best_miou"]
    with pytest.raises(UserError, match=r"recipe\.steps: .*or give this one a name other than 'finish'"):
        finish_study("tiny", recipe={**RECIPE, "steps": 2})


@pytest.mark.slow
def test_one_trial_is_finished_by_the_study_s_own_recipe_made_longer(here, counted):
    number = next(t.number for t in here.trials if t.measurement and t.measurement.accuracy)
    done = finish_study(f"tiny#{number}", seeds=2)
    own = next(t for t in here.trials if t.number == number).measurement.accuracy.protocol
    trials = done.record.trials
    assert [trial.extra["of_trial"] for trial in trials] == [number, number]
    assert {trial.measurement.accuracy.protocol.steps for trial in trials} == {LONGER * own.steps}
    assert made(done.record) == {number: [(0, "tiny@finish#0"), (1, "tiny@finish#1")]}
    best = max(trials, key=lambda trial: trial.extra["best_miou"])
    assert find_trained(best_made(done.record)).sha256 == best.extra["best_sha256"]
    for address, message in (("tiny#99", "tiny#99 is no trained network"), ("tiny@finish#0", "finish tiny")):
        with pytest.raises(UserError, match=message):
            finish_study(address, recipe=RECIPE)


def plain(name):
    """What a study holds that does not depend on how long it took."""
    found = {}
    for trial in read_study(name).trials:
        if trial.state == "COMPLETE":
            accuracy, held_out = trial.measurement.accuracy, json.loads(trial.extra["held_out"])
            key = (trial.measurement.arch_id, trial.seed)
            assert key not in found
            found[key] = (accuracy.class_iou, accuracy.curve, held_out["class_iou"], trial.extra["weights_sha256"])
    return found


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_nothing_is_done_twice(here, counted, monkeypatch):
    monkeypatch.setattr(run, "TELL_SECONDS", 0.0)
    heard = []

    def interrupt(_network, progress):
        heard.append(progress)
        if len(heard) == STEPS + 2:  # in the second network
            os.kill(os.getpid(), signal.SIGTERM)

    done = finish_study("tiny", recipe=RECIPE, seeds=1, on_progress=interrupt)
    assert done.interrupted
    assert states() == {TrialState.COMPLETE: 1, TrialState.FAIL: 1, TrialState.WAITING: 1}
    again = finish_study("tiny", recipe=RECIPE, seeds=1)
    assert not again.interrupted
    assert states() == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
    assert again.notes == ()
    assert counted == {"steps": 2 * STEPS, "timed": 4}
    later = finish_study("tiny", recipe=RECIPE, seeds=1).record
    assert [trial.accuracy for trial in later.trials] == [trial.accuracy for trial in again.record.trials]
    assert counted == {"steps": 2 * STEPS, "timed": 6}
    finish_study("tiny", recipe=RECIPE, seeds=2)
    assert counted == {"steps": 4 * STEPS, "timed": 8}
    assert states() == {TrialState.COMPLETE: 4, TrialState.FAIL: 1}

    finish_study("tiny", recipe=RECIPE, seeds=1, purpose="whole")
    assert {key: figures for key, figures in plain("tiny@finish").items() if key[1] == 0} == plain("tiny@whole")


@pytest.mark.slow
def test_what_a_killed_process_left_is_taken_up(here, counted, monkeypatch):
    monkeypatch.setattr(run, "TELL_SECONDS", 0.0)

    class Killed(BaseException):
        pass

    def kill(_network, progress):
        if progress.step == 2:
            raise Killed

    with pytest.raises(Killed):
        finish_study("tiny", recipe=RECIPE, seeds=1, on_progress=kill)
    assert states() == {TrialState.RUNNING: 1}
    others = finish_study("tiny", recipe=RECIPE, seeds=1)  # as long as that process lives, the trial is its own
    assert len(others.notes) == 1
    assert "is being trained by another process" in others.notes[0]
    monkeypatch.setattr("nasseg.study.store.lease._start_ticks", lambda pid: None)
    done = finish_study("tiny", recipe=RECIPE, seeds=1)
    assert done.notes == ()
    assert states() == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


@pytest.mark.slow
def test_a_trial_that_another_process_took_is_left_to_it(here, counted, monkeypatch):
    monkeypatch.setattr("nasseg.study.store.claims.RENEW_SECONDS", -1.0)
    monkeypatch.setattr("nasseg.study.store.record.Record.renew", lambda *_: False)
    lines = []
    finish_study("tiny", recipe=RECIPE, seeds=1, tell=lines.append)
    assert sum(line.endswith("another process took it over") for line in lines) == 2
    assert states() == {TrialState.RUNNING: 2}
    assert counted["steps"] == 0


@pytest.mark.slow
def test_a_network_that_is_over_a_limit_when_timed_again_is_not_trained(here, counted, monkeypatch):
    slow, time = front_members(here)[0], jobs.measure_latency

    def slower(arch, *arguments, **options):
        latency = time(arch, *arguments, **options)
        return replace(latency, p50_ms=1e6, disturbed=False) if arch.id == slow.measurement.arch_id else latency

    monkeypatch.setattr(jobs, "measure_latency", slower)
    open_record("tiny").set_attributes({"limits": {"latency_ms": {"max": 1e5}}})
    done = finish_study("tiny", recipe=RECIPE, seeds=1)
    assert done.notes == ("a network was not trained: latency_ms is over the limit of 100000, timed again",)
    assert states() == {TrialState.PRUNED: 1, TrialState.COMPLETE: 1}
    finish_study("tiny", recipe=RECIPE, seeds=1)
    assert states() == {TrialState.PRUNED: 1, TrialState.COMPLETE: 1}
    assert counted["timed"] == 4
    monkeypatch.setattr(jobs, "measure_latency", time)
    assert finish_study("tiny", recipe=RECIPE, seeds=1).notes == ()
    assert states() == {TrialState.PRUNED: 1, TrialState.COMPLETE: 2}


@pytest.mark.slow
def test_each_call_times_again_and_readers_get_the_latest(here, monkeypatch):
    first, time = finish_study("tiny", recipe=RECIPE, seeds=1).record, jobs.measure_latency

    def slower(*arguments, **options):
        latency = time(*arguments, **options)
        return replace(latency, p50_ms=1e4 + latency.p50_ms, disturbed=False)

    monkeypatch.setattr(jobs, "measure_latency", slower)
    second = finish_study("tiny", recipe=RECIPE, seeds=1).record
    assert read_study("tiny@finish") == second
    assert all(trial.measurement.latency.p50_ms < 1e4 for trial in first.trials)
    assert all(trial.measurement.latency.p50_ms > 1e4 for trial in second.trials)
    assert finished_frame(second)["latency_ms"].min() > 1e4
    assert {trial.extra["weights_sha256"] for trial in second.trials} == {
        trial.extra["weights_sha256"] for trial in first.trials
    }


def test_own_figures_are_tried_before_anything_is_timed_or_trained(here, counted, monkeypatch):
    Path("mine.py").write_text("def mine(model, measurement):\n    return float(open('there').read())\n")
    figure = Figure("mine", "", "minimize", "trained", "mine.py:mine")
    code, record = load_function(figure.source, Path())[1], open_record("tiny")
    record.set_attributes({"identity": {**here.identity, "own code": {figure.source: code}}})
    custom = {"mine": custom_entry(figure, 1.0, code)}
    with_figure = [replace(m, measurement=replace(m.measurement, custom=custom)) for m in front_members(here)]
    monkeypatch.setattr(finish, "front_members", lambda _: with_figure)
    with pytest.raises(UserError, match=r"figure mine \(mine\.py:mine, line 2\) raised FileNotFoundError.*tried on"):
        finish_study("tiny", recipe=RECIPE, seeds=1)
    assert not counted


@pytest.mark.slow
def test_a_network_in_doubt_is_neither_trained_nor_rejected(here, monkeypatch):
    time = jobs.measure_latency
    Path("short.yaml").write_text(json.dumps(RECIPE))
    with monkeypatch.context() as patch:
        busy = {"p50_ms": 1e6, "lower_ms": 2e5, "disturbed": True}
        patch.setattr(jobs, "measure_latency", lambda *a, **options: replace(time(*a, **options), **busy))
        open_record("tiny").set_attributes({"limits": {"latency_ms": {"max": 1e5}}})
        said = refused("finish", "tiny", "--recipe", "short.yaml", "--seeds", "1")
    assert "no network of the front of tiny is finished" in said
    assert not states()
    assert finish_study("tiny", recipe=RECIPE, seeds=1).notes == ()
    assert states() == {TrialState.COMPLETE: 2}


@pytest.mark.slow
def test_what_diverges_is_noted_and_not_tried_again(here, counted):
    wild = {**RECIPE, "learning_rate": 1e30, "schedule": "constant"}
    done = finish_study("tiny", recipe=wild, seeds=1)
    assert all("seed 0, failed: diverged: training diverged" in note for note in done.notes)
    assert len(done.notes) == 2
    before = counted["steps"]
    assert finish_study("tiny", recipe=wild, seeds=1).notes == done.notes
    assert counted["steps"] == before


@pytest.mark.slow
def test_a_full_disk_stops_it_and_it_goes_on(here, monkeypatch):
    def full(_state, path):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_state", full)
        with pytest.raises(UserError, match=r"last.pt: No space left on device; the last checkpoint is kept"):
            finish_study("tiny", recipe=RECIPE, seeds=1)
    assert states() == {TrialState.FAIL: 1, TrialState.WAITING: 1}
    assert finish_study("tiny", recipe=RECIPE, seeds=1).notes == ()
    assert states() == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


def test_the_data_must_be_those_of_the_search(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    root = write_camvid(tmp_path / "data", size=(32, 64))
    for folder in ("", "annot"):
        shutil.copytree(root / f"val{folder}", root / f"test{folder}")
    text = tiny(tmp_path, f"{{name: {root}}}").text

    def record(fingerprint):
        identity = {"accuracy protocol": {"data_fingerprint": fingerprint}}
        return StudyRecord(name="s", question="", objectives=(), study_file=text, identity=identity)

    with pytest.raises(UserError, match=r"not those of the search: .*give the folder of the search.s data with --data"):
        data_of(record("others"), None)
    loaded = load_data(root)
    data, held_out, notes = data_of(record(loaded.fingerprint), None)
    assert data.fingerprint == held_out.fingerprint == loaded.fingerprint
    assert torch.equal(held_out.split.images, loaded.test.images)
    assert notes == []
    moved = root.rename(tmp_path / "moved")
    for label in (moved / "testannot").iterdir():  # a split that others keep the labels of
        Image.fromarray(np.full((32, 64), 11, np.uint8)).save(label)
    unlabelled = load_data(moved)
    _, held_out, notes = data_of(record(unlabelled.fingerprint), moved)
    assert held_out is None
    assert "has no labels" in notes[0]
    for folder in ("test", "testannot"):
        shutil.rmtree(moved / folder)
    _, held_out, notes = data_of(record(load_data(moved).fingerprint), moved)
    assert held_out is None
    assert "has no held-out split" in notes[0]
