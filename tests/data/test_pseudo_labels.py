"""Self-training: labels by hand, `nasseg label` and what it says, and steps that are half pseudo-labelled."""

import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.data.dataset import load_data
from nasseg.data.pseudo_labels import PseudoLabels, begin_labels
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.network import label as module
from nasseg.network.label import label_folder, pseudo_label
from nasseg.network.train import train_address
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe
from nasseg.train.run import Run, train_one
from nasseg.train.views.batches import Batches
from tests.data import downloads
from tests.train.test_loop import Pixelwise

SCENES = {"size": [32, 64], "train": 6, "val": 2}
IMAGES = 5
SURE = 0.15  # enough for a teacher of twelve steps, among ten classes


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    return load_data("scenes", **SCENES)


def write_images(folder, size=(32, 64)):
    found = load_data("scenes", size=size, train=IMAGES, val=1, seed=7).train.images
    for number, image in enumerate(found):
        path = folder / ("city" if number % 2 else "") / f"f{number}.{'png' if number else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(path)


@pytest.fixture(scope="module")
def labelled(data, tmp_path_factory):
    """A folder with images, a run that is done, and pseudo-labels of the first by the second."""
    root = tmp_path_factory.mktemp("labelled")
    write_images(root / "images")
    arch = make_arch("regseg", width=0.25, dilations="(1,1)")
    recipe = Recipe(steps=12, batch_size=2)
    train_one(Run(arch=arch, data=data, recipe=recipe, seed=0, folder=root / "teacher", evaluations=1))
    done = label_folder(root / "teacher", root / "images", root / "pseudo", confidence=SURE)
    assert (done.images, done.written, done.interrupted) == (IMAGES, IMAGES, False)
    assert 0.05 < done.sure < 1
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_pseudo_labels_by_hand():
    """Class 0 has 0.9 in the left half and 0.3 in the right one, of whatever is seen; flips make 0.6 of both."""
    seen = []

    def model(view):
        seen.append(view)
        first = torch.full((1, 1, *view.shape[2:]), 0.3)
        first[..., : view.shape[3] // 2] = 0.9
        return torch.cat([first, 1 - first], 1).log()

    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    found = pseudo_label(model, image, (1.0,), 0.5, (40, 64))
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.zeros(40, 64))
    assert torch.equal(seen[1], seen[0].flip(3))
    assert (pseudo_label(model, image, (1.0,), 0.61, (40, 64)) == 255).all()
    seen.clear()
    pseudo_label(model, image, (0.5, 1.0, 2.0), 0.5, (80, 200))  # the teacher saw images twice as large, and wide ones
    assert [tuple(view.shape[2:]) for view in seen[::2]] == [(40, 100), (80, 200), (160, 400)]
    for plain, mirrored, width in zip(seen[::2], seen[1::2], (64, 128, 256), strict=True):
        assert torch.equal(mirrored[..., :width], plain[..., :width].flip(3))
        assert not plain[..., width:].any()  # the mean colour, as in evaluation
        assert not mirrored[..., width:].any()


def test_scales_are_averaged_as_probabilities():
    """0.9 and 0.2, 0.2: 0.433 is not above 0.5, and the other class' 0.567 is; as logits it were the other way."""

    def model(view):
        first = torch.full((1, 1, *view.shape[2:]), 0.999 if view.shape[2] == 32 else 0.2)
        return torch.cat([first, 1 - first], 1).log()

    image = np.zeros((64, 64, 3), np.uint8)
    assert (pseudo_label(model, image, (0.5, 1.0, 2.0), 0.5, (64, 64)) == 1).all()
    assert (pseudo_label(model, image, (0.5, 1.0, 2.0), 0.55, (64, 64)) == 255).all()


def test_confidence_is_to_be_exceeded():
    def model(view):
        return torch.zeros(1, 2, *view.shape[2:])

    assert (pseudo_label(model, np.zeros((32, 32, 3), np.uint8), (1.0,), 0.5, (32, 32)) == 255).all()


