"""Pre-training: it learns, resumes to the same weights, and its files start a segmentation network."""

import json
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.train.classification.classify import ClassifierOf, Classifying
from nasseg.train.classification.images import image_folder
from nasseg.train.classification.pretrain import pretrain
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe, load_recipe
from nasseg.train.weights import load_weights
from tests.command_line import nasseg, refused
from tests.train.classification.two_classes import two_classes

TINY = {"width": 0.125, "stage3_modules": 1, "stage4_modules": 1, "stage5_modules": 1}
RECIPE = {"steps": 12, "batch_size": 6, "crop_size": [32, 32], "learning_rate": 0.05, "label_smoothing": 0.1}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    return two_classes(tmp_path / "pictures")


def tiny():
    return make_arch("stdc", **TINY)


def test_it_learns_and_a_segmentation_network_starts_from_it(here):
    done = pretrain(tiny(), here, RECIPE)
    assert done.best_top1 == 100
    told = json.loads((done.folder / "pretrained.json").read_text())
    assert (told["evaluated"][-1], told["best_step"]) == ([12, done.top1], done.best_step)
    assert sorted(path.name for path in done.folder.iterdir() if path.suffix) == [
        "best.pt",
        "last.pt",
        "pretrained.json",
    ]
    model = tiny().build(5)
    loaded = load_weights(model, done.folder / "last.pt")
    kept = torch.load(done.folder / "last.pt", weights_only=True)
    encoder = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("encoder.")}
    assert set(encoder) <= set(loaded.matched)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in encoder.items())
    assert pretrain(tiny(), here, RECIPE) == done  # it is read
    (done.folder / "pretrained.json").write_text('{"top1": 5')
    with pytest.raises(UserError, match=r"pretrained\.json is damaged; remove it to train again"):
        pretrain(tiny(), here, RECIPE)


@pytest.mark.slow
def test_it_resumes_to_the_same_weights(here, tmp_path, monkeypatch):
    whole = pretrain(tiny(), here, RECIPE)
    expected = (whole.folder / "last.pt").read_bytes()
    for path in whole.folder.iterdir():
        path.unlink()

    def stop(step, _of, _line):
        if step == 7:
            raise KeyboardInterrupt

    assert pretrain(tiny(), here, RECIPE, on_progress=stop) is None
    with pytest.raises(UserError, match="holds an unfinished run: add --resume"):
        pretrain(tiny(), here, RECIPE)
    again = pretrain(tiny(), here, RECIPE, resume=True)
    assert again.folder == whole.folder
    assert (again.folder / "last.pt").read_bytes() == expected
    assert not (again.folder / "checkpoint.pt").exists()


def test_loss_and_score_by_hand(here):
    """Smoothed cross entropy, written out; top-1 of a network that answers the second class always is a half."""

    class Second(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([[0.0, 1.0]]).expand(len(images), 2)

    model = Second()
    model.weight = torch.nn.Parameter(torch.zeros(1, 1))
    recipe = Recipe(**{**RECIPE, "label_smoothing": 0.2})
    training = Classifying(model, image_folder(here), recipe, 0, "cpu")
    images, labels = training.views()
    assert (images.shape, labels.shape) == ((6, 3, 32, 32), (6,))
    logs = F.log_softmax(torch.tensor([0.0, 1.0]), 0)
    expected = -sum(0.8 * logs[label] + 0.2 * logs.mean() for label in labels) / 6
    assert training.loss(images, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    assert training.score(nullcontext).pixel_accuracy == 50


def test_networks_and_recipes_that_are_not_for_whole_images(here):
    for arch, said in (
        (make_arch("regseg"), "regseg has no classifier to pre-train: stdc and backbones have one"),
        (make_arch("backbone", output_stride=16), "leave output_stride at 32"),
    ):
        with pytest.raises(UserError, match=said):
            ClassifierOf(arch)
    with pytest.raises(UserError, match="ohem, heads in a recipe are for segmentation"):
        pretrain(tiny(), here, "bisenetv2-cityscapes", settings={"scale_range": [1, 1]})
    data = load_data("scenes", size=(32, 64), train=2, val=1)
    with pytest.raises(UserError, match="label_smoothing is only for whole images"):
        train(make_arch("stdc", **TINY).build(data.num_classes), data, Recipe(label_smoothing=0.1), seed=0)
    assert load_recipe("stdc-imagenet").learning_rate_at(0) == pytest.approx(0.001)  # printed: 0.001 to 0.1


def test_a_backbones_classifier_is_the_published_one():
    model = ClassifierOf(make_arch("backbone", name="mobilenetv3-large")).build(1000)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(5.4e6, rel=0.02)  # as printed


def test_the_command(here, tmp_path):
    (tmp_path / "recipe.yaml").write_text(json.dumps({**RECIPE, "steps": 2}))
    settings = [f"--set={name}={value}" for name, value in TINY.items()]
    command = ("pretrain", "stdc", "--data", here, "--recipe", "recipe.yaml", *settings)
    said = nasseg(*command, cwd=tmp_path).stdout
    assert "12 pictures of 2 classes: runs/pretrain/stdc-" in said
    assert "top-1 on the validation split: " in said
    assert "--init runs/pretrain/stdc-" in said
    assert "has no classifier" in refused("pretrain", "dabnet", "--data", here, cwd=tmp_path)
