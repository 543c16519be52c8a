"""Each command takes each address of something trained, and works with the weights that lie there."""

import contextlib
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from nasseg.data import scenes
from nasseg.errors import UserError
from nasseg.files import parse_yaml
from nasseg.network.evaluate import evaluate_address
from nasseg.network.export import export_address
from nasseg.network.label import label_folder
from nasseg.network.measure import measure_address
from nasseg.network.predict import predict
from nasseg.network.time_in_turns import time_addresses
from nasseg.network.train import train_address
from nasseg.network.weighted import find_weighted
from nasseg.study.search.run_study import prepare
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.record import Record
from nasseg.study.store.storage import open_storage
from nasseg.study.store.trained import with_init_file
from nasseg.study.study_file import study_from
from nasseg.train.recipe import load_recipe
from nasseg.train.weights import save_weights
from tests.command_line import nasseg, refused
from tests.network.test_address import a_table
from tests.slow import slow
from tests.study.leaving import SIZE, STORAGE, TINY, WEIGHTS, build, costed, make_study, measured

SCENES = {"size": [32, 64], "train": 4, "val": 1}
KINDS = ("run", "best.pt", "last.pt", "trial", "finished", "row", "row's trial")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder where things were trained, and the file of weights at each address, by its kind."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASSEG_LOCKS", str(folder / "locks"))
        options = {"data_options": {**SCENES, "val": 2}, "overrides": TINY}
        run = train_address("regseg", data="scenes", recipe={"steps": 2, "batch_size": 2}, **options).runs[0].folder
        make_study(folder)
        a_finish()
        a_table(folder)
    (folder / "in").mkdir()
    Image.fromarray(scenes.render(5, SIZE)[0]).save(folder / "in/street.png")
    return folder, {
        "run": (str(run), run / "best.pt"),
        "best.pt": (str(run / "best.pt"), run / "best.pt"),
        "last.pt": (str(run / "last.pt"), run / "last.pt"),
        "trial": ("tiny#0", WEIGHTS),
        "finished": ("tiny@finish#0", "runs/tiny/finish-key/best.pt"),
        "row": ("paper/table-1#base", "runs/tables/key-tested/best.pt"),
        "row's trial": ("paper/table-1@scenes-12#1", "runs/tables/key-tested/best.pt"),
    }


def a_finish():
    """Add what `nasseg finish` made of the study's network."""
    torch.manual_seed(7)
    sha = save_weights(build(len(scenes.CLASSES)), Path("runs/tiny/finish-key/best.pt"))
    record = Record.create(open_storage(STORAGE, create=True), "tiny@finish", {"miou": "maximize"}, {})
    settings = find_weighted("tiny#0", storage=STORAGE).resolved.trained.settings
    trial = record.claim(Candidate(Proposal({}, {}, {}), settings, costed(), seed=0), "finish-key", {}, {})
    best = {"best": json.dumps(asdict(measured().accuracy)), "best_sha256": sha, "weights_sha256": "other"}
    assert record.complete(trial, [47.11], {"measurement": measured().to_json(), **best})


@pytest.fixture
def here(trained, monkeypatch):
    """The folder of the trainings, in which commands then run."""
    folder, addresses = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NASSEG_LOCKS", str(folder / "locks"))
    return addresses


@pytest.fixture(params=["run", "trial", *[slow(kind) for kind in KINDS[1:] if kind != "trial"]])
def one(here, request):
    """An address, and the content of its weights' file."""
    address, file = here[request.param]
    return address, Path(file).read_bytes()


@pytest.mark.slow
def test_every_command_takes_it(one, tmp_path):
    address, content = one
    sha = hashlib.sha256(content).hexdigest()
    assert export_address(address, tmp_path / "a.pt", storage=STORAGE).card.weights == sha
    options = {"data_options": SCENES, "folder": tmp_path, "storage": STORAGE}
    assert evaluate_address(address, "scenes", **options)[0].protocol.weights == sha
    label_folder(address, Path("in"), tmp_path / "labels", scales=(1.0,), storage=STORAGE)
    assert json.loads((tmp_path / "labels/pseudo.json").read_text())["teacher"] == sha
    (found,) = predict(address, [Path("in/street.png")], tmp_path / "out", STORAGE)
    (same,) = predict(tmp_path / "a.pt", [Path("in/street.png")], tmp_path / "exported")
    assert found.labels.read_bytes() == same.labels.read_bytes()
    once = {"warmup": 0, "min_replicates": 1, "min_seconds": 0.0}
    timing = {"input_size": (32, 64), "repeat": 1, "settings": once, "storage": STORAGE}
    assert time_addresses([address], **timing).rows[0].p50_ms > 0
    assert measure_address(address, storage=STORAGE)["num_classes"] == len(scenes.CLASSES)


def test_every_command_begins_with_it(one, tmp_path):
    address, content = one
    sha, start = hashlib.sha256(content).hexdigest(), {"overrides": TINY, "init": address, "storage": STORAGE}
    card = export_address("regseg", tmp_path / "a.pt", num_classes=len(scenes.CLASSES), input_size=SIZE, **start).card
    assert card.weights == sha
    options = {"data_options": SCENES, "folder": tmp_path}
    assert evaluate_address("regseg", "scenes", **options, **start)[0].protocol.weights == sha
    recipe = {"steps": 1, "batch_size": 2, "init": address}
    assert Path(with_init_file(load_recipe(recipe), STORAGE).init).read_bytes() == content


@pytest.mark.slow
def test_a_recipe_may_begin_with_something_trained(here, tmp_path):
    recipe = {"steps": 1, "batch_size": 2, "init": "tiny#0"}
    options = {"data_options": SCENES, "overrides": TINY, "folder": tmp_path, "storage": STORAGE}
    (result,) = train_address("regseg", data="scenes", recipe=recipe, **options).results
    assert result.init[0].endswith(" tensors matched, 0 skipped")
    text = (
        "question: Q?\nexpected: E\nspace: quickstart\nobjectives: [miou]\ndata: {name: scenes, size: [32, 64]}\n"
        f"recipe: {json.dumps(recipe)}\n"
    )
    study = study_from(parse_yaml(text, tmp_path / "start.yaml"), "start")
    context, _ = prepare(study, None, 0, storage=STORAGE)
    assert context.recipe.init == WEIGHTS
    assert context.accuracy.init == result.identity["starting weights"]
    with pytest.raises(UserError, match="has no trial 99"):
        train_address("regseg", data="scenes", recipe={**recipe, "init": "tiny#99"}, **options)


@pytest.mark.slow
def test_latency_is_of_the_weights_of_a_file(here):
    asked = ("latency", "tiny#0", "--input", "32x64", "--repeat", "1", "--init")
    done = nasseg(*asked, WEIGHTS, "--classes", "10", cwd=".", NASSEG_STORAGE=STORAGE)
    assert "tiny#0" in done.stdout
    assert "does not fill this network" in refused(*asked, WEIGHTS, NASSEG_STORAGE=STORAGE)


def test_predict_names_its_files_and_times(here, tmp_path):
    done = nasseg("predict", "tiny#0", "in", "-o", tmp_path / "out", cwd=".", NASSEG_STORAGE=STORAGE)
    first, last = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/out/street.overlay.png: ")
    assert first.endswith(" ms")
    assert last.startswith("1 picture, ")
    assert "random weights" in refused("predict", "tiny#2", "in", "-o", tmp_path / "out", NASSEG_STORAGE=STORAGE)