@pytest.mark.slow
def test_a_folder_is_labelled_and_gone_on_with(labelled, tmp_path, monkeypatch):
    write_images(tmp_path / "images")
    run, images, folder = labelled / "teacher", tmp_path / "images", tmp_path / "pseudo"
    stop = random.randint(1, IMAGES - 1)

    def interrupt(done, of):
        assert of == IMAGES
        if done == stop:
            raise KeyboardInterrupt

    done = label_folder(run, images, folder, confidence=SURE, on_progress=interrupt)
    assert (done.written, done.interrupted) == (stop, True)
    with pytest.raises(UserError, match=f"{IMAGES - stop} of {IMAGES} images in .* have no pseudo-label yet"):
        load_data("scenes", **SCENES, pseudo=folder)
    assert label_folder(run, images, folder, confidence=SURE).written == IMAGES - stop
    monkeypatch.setattr(module, "write_label", None)
    assert label_folder(run, images, folder, confidence=SURE).sure is None
    files = sorted(path.relative_to(folder / "labels").as_posix() for path in (folder / "labels").rglob("*.png"))
    assert files == ["city/f1.png.png", "city/f3.png.png", "f0.jpg.png", "f2.png.png", "f4.png.png"]
    for file in files:
        assert (folder / "labels" / file).read_bytes() == (labelled / "pseudo" / "labels" / file).read_bytes()
    with pytest.raises(UserError, match="holds pseudo-labels that differ in scales, confidence: give another folder"):
        label_folder(run, images, folder, scales=(1.0,))


@pytest.mark.slow
def test_labels_are_what_the_teacher_sees(labelled, data):
    weights = torch.load(labelled / "teacher" / "best.pt", weights_only=True)
    model = make_arch("regseg", width=0.25, dilations="(1,1)").build(data.num_classes).eval()
    model.load_state_dict(weights)
    image = np.array(Image.open(labelled / "images/f2.png"))
    found = pseudo_label(model, image, (0.5, 1.0, 2.0), SURE, (32, 64)).numpy()
    assert np.array_equal(found, np.asarray(Image.open(labelled / "pseudo/labels/f2.png.png")))


@pytest.mark.slow
def test_pseudo_labelled_images_are_a_split(labelled, data):
    folder = labelled / "pseudo"
    found = load_data("scenes", **SCENES, pseudo=str(folder))
    pseudo = found.split("pseudo")
    assert (len(pseudo), pseudo.size, found.counts["pseudo"]) == (IMAGES, (32, 64), IMAGES)
    assert torch.equal(pseudo.labels[-1], torch.from_numpy(np.array(Image.open(folder / "labels/f4.png.png"))))
    assert found.fingerprint == load_data("scenes", **SCENES, pseudo=folder).fingerprint != data.fingerprint
    assert torch.equal(found.val.images, data.val.images)


def test_half_of_every_step_is_pseudo_labelled(labelled, data):
    """Each image once a round, evenly among the others, so that parts of a step have both."""
    found = load_data("scenes", **SCENES, pseudo=labelled / "pseudo")
    recipe = Recipe(batch_size=4, pseudo=0.5, class_uniform=1.0)
    batches = Batches(found, recipe, torch.Generator().manual_seed(0), torch.device("cpu"))
    pseudo, seen = found.split("pseudo").images, []
    for _ in range(IMAGES):
        (images, labels), places = batches.next()
        assert images.shape == (4, 32, 64, 3)
        assert labels.shape == (4, 32, 64)
        number = [next((n for n, other in enumerate(pseudo) if torch.equal(image, other)), None) for image in images]
        assert [n is None for n in number] == [True, False, True, False]
        assert (~places.isnan()).any(1).tolist() == [True, False, True, False]
        assert torch.equal(labels[1], found.split("pseudo").labels[number[1]])
        seen += [number[1], number[3]]
    assert sorted(seen[:IMAGES]) == list(range(IMAGES))
    few = Batches(found, Recipe(batch_size=8, pseudo=0.25), torch.Generator(), torch.device("cpu"))
    assert (few.rounds.size, few.pseudo_rounds.size) == (6, 2)


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_networks_are_chosen_or_tested_on_is_not_learned_from(tmp_path, split):
    """By content, so a copy under another name is found too; images of the training split may be labelled again."""
    data = downloads.camvid(tmp_path / "camvid", splits=("train", "val", "test"))
    classes = load_data(data).classes
    images, folder = tmp_path / "images", tmp_path / "pseudo"
    images.mkdir()
    shutil.copy(data / "train/f0.png", images / "a.png")
    begin_labels(
        folder,
        PseudoLabels(
            images=str(images),
            files=("a.png",),
            classes=classes,
            teacher="",
            scales=(1.0,),
            confidence=0,
            size=(24, 32),
        ),
    )
    (folder / "labels").mkdir()
    shutil.copy(data / "trainannot/f0.png", folder / "labels/a.png.png")
    assert load_data(data, pseudo=folder).counts["pseudo"] == 1
    shutil.copy(data / split / "f2.png", images / "a.png")
    with pytest.raises(UserError, match=rf"1 of the 1 pseudo-labelled .*a\.png is .*f2\.png, of the split {split};"):
        load_data(data, pseudo=folder)


