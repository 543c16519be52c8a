"""`nasseg train`: what a run leaves, how it goes on after Ctrl-C and faults, and what it says."""

import fcntl
import json
import os
import random
import resource
import signal
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.network.train import metrics, spread, train_address
from nasseg.records import Measurement
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.search import run_study as search
from nasseg.train import run as module
from nasseg.train import session
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.loop import evaluate, train
from nasseg.train.pictures import curve_svg, predicted, predictions_picture, ticks
from nasseg.train.recipe import Recipe
from nasseg.train.run import HeldOut, Run, train_one
from nasseg.train.session import Failed, recipe_of
from nasseg.train.weights import save_weights
from tests.study.search.test_faults import tiny

TINY = {"width": 0.25, "dilations": "(1,1)"}
SCENES = {"size": [32, 64], "train": 8, "val": 6}
RECIPE = {"steps": 8, "batch_size": 2, "ema_decay": 0.9, "scale_range": [0.75, 1.5]}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))


def trained(**options):
    given = {"data": "scenes", "data_options": SCENES, "recipe": RECIPE, "overrides": TINY}
    return train_address("regseg", **{**given, **options})


def a_run(tmp_path, **options):
    data = options.pop("data", None) or load_data("scenes", **SCENES)
    given = {"recipe": Recipe(**RECIPE), "seed": 0, "folder": tmp_path / "run", "label": "own"}
    return Run(arch=make_arch("regseg", **TINY), data=data, **{**given, **options})


def weights(folder, name="last.pt"):
    return torch.load(folder / name, weights_only=True)


