"""`nasseg evaluate`: what training's own evaluation gives, more views, and label maps for a test server."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.network.evaluate import evaluate_address
from nasseg.network.train import train_address
from nasseg.train.confusion import confusion_svg
from nasseg.train.loop import evaluate
from nasseg.train.views.network_input import MEAN, STD
from nasseg.train.weights import save_weights
from tests.data.downloads import cityscapes
from tests.study.leaving import TINY, colourful

SCENES = {"size": [32, 64], "train": 4, "val": 3}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def weights(here):
    """A file of weights of the tiny network for 19 classes."""
    torch.manual_seed(0)
    model = make_arch("regseg", **TINY).build(19)
    save_weights(model, here / "weights.pt")
    return here / "weights.pt"


def test_a_run_has_the_figures_that_its_training_found(here):
    done = train_address(
        "regseg", data="scenes", recipe={"steps": 3, "batch_size": 2}, data_options=SCENES, overrides=TINY
    )
    folder, best = done.runs[0].folder, done.results[0].best
    before = (folder / "best.pt").read_bytes()
    heard = []
    found, place = evaluate_address(
        str(folder), "scenes", data_options=SCENES, on_progress=lambda n, of: heard.append((n, of))
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert (found.miou, found.pixel_accuracy, found.class_iou) == (best.miou, best.pixel_accuracy, best.class_iou)
    assert found.protocol.data_fingerprint == best.protocol.data_fingerprint
    assert (folder / "best.pt").read_bytes() == before
    stored = json.loads((place / "result.json").read_text())
    assert stored["miou"] == found.miou
    assert sum(map(sum, stored["counts"])) == 3 * 32 * 64
    names = [name for name, _ in found.rows()]
    assert names[:3] == ["mIoU", "mIoU^R", "pixel accuracy"]
    ElementTree.parse(place / "confusion.svg")

    cityscapes(here / "city")
    with pytest.raises(UserError, match="was trained on sky, building"):
        evaluate_address(str(folder), here / "city")


@pytest.mark.slow
def test_several_views_are_averaged_under_a_protocol_of_their_own(here):
    save_weights(colourful(10), here / "weights.pt")
    options = {"overrides": TINY, "init": here / "weights.pt", "data_options": SCENES}
    one, place = evaluate_address("regseg", "scenes", **options)
    model = colourful(10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    data = load_data("scenes", **SCENES)
    assert one.counts == evaluate(model, data.val, 10, batch_size=1).counts.tolist()
    assert sum(value is not None for value in one.class_iou.values()) > 5
    more, other = evaluate_address("regseg", "scenes", scales=(1, 2), flip=True, **options)
    assert (more.protocol, other) != (one.protocol, place)
    with torch.inference_mode():
        for number in range(3):
            image = place_image(data.val.images[number])
            views = [model(image).softmax(1), model(image.flip(3)).softmax(1).flip(3)]
            picture = Image.fromarray(data.val.images[number].numpy())
            large = place_image(torch.tensor(np.asarray(picture.resize((128, 64), Image.Resampling.BILINEAR))))
            for view in (model(large).softmax(1), model(large.flip(3)).softmax(1).flip(3)):
                views.append(torch.nn.functional.interpolate(view, (32, 64), mode="bilinear"))
            for true, found in zip(data.val.labels[number].flatten(), sum(views).argmax(1).flatten(), strict=True):
                more.counts[int(true)][int(found)] -= 1
    assert sum(abs(count) for row in more.counts for count in row) <= 4  # where two classes are as good as even
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def place_image(image):
    """Pixels as the network reads them, [1, 3, H, W]."""
    return ((image.float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]


def test_label_maps_have_the_data_set_s_ids_and_names(here, weights):
    cityscapes(here / "city")
    found, _ = evaluate_address("regseg", here / "city", overrides=TINY, init=weights, save=here / "maps")
    data = load_data(here / "city")
    model = make_arch("regseg", **TINY).build(19)
    model.load_state_dict(torch.load(weights, weights_only=True))
    assert found.counts == evaluate(model, data.val, 19).counts.tolist()
    maps = sorted(path.relative_to(here / "maps").as_posix() for path in (here / "maps").rglob("*.png"))
    images = sorted((here / "city" / "leftImg8bit" / "val").rglob("*.png"))
    assert maps == [path.relative_to(here / "city").as_posix() for path in images]
    values = {int(value) for path in (here / "maps").rglob("*.png") for value in np.unique(Image.open(path))}
    assert values <= {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33}


def test_a_test_server_s_split_is_written_without_figures(here, weights):
    cityscapes(here / "city")
    options = {"overrides": TINY, "init": weights, "split": "test"}
    with pytest.raises(UserError, match="its labels are not public"):
        evaluate_address("regseg", here / "city", **options)
    found, _ = evaluate_address("regseg", here / "city", save=here / "maps", **options)
    assert found.miou is None
    assert len(list((here / "maps" / "leftImg8bit" / "test").rglob("*.png"))) == found.images > 0


def test_random_weights_and_odd_scales_are_refused(here):
    with pytest.raises(UserError, match=r"random weights.*--init"):
        evaluate_address("regseg", "scenes")
    with pytest.raises(UserError, match="scales above 0"):
        evaluate_address("regseg", "scenes", scales=(0.0,))


def test_a_confusion_matrix_is_drawn_by_rows():
    drawn = confusion_svg("a & b", ("road", "<sky>"), [[3, 1, 0], [0, 0, 0]])
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.text and element.text.strip()]
    assert texts[-4:] == ["road", "75", "25", "<sky>"]
    assert "no prediction" not in texts
    assert "no prediction" in confusion_svg("", ("road",), [[3, 1]])