def test_images_of_another_size_are_seen_at_one(labelled, data, tmp_path):
    write_images(tmp_path / "images", (48, 80))
    label_folder(labelled / "teacher", tmp_path / "images", tmp_path / "pseudo", scales=(1.0,), confidence=SURE)
    found = load_data("scenes", **SCENES, pseudo=tmp_path / "pseudo")
    recipe, pseudo = Recipe(steps=1, batch_size=4, pseudo=0.5), found.split("pseudo")
    assert (pseudo.images.shape[1:3], pseudo.size) == ((32, 53), (32, 64))
    train(Pixelwise(data.num_classes), found, recipe, seed=0)
    unsized = replace(found, _read={**found._read, "pseudo": replace(pseudo, seen=None)})
    with pytest.raises(UserError, match="images are 53 x 32, those of scenes 64 x 32: set the size that networks see"):
        train(Pixelwise(data.num_classes), unsized, recipe, seed=0)


def test_self_training_is_one_seed_one_result_and_goes_on(labelled, tmp_path):
    found = load_data("scenes", **SCENES, pseudo=labelled / "pseudo")
    recipe = Recipe(steps=6, batch_size=4, pseudo=0.5, class_uniform=0.5, rand_augment={}, accumulation=2)
    whole, again = (Pixelwise(found.num_classes) for _ in range(2))
    curve = train(whole, found, recipe, seed=1).curve
    kept = Checkpoints(tmp_path / "c.pt", {})
    train(Pixelwise(found.num_classes), found, recipe, seed=1, until=random.randint(1, 5), checkpoints=kept)
    assert train(again, found, recipe, seed=1, checkpoints=Checkpoints(tmp_path / "c.pt", {})).curve == curve
    assert torch.equal(whole[0].weight, again[0].weight)


def test_recipe_and_data_must_agree(labelled, data):
    found = load_data("scenes", **SCENES, pseudo=labelled / "pseudo")
    with pytest.raises(
        UserError, match="the data have none: make them with `nasseg label`, and name them with --pseudo FOLDER"
    ):
        train(Pixelwise(data.num_classes), data, Recipe(steps=1, pseudo=0.5), seed=0)
    with pytest.raises(UserError, match="the recipe draws none: set its `pseudo`"):
        train(Pixelwise(data.num_classes), found, Recipe(steps=1), seed=0)


def test_a_run_that_learns_from_another(labelled, tmp_path):
    """As `nasseg train ... --pseudo FOLDER` does it."""
    done = train_address(
        "regseg",
        data="scenes",
        data_options={**SCENES, "pseudo": str(labelled / "pseudo")},
        folder=tmp_path,
        recipe={"steps": 1, "batch_size": 2, "pseudo": 0.5},
        overrides={"width": 0.25, "dilations": "(1,1)"},
    )
    assert done.results[0].best.miou > 0
    assert done.runs[0].data.fingerprint in done.runs[0].folder.name


def test_what_is_wrong_is_said(labelled, tmp_path, monkeypatch):
    run, images = labelled / "teacher", labelled / "images"

    def says(message, *arguments, **options):
        with pytest.raises(UserError, match=message):
            label_folder(*arguments, **options)

    says("is no finished run", tmp_path, images, tmp_path / "o")
    says("no folder", run, tmp_path / "none", tmp_path / "o")
    (tmp_path / "empty").mkdir()
    says("no pictures in", run, tmp_path / "empty", tmp_path / "o")
    says("would count as pictures", run, images, images / "o")
    for scale in (0.0, math.nan, math.inf):
        says("scales above 0", run, images, tmp_path / "o", scales=(scale,))
    says("scales above 0", run, images, tmp_path / "o", confidence=1.0)
    with pytest.raises(UserError, match="no pseudo-labels in"):
        load_data("scenes", **SCENES, pseudo=tmp_path / "none")
    (tmp_path / "pseudo.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        load_data("scenes", **SCENES, pseudo=tmp_path)
    text = (labelled / "pseudo" / "pseudo.json").read_text()
    (tmp_path / "pseudo.json").write_text(text.replace('"road"', '"street"'))
    with pytest.raises(UserError, match=r"have the classes sky, building, street, .*both must be the same"):
        load_data("scenes", **SCENES, pseudo=tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cut.png").write_bytes((images / "f2.png").read_bytes()[:100])
    says(r"cannot read image .*cut\.png", run, tmp_path / "images", tmp_path / "cut")
    assert not list((tmp_path / "cut").rglob("*.png"))
    (tmp_path / "teacher").mkdir()
    for name in ("result.json", "best.pt"):
        (tmp_path / "teacher" / name).write_bytes(Path(run / name).read_bytes() + b" ")
    says("is not what .* was evaluated with", tmp_path / "teacher", images, tmp_path / "o")