def equal(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def scored(run, name, split):
    """The mIoU of a weights file, looked at again."""
    model = run.arch.build(run.data.num_classes)
    model.load_state_dict(weights(run.folder, name))
    return evaluate(model, split, run.data.num_classes).miou


def test_a_run_leaves_weights_figures_and_pictures(monkeypatch):
    lines, seen = [], []
    done = trained(tell=lines.append, on_progress=seen.append)
    (run,), (result,) = done.runs, done.results
    assert run.folder == Path(f"runs/train/{run.arch.id}-{run.recipe.hash}-{run.data.fingerprint}-s0")
    left = {path.name for path in run.folder.iterdir() if not path.name.startswith(".")}
    assert left == {"last.pt", "best.pt", "result.json", "curve.svg", "predictions.png"}
    assert lines == [f"seed 0: {run.folder}"]
    assert seen[-1].line().startswith("seed 0: step 8 of 8, loss ")

    accuracy = result.measurement.accuracy
    assert accuracy.protocol == run.protocol
    assert (accuracy.protocol.steps, accuracy.protocol.split, accuracy.protocol.seed) == (8, "val", 0)
    assert accuracy.miou == scored(run, "last.pt", run.data.val)
    assert result.best.miou == scored(run, "best.pt", run.data.val)
    assert result.best.miou == max(miou for _, miou in result.evaluated)
    assert (result.best.protocol.steps, result.best.miou) in result.evaluated
    assert result.held_out is None
    stored = json.loads((run.folder / "result.json").read_text())
    assert Measurement.from_json(json.dumps(stored["measurement"])) == result.measurement
    assert make_arch(stored["arch"].pop("family"), **stored["arch"]) == run.arch
    with Image.open(run.folder / "predictions.png") as picture:
        assert picture.width > 3 * 64
    curve = (run.folder / "curve.svg").read_text()
    assert len(curve) < 20_000
    assert curve.count("<circle") == len(accuracy.curve) + len(result.evaluated)

    monkeypatch.setattr(session, "train", None)  # a run that is done is read
    assert trained().results == (result,)


@pytest.mark.slow
def test_a_run_is_a_trial_of_a_search_with_the_same_recipe_and_seed(tmp_path, monkeypatch):
    context, _ = search.prepare(tiny(tmp_path, "{name: scenes, size: [32, 64], train: 8, val: 6}"), None, 0)
    workshop = Workshop(context)
    settings = {"family": "regseg", **TINY}
    cost = workshop.run(Job(0, "cost", settings))
    trial = workshop.run(Job(0, "train", settings, cost.measurement, "key", seed=3)).measurement
    run = a_run(tmp_path, recipe=context.recipe, seed=3, label=context.accuracy.recipe)
    result = train_one(run)
    assert equal(weights(run.folder), weights(context.weights / "key"))
    assert result.last.protocol == trial.accuracy.protocol
    assert result.measurement.arch_id == trial.arch_id
    assert (result.last.miou, result.last.class_iou) == (trial.accuracy.miou, trial.accuracy.class_iou)


@pytest.fixture
def heeds_ctrl_c():
    """A process that a shell started in its background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_the_run_goes_on(heeds_ctrl_c):
    whole = trained(folder=Path("whole"), first_seed=1)
    stop = random.randint(1, 7)

    def interrupt(progress):
        if progress.seed == 1 and progress.step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TELL_SECONDS", 0.0)
        done = trained(seeds=2, on_progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert done.interrupted
    assert [result.seed for result in done.results] == [0]
    assert Checkpoints(done.runs[1].checkpoint, done.runs[1].identity).read()["plain"]["step"] == stop
    with pytest.raises(UserError, match="an unfinished run: add --resume"):
        trained(seeds=2)
    lines = []
    again = trained(seeds=2, resume=True, tell=lines.append)
    assert f"seed 1: resuming from step {stop} of 8" in lines
    assert not again.interrupted
    assert not again.runs[1].checkpoint.exists()
    for name in ("last.pt", "best.pt"):
        assert equal(weights(again.runs[1].folder, name), weights(whole.runs[0].folder, name))
    figures = [replace(found.results[-1].best, train_seconds=0) for found in (again, whole)]
    assert figures[0] == figures[1]


def test_a_seed_that_diverges_leaves_the_others():
    done = trained(recipe={**RECIPE, "learning_rate": 1e30, "schedule": "constant"}, seeds=2)
    assert done.results == ()
    assert set(done.failures) == {0, 1}
    assert done.failures[0].startswith("diverged: training diverged: the loss of step ")
    assert not any(run.checkpoint.exists() for run in done.runs)


def test_a_network_that_does_not_fit_into_memory_says_what_to_try(tmp_path, monkeypatch):
    def train(*_arguments, **_options):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(session, "train", train)
    with pytest.raises(Failed, match="out of memory: could not create a primitive; try `accumulation`"):
        train_one(a_run(tmp_path))

    def other(*_arguments, **_options):
        raise RuntimeError("a fault of the code")

    monkeypatch.setattr(session, "train", other)
    with pytest.raises(RuntimeError, match=r"^a fault of the code$"):
        train_one(a_run(tmp_path))


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint(tmp_path):
    run, limits = a_run(tmp_path, checkpoint_minutes=0.0), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress):  # the system refuses to write on, as a full disk would
        if progress.step >= 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TELL_SECONDS", 0.0)
        try:
            with pytest.raises(UserError, match="too large; the last checkpoint is kept: fix this"):
                train_one(run, on_progress=fill)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Checkpoints(run.checkpoint, run.identity).read()["plain"]["step"] == 3
    steps = []
    train_one(run, on_progress=lambda progress: steps.append(progress.step), tell=steps.append)
    assert steps[0] == "seed 0: resuming from step 3 of 8"


@pytest.mark.slow
def test_a_folder_belongs_to_one_process_and_to_one_run(tmp_path):
    run = a_run(tmp_path)
    run.folder.mkdir()
    with (run.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is working in"):
            train_one(run)
    train_one(run)
    with pytest.raises(UserError, match=r"belongs to another run \(seed: it has 0, now 1\); use"):
        train_one(replace(run, seed=1))
    (run.folder / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"is damaged .*remove it"):
        train_one(run)


@pytest.mark.slow
def test_starting_weights_are_told_of_and_part_of_the_run(tmp_path):
    start = tmp_path / "start.pt"
    model = make_arch("regseg", **TINY).build(5)
    save_weights(model, start)
    lines = []
    done = trained(init=start, tell=lines.append, recipe={**RECIPE, "learning_rate": 1e-12, "ema_decay": None})
    assert "-i" in done.runs[0].folder.name
    assert any(line.startswith("skipped head.") and "the model's is" in line for line in lines)
    assert any(" tensors matched, " in line for line in lines)
    assert done.results[0].init == lines[1:]
    name = next(iter(model.state_dict()))
    torch.testing.assert_close(weights(done.runs[0].folder)[name], model.state_dict()[name])
    with pytest.raises(UserError, match="cannot read the weights"):
        trained(init=tmp_path / "nothing.pt")


@pytest.mark.slow
def test_the_held_out_split_is_looked_at_once_with_the_best_weights(tmp_path, monkeypatch):
    data = load_data("scenes", **SCENES)
    test = load_data("scenes", **SCENES, test=4)
    looked = []
    monkeypatch.setattr(
        module,
        "evaluate",
        lambda model, split, *args, **options: (looked.append(split), evaluate(model, split, *args, **options))[1],
    )
    untrained = {}

    def worse_and_worse(model, *arguments, **options):
        untrained.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        result = train(model, *arguments, **options)
        return replace(result, best=replace(result.best, step=1, weights=untrained))

    monkeypatch.setattr(session, "train", worse_and_worse)
    run = a_run(tmp_path, data=data, held_out=HeldOut(test.test, test.fingerprint))
    result = train_one(run)
    assert looked == [test.test]
    assert equal(weights(run.folder, "best.pt"), untrained)
    assert not equal(weights(run.folder, "last.pt"), untrained)
    assert result.held_out.miou == scored(run, "best.pt", test.test)
    protocol = result.held_out.protocol
    assert (protocol.split, protocol.steps) == ("test", 1)
    assert protocol.data_fingerprint == test.fingerprint != result.best.protocol.data_fingerprint


def test_epochs_are_steps_over_the_training_split():
    data = load_data("scenes", **SCENES)
    assert recipe_of("short-scenes", {"warmup_steps": 0}, 3, data).steps == 3
    assert recipe_of(RECIPE, None, 2.5, data).steps == 10
    changed = recipe_of("short-scenes", {"batch_size": 3, "warmup_steps": 0}, 1, data)
    assert (changed.name, changed.steps) == ("short-scenes", 3)
    assert "steps is 3 instead of 300" in changed.deviations
    Path("own.yaml").write_text("name: short-scenes\nsteps: 40\n")
    assert recipe_of(Path("own.yaml"), None, None, data).steps == 40
    short = recipe_of("short-scenes", {"batch_size": 1}, 15, data)  # its warm-up is 20 of 300 steps
    assert (short.steps, short.warmup_steps) == (120, 8)
    assert "warmup_steps is 8 instead of 20" in short.deviations
    assert recipe_of("short-scenes", {"batch_size": 1}, 100, data).warmup_steps == 20
    assert recipe_of("short-scenes", {"batch_size": 1, "warmup_steps": 7}, 15, data).warmup_steps == 7
    with pytest.raises(UserError, match=r"warmup_steps must be below steps \(with warmup_steps=20, steps=3\)"):
        recipe_of("short-scenes", {"warmup_steps": 20}, 3, data)
    with pytest.raises(UserError, match="above 0, got 0"):
        recipe_of(RECIPE, None, 0, data)
    with pytest.raises(UserError, match="did you mean 'short-scenes'"):
        recipe_of("short-scene", None, None, data)


def test_metrics_by_hand(tmp_path):
    done = trained(seeds=2, recipe={**RECIPE, "steps": 1})
    ious = {"road": 80.0, "truck": 10.0, "car": None, "person": 40.0}
    results = [
        replace(
            result,
            measurement=replace(result.measurement, accuracy=replace(result.last, miou=10.0 + n, class_iou=ious)),
            best=replace(result.best, pixel_accuracy=50.0, class_iou=ious),
        )
        for n, result in enumerate(done.results)
    ]
    rows = {row.name: row for row in metrics(results)}
    assert list(rows) == ["mIoU", "mIoU^R", "pixel accuracy", "IoU road", "IoU truck", "IoU car", "IoU person"]
    assert rows["mIoU"].last == (10.0, 11.0)
    assert rows["mIoU^R"].best == (60.0, 60.0)
    assert rows["IoU car"].last == (None, None)
    assert rows["pixel accuracy"].held_out == ()
    assert [spread(row) for row in ((10.0, 11.0), (10.0, None), (None,))] == ["10.50 ± 0.71", "10.00", ""]


def test_the_curve_is_drawn_where_its_numbers_are():
    assert ticks(0, 3.1) == [0, 1, 2, 3]
    assert ticks(0, 0.04) == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])
    assert ticks(0, 371_875) == [0, 100_000, 200_000, 300_000]
    svg = ElementTree.fromstring(curve_svg("a < b", [(5, 4.0), (10, 2.0)], [(10, 50.0)], 10))
    assert svg[0].text == "a < b"
    lines = [e.get("points").split() for e in svg.iter() if e.get("points")]
    loss, score = ([list(map(float, place.split(","))) for place in line] for line in lines)
    (left, top), (right, middle) = loss
    axis = {e.text: float(e.get("y")) - 4 for e in svg.iter() if e.get("text-anchor") == "end" and e.text != "steps"}
    assert middle - top == pytest.approx((axis["0"] - axis["50"]) / 2, abs=0.2)  # both panels are equally high
    assert (score[0][0], right - left) == (right, (right - 64) / 2)
    curve_svg("nothing yet", [], [], 10)


def test_what_is_drawn_is_what_is_evaluated():
    data = load_data("scenes", **SCENES)
    model = make_arch("regseg", **TINY).build(data.num_classes)
    counts = 0
    for number, labels in enumerate(data.val.labels):
        found, kept = torch.from_numpy(predicted(model, data.val, number)), labels != 255
        cells = labels[kept].long() * data.num_classes + found[kept]
        counts = counts + torch.bincount(cells, minlength=data.num_classes**2)
    assert torch.equal(counts, evaluate(model, data.val, data.num_classes, batch_size=1).counts[:, :-1].flatten())
    picture = predictions_picture(model, data, "val", 3).convert("RGB")
    number = data.val.labels[-1, 0, 0]
    place = (3 * 64 + 4 + 1, 20 + 2 * (3 * 32 + 4) + 1)  # of the last image's labels, shown threefold
    assert picture.getpixel(place) == tuple(data.colours[number])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"device": "tpu"}, "device must be cpu, cuda or cuda:N, got 'tpu'"),
        ({"device": "cuda:99"}, "cuda:99 is not available"),
        ({"seeds": 0}, "at least one seed"),
        ({"recipe": "nothing-like-it"}, "unknown recipe"),
        ({"data": "nowhere", "data_options": None}, "nowhere"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(bad, message):
    with pytest.raises(UserError, match=message):
        trained(**bad)
    assert not Path("runs").exists()


def test_a_run_by_code_of_ones_own_that_was_changed_since_is_another_run():
    code, short = Path("mine.py"), {"recipe": {**RECIPE, "steps": 2}}
    code.write_text("from nasseg.families.regseg import RegSegArch\n\nclass Mine(RegSegArch):\n    pass\n")
    given = {"data": "scenes", "data_options": SCENES, "overrides": TINY, **short}
    (result,) = train_address("mine.py:Mine", **given).results
    assert result.arch["family"] == "mine.py:Mine"
    code.write_text(code.read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"belongs to another run \(own code.mine.py:Mine: it has '\w+', now '\w+'\)"):
        train_address("mine.py:Mine", **given)
