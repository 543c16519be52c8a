"""Pictures segmented by what was exported: the right classes, at the picture's size, in the right colours."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nasseg.data import scenes
from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.network.card import read_card, sha256
from nasseg.network.export import export_address
from nasseg.network.predict import OPACITY, open_exported, overlay, predict
from nasseg.train.loop import evaluate
from nasseg.train.views.network_input import normalise
from tests.slow import slow
from tests.study.leaving import SIZE, STORAGE, build, colourful, make_study


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a network as a state_dict, a.pt, from a study that is there too."""
    folder = tmp_path_factory.mktemp("files")
    make_study(folder)
    export(folder, folder / "a.pt")
    return folder


def export(study, path, **options):
    with contextlib.chdir(study):
        return export_address("tiny#0", path, storage=STORAGE, **options).path


@pytest.fixture
def network(files, tmp_path):
    """A copy of the state_dict and its card, to be spoilt."""
    for name in ("a.pt", "a.card.json"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    return tmp_path / "a.pt"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(scenes.render(5, SIZE)[0]).save(path)
    return path


def expected(network, images):
    """Classes of the first image by PyTorch alone: [1, 3, H, W] -> [H, W]."""
    model = build(len(scenes.CLASSES))
    model.load_state_dict(torch.load(network, weights_only=True))
    with torch.no_grad():
        return model(images)[0].argmax(0).numpy()


def seen(path):
    """A picture of the network's size as the network reads it."""
    return normalise(torch.from_numpy(np.array(Image.open(path)))[None])


def edit_card(path, *keys_and_value):
    """Change a card, and let it belong to the file as that is now."""
    place = path.with_name("a.card.json")
    card = json.loads(place.read_text())
    card["sha256"] = sha256(path.read_bytes())
    if keys_and_value:
        *keys, last, value = keys_and_value
        part = card
        for key in keys:
            part = part[key]
        part[last] = value
    place.write_text(json.dumps(card))


def test_labels_are_the_networks_classes(network, picture, tmp_path):
    (done,) = predict(network, [picture], tmp_path / "out")
    label = Image.open(tmp_path / "out/street.png")
    assert (label.mode, label.size) == ("L", (96, 64))
    found = np.asarray(label)
    assert np.array_equal(found, expected(network, seen(picture)))
    assert len(np.unique(found)) > 3
    assert (done.labels, done.overlay, done.size) == (
        tmp_path / "out/street.png",
        tmp_path / "out/street.overlay.png",
        SIZE,
    )
    assert done.shares == {
        name: pytest.approx((found == index).mean()) for index, name in enumerate(scenes.CLASSES) if index in found
    }
    most = max(done.shares, key=done.shares.get)
    assert done.line().startswith(f"{done.overlay}: {most} {100 * done.shares[most]:.1f} %")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "options"), [("onnx", {"argmax": True, "batch": 2}), ("pt2", {})])
def test_every_format_gives_the_same_classes(files, tmp_path, suffix, options):
    if suffix == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    path = export(files, tmp_path / f"b.{suffix}", **options)
    paths = [tmp_path / f"{index}.png" for index in range(3)]  # a batch and a half of two
    for index, each in enumerate(paths):
        Image.fromarray(scenes.render(index, SIZE)[0]).save(each)
    done = list(predict(path, paths, tmp_path / "out"))
    assert [item.image for item in done] == paths
    for item in done:
        found = np.asarray(Image.open(item.labels))
        assert (found == expected(files / "a.pt", seen(item.image))).mean() > 0.999


SIZES = [SIZE, (40, 120), (100, 60), (48, 64), (130, 200), (33, 97), (300, 20)]  # of networks, and of many ratios
TURNED = 5  # this one is stored on its side, with a note how to show it


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A data set whose pictures are of many ratios, its validation split, and its pictures with their labels."""
    root, cache = tmp_path_factory.mktemp("mixed"), tmp_path_factory.mktemp("cache")
    rows = [
        f"  - {{name: {name}, ids: [{index}], colour: [{index}, 0, 0]}}\n" for index, name in enumerate(scenes.CLASSES)
    ]
    (root / "table.yaml").write_text(
        f"root: {json.dumps(str(root))}\nclasses:\n{''.join(rows)}"
        'layouts: {own: {images: "images/{split}/{name}", labels: [{path: "labels/{split}/{name}.png", hold: ids}],\n'
        "  splits: {train: {folder: train}, val: {folder: val}}}}\n"
    )
    pairs = {}
    for number, size in enumerate(SIZES):
        image, label = scenes.render(number, (max(size), max(size)))
        image, label = image[: size[0], : size[1]], label[: size[0], : size[1]]
        picture, exif = Image.fromarray(image), Image.Exif()
        if number == TURNED:
            picture, exif[0x0112] = picture.transpose(Image.Transpose.ROTATE_90), 6
        path, of_label = root / f"images/val/{number}.png", root / f"labels/val/{number}.png"
        for each in (path, of_label):
            each.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, exif=exif)
        Image.fromarray(label).save(of_label)
        pairs[path] = label
    for kind in ("images", "labels"):  # what is trained on does not matter here
        shutil.copytree(root / kind / "val", root / kind / "train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASSEG_CACHE", str(cache))
        return load_data(root / "table.yaml", size=list(SIZE)).val, pairs


def miou(pairs):
    """Of pairs of labels and predictions, by NumPy alone."""
    cells = np.concatenate([10 * label[label != 255].astype(int) + found[label != 255] for label, found in pairs])
    counts = np.bincount(cells, minlength=100).reshape(10, 10)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return (100 * counts.diagonal()[union > 0] / union[union > 0]).mean()


def recorded(split):
    return evaluate(colourful(len(scenes.CLASSES)), split, len(scenes.CLASSES)).miou


@pytest.mark.parametrize("suffix", ["pt", slow("onnx")])
def test_an_exported_file_has_the_recorded_accuracy_on_pictures_of_many_ratios(files, mixed, tmp_path, suffix, request):
    """To the last digit: one road from a picture to the network, in evaluation and in prediction."""
    split, pairs = mixed
    path = request.getfixturevalue("onnx_file").path if suffix == "onnx" else files / "a.pt"
    done = {item.image: np.asarray(Image.open(item.labels)) for item in predict(path, list(pairs), tmp_path / "out")}
    assert [done[image].shape for image in pairs] == SIZES
    assert miou((label, done[image]) for image, label in pairs.items()) == pytest.approx(recorded(split), rel=1e-13)


@pytest.mark.slow
def test_the_card_is_enough_for_the_recorded_accuracy(onnx_file, mixed):
    """What card and file say, done by Pillow, NumPy, ONNX Runtime and a plain resize, as somebody else would."""
    split, pairs = mixed
    session = pytest.importorskip("onnxruntime").InferenceSession(onnx_file.path, providers=["CPUExecutionProvider"])
    card = json.loads(onnx_file.card_path.read_text())
    assert [len(card["input"]["prepare"]), len(card["output"]["map_back"])] == [6, 3]
    height, width = card["input"]["shape"][2:]
    found = []
    for path, label in pairs.items():
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        share = min(height / picture.height, width / picture.width)
        h, w = max(1, round(share * picture.height)), max(1, round(share * picture.width))
        resized = np.asarray(picture.resize((w, h), Image.Resampling.BILINEAR), np.float32)
        seen = np.zeros((1, 3, height, width), np.float32)
        seen[0, :, :h, :w] = ((resized - card["input"]["mean"]) / card["input"]["std"]).transpose(2, 0, 1)
        (logits,) = session.run([card["output"]["name"]], {card["input"]["name"]: seen})
        cut = torch.from_numpy(logits[..., :h, :w])
        found.append((label, torch.nn.functional.interpolate(cut, label.shape, mode="bilinear")[0].argmax(0).numpy()))
    assert miou(found) == pytest.approx(recorded(split), rel=1e-13)


def test_classes_of_a_file_are_mapped_back_by_the_nearest(network, mixed, tmp_path, monkeypatch):
    """A file that gives classes: those of the file's pixels under the picture's own."""
    _, pairs = mixed
    classes = torch.randint(0, 10, (1, *SIZE), dtype=torch.uint8)
    edit_card(network, "output", {"name": "classes", "shape": [1, *SIZE], "dtype": "uint8"})
    monkeypatch.setattr("nasseg.network.predict._runner", lambda *_: lambda images: classes)
    for item, label in zip(predict(network, list(pairs), tmp_path / "out"), pairs.values(), strict=True):
        share = min(side / own for side, own in zip(SIZE, label.shape, strict=True))
        fitted = [round(share * side) for side in label.shape]
        row, column = ((2 * np.arange(own) + 1) * s // (2 * own) for s, own in zip(fitted, label.shape, strict=True))
        found = np.asarray(Image.open(item.labels))
        assert np.array_equal(found, classes[0][row][:, column])


def test_an_overlay_is_the_picture_in_class_colours_with_a_legend(network):
    classes = read_card(network).classes
    labels = np.zeros((120, 160), np.uint8)
    labels[60:, 80:] = 5
    picture = np.full((120, 160, 3), (100, 50, 200), np.uint8)
    drawn = np.asarray(overlay(picture, labels, classes)).astype(int)
    assert drawn.shape[0] == 120
    assert drawn.shape[1] > 200
    for row, column, index in ((0, 0, 0), (119, 159, 5), (59, 159, 0)):
        blended = (1 - OPACITY) * np.array((100, 50, 200)) + OPACITY * np.array(scenes.COLOURS[index])
        assert np.abs(drawn[row, column] - blended).max() <= 1
    legend = {tuple(pixel) for pixel in drawn[:, 160:].reshape(-1, 3)}
    assert {scenes.COLOURS[0], scenes.COLOURS[5]} <= legend
    assert not {scenes.COLOURS[1], scenes.COLOURS[7]} & legend  # only what occurs


def test_a_legend_of_many_classes_is_in_columns_beside_a_low_picture(network):
    labels = np.resize(np.arange(len(scenes.CLASSES), dtype=np.uint8), (64, 96))
    drawn = np.asarray(overlay(np.zeros((64, 96, 3), np.uint8), labels, read_card(network).classes))
    assert drawn.shape[0] <= 64 + 11
    legend = {tuple(pixel) for pixel in drawn[:, 96:].reshape(-1, 3).tolist()}
    assert set(scenes.COLOURS) <= legend


def refused(message, path, images, folder):
    with pytest.raises(UserError, match=message):
        list(predict(path, images, folder))


def test_pictures_that_cannot_be_used_are_refused(network, picture, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "text.png").write_text("no picture")
    refused(r"cannot read image .*text\.png", network, [tmp_path / "text.png"], out)
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:500])
    refused(r"cannot read image .*cut\.png", network, [tmp_path / "cut.png"], out)
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(tmp_path / "deep.png")
    refused(r"deep\.png has more than 8 bits a channel", network, [tmp_path / "deep.png"], out)
    refused(r"no such image: .*none\.png", network, [picture, tmp_path / "none.png"], out)
    refused(r"out is inside .*, so results would count as pictures", network, [tmp_path], out)
    refused("no image was given", network, [], out)
    assert not list(out.glob("*"))


def test_nothing_is_overwritten_that_was_given(network, picture, tmp_path):
    before = picture.read_bytes()
    refused(r"street\.png would overwrite an image to read: give another folder", network, [picture], tmp_path)
    other = tmp_path / "b/street.jpg"
    other.parent.mkdir()
    Image.open(picture).save(other)
    refused(r"street\.png and .*street\.jpg would both be ", network, [picture, other], tmp_path / "out")
    assert picture.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_a_user_error(network, picture):
    refused(r"cannot write to .*street\.png", network, [picture], picture)


def test_a_file_without_its_card_is_refused(network, picture, tmp_path):
    refused(r"no\.onnx: No such file", tmp_path / "no.onnx", [picture], tmp_path / "out")
    refused(r"street\.png is not an exported file: such a name ends in one of", picture, [picture], tmp_path / "out")
    network.rename(tmp_path / "b.pt")
    refused(r"b\.pt has no card, .*b\.card\.json", tmp_path / "b.pt", [picture], tmp_path / "out")


def test_a_card_that_is_none_is_refused(network):
    card = network.with_name("a.card.json")
    card.write_text("{")
    with pytest.raises(UserError, match=r"a\.card\.json is no card of `nasseg export`: its text: "):
        open_exported(network)
    card.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read the card"):
        open_exported(network)


@pytest.mark.parametrize(
    ("keys_and_value", "message"),
    [
        (("classes", []), "no card of `nasseg export`: classes"),
        (("classes", 0, "colour", [0, 0, 256]), "no card of `nasseg export`: classes.0.colour.2"),
        (("input", "shape", [3, 64, 96]), "no card of `nasseg export`: input.shape"),
        (("surprise", 1), "no card of `nasseg export`: surprise"),
        (("format", "onnx"), "the card of .* belongs to a.pt, format onnx: export a.pt again"),
        (("arch", "params", "width", 0.5), "the weights in .* do not belong to this network: .*size mismatch"),
        (("arch", "params", "widht", 0.5), "unknown parameter of regseg 'widht'"),
        (("classes", [{"name": "one", "colour": [0, 0, 0]}]), "do not belong to this network: .*size mismatch"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(network, keys_and_value, message):
    edit_card(network, *keys_and_value)
    with pytest.raises(UserError, match=message):
        open_exported(network)


def test_another_file_than_the_cards_is_refused(network):
    network.write_bytes(network.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"a\.pt is not the file that its card describes"):
        open_exported(network)


@pytest.mark.parametrize("kind", ["onnx", "pt2", "state_dict"])
def test_a_file_that_is_not_of_its_format_is_refused(network, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    path = network.with_suffix({"onnx": ".onnx", "pt2": ".pt2", "state_dict": ".pth"}[kind])
    path.write_bytes(b"something else")
    edit_card(path, "format", kind)
    with pytest.raises(UserError, match=r"ONNX Runtime cannot use|cannot read .*a\.pt2 as|weights in .*a\.pth do not"):
        open_exported(path)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            torch.zeros(1, 9, *SIZE),
            r"gives logits of shape \[1, 9, 64, 96\], its card says \[1, 10, 64, 96\] with 10 classes",
        ),
        (torch.zeros(1, *SIZE, dtype=torch.uint8), "they are not from the same export"),
    ],
)
def test_an_output_that_is_not_the_cards_is_refused(network, picture, tmp_path, monkeypatch, output, message):
    monkeypatch.setattr("nasseg.network.predict._runner", lambda *_: lambda images: output)
    refused(message, network, [picture], tmp_path / "out")


def test_a_class_that_the_card_does_not_have_is_refused(network, picture, tmp_path, monkeypatch):
    edit_card(network, "output", {"name": "classes", "shape": [1, *SIZE], "dtype": "uint8"})
    classes = torch.full((1, *SIZE), 10, dtype=torch.uint8)
    monkeypatch.setattr("nasseg.network.predict._runner", lambda *_: lambda images: classes)
    refused(r"gives class 10; its card has 0\.\.9", network, [picture], tmp_path / "out")


@pytest.mark.parametrize("keys", [("family",), ("params", "dilations")])
def test_a_card_names_no_code_to_run(network, tmp_path, monkeypatch, keys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("open('ran', 'w')\n")
    edit_card(network, "arch", *keys, "mine.py:Mine")
    with pytest.raises(UserError, match=r"names code, 'mine\.py:Mine', which is not run: export as onnx"):
        open_exported(network)
    assert not Path("ran").exists()
