"""Public data sets as they are downloaded: which files, which classes, which splits."""

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.data.class_table import ClassTable, list_tables, read_table, shipped_table
from nasseg.data.dataset import load_data
from nasseg.data.split import Ragged, Split
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.files import parse_yaml
from nasseg.study.data_file import DataFile
from nasseg.train.loop import evaluate, train
from nasseg.train.recipe import Recipe
from nasseg.train.views.augment import Augment
from nasseg.train.views.network_input import normalise
from tests.data import downloads


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# Tables against the publications: classes, and ids and colours of the first and the last one.
FACTS = {
    "cityscapes": (19, ("road", (7,), (128, 64, 128)), ("bicycle", (33,), (119, 11, 32))),
    "camvid": (11, ("sky", (), (128, 128, 128)), ("bicyclist", (), (0, 128, 192))),
    "ade20k": (150, ("wall", (1,), (120, 120, 120)), ("flag", (150,), (92, 0, 255))),
    "coco-stuff": (171, ("person", (0,), None), ("wood", (181,), None)),
}


@pytest.mark.parametrize("name", FACTS)
def test_the_tables(name):
    table, (count, *ends) = shipped_table(name), FACTS[name]
    assert len(table.classes) == count
    for row, (label, ids, colour) in zip((table.classes[0], table.classes[-1]), ends, strict=True):
        assert (row.name, row.ids) == (label, ids)
        assert colour is None or row.colour == colour
    assert table.citation


def test_ids_of_the_tables_have_the_gaps_that_are_known():
    city = [row.ids[0] for row in shipped_table("cityscapes").classes]
    assert city == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    missing = set(range(182)) - {row.ids[0] for row in shipped_table("coco-stuff").classes}
    assert missing == {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    assert [row.ids[0] for row in shipped_table("ade20k").classes] == list(range(1, 151))


def expect(values, size):
    return torch.from_numpy(downloads.spread(values, size).astype(np.uint8))


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(root, kind):
    data = load_data(downloads.cityscapes(root, kind=kind))
    assert (data.counts, data.num_classes, data.val.size) == ({"train": 3, "val": 2}, 19, (32, 64))
    assert torch.equal(data.val.labels[0], expect(downloads.CITY_CLASSES, (32, 64)))
    with pytest.raises(UserError, match="has no split test: its labels are not public"):
        data.test  # noqa: B018


def test_cityscapes_coarse_is_trained_on_and_judged_by_the_fine(root):
    downloads.cityscapes(root, coarse=True)
    assert load_data("cityscapes", root=root).counts == {"train": 3, "val": 2}
    data = load_data("cityscapes", root=root, layout="coarse")
    assert data.counts == {"train": 4, "val": 2}
    assert set(data.train.labels.unique().tolist()) == {0, 13, 255}
    assert set(data.val.labels.unique().tolist()) == {*downloads.CITY_CLASSES}


def test_splits_by_sequence_hold_cities_out(root):
    downloads.cityscapes(root)
    by_city = {"train": {"folder": "train", "without": ["ulm"]}, "test": [{"folder": "train", "sequences": ["ulm"]}]}
    data = load_data("cityscapes", root=root, splits=by_city)
    assert data.counts == {"train": 2, "val": 2, "test": 1}
    assert data.rules["test"] == "folder train, sequences ulm"
    assert data.fingerprint != load_data("cityscapes", root=root).fingerprint
    with pytest.raises(UserError, match=r"ulm_000000_000019_leftImg8bit.png is in split train and in test"):
        load_data("cityscapes", root=root, splits={"test": {"folder": "train", "sequences": ["ulm"]}})
    with pytest.raises(UserError, match=r"split val of .* is empty"):
        load_data("cityscapes", root=root, splits={"val": {"folder": "train", "sequences": ["bern"]}})


@pytest.mark.parametrize("download", [False, True])
def test_camvid_in_colours(root, download):
    data = load_data(downloads.camvid_colours(root, download=download))
    assert (data.counts, data.val.size) == ({"train": 2, "val": 1, "test": 1}, (30, 40))
    assert torch.equal(data.test.labels[0], expect(downloads.CAMVID_CLASSES, (30, 40)))


def test_ade20k(root):
    data = load_data(downloads.ade20k(root), size=[32, 48])
    assert (data.num_classes, data.counts, data.val.size) == (150, {"train": 3, "val": 2}, (32, 48))
    assert torch.equal(data.val.labels[0], expect([255, *range(150)], (40, 60)))


@pytest.mark.parametrize("train_ids_only", [False, True])
def test_coco_stuff_164k(root, train_ids_only):
    downloads.coco164k(root)
    if train_ids_only:
        for path in root.glob("annotations/*/*[0-9].png"):
            path.unlink()
    data = load_data(root)
    assert (data.num_classes, data.counts) == (171, {"train": 2, "val": 1})
    assert torch.equal(data.val.labels[0], expect([*range(171), 255], (36, 48)))


def test_coco_stuff_10k(root):
    data = load_data("coco-stuff", root=downloads.coco10k(root))
    assert data.counts == {"train": 2, "val": 1}
    assert torch.equal(data.val.labels[0], expect([255, *range(171)], (36, 48)))
    assert data.rules["val"] == "list imageLists/test.txt"


def test_a_folder_that_holds_several_data_sets_is_asked_about(root):
    downloads.ade20k(root)
    downloads.coco164k(root / "coco")
    with pytest.raises(UserError, match=r"several data sets: give one of .*ADEChallengeData2016, .*coco"):
        load_data(root)


OWN = """
about: four kinds of fruit
classes:
  - {name: apple, colour: [255, 0, 0], ids: [300, 4]}
  - {name: pear, colour: [0, 255, 0], ids: [5]}
ignore: {ids: [0]}
layouts:
  own:
    images: "pictures/{group}/{name}"
    labels: [{path: "masks/{group}/{name}_mask.png", hold: ids}]
    splits: {train: {list: train.txt}, val: {sequences: [b]}}
"""


@pytest.fixture
def own(tmp_path, root):
    """A data set of one's own: names that occur in two groups, 16-bit masks, a list beside the class table."""
    for key in ("a/x", "a/y", "b/x"):
        downloads.picture(root / f"pictures/{key}.jpg", (33, 40))
        path = root / f"masks/{key}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(downloads.spread([0, 4, 5, 300], (33, 40)).astype(np.uint16)).save(path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/fruit.yaml").write_text(f"root: {root}\n{OWN}")
    (tmp_path / "datasets/train.txt").write_text("a/x\n# a note\nmasks/a/y_mask.png\n")
    return tmp_path / "datasets/fruit.yaml"


def test_a_data_set_of_ones_own(own, root):
    for data in (load_data("fruit"), load_data(own), load_data(root), DataFile(name="fruit").at(root).load()):
        assert (data.counts, data.classes) == ({"train": 2, "val": 1}, ("apple", "pear"))
        assert torch.equal(data.val.labels[0], expect([255, 0, 1, 0], (33, 40)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", "train.txt:1: x may be a/x or b/x: add the folder to the name"),
        ("c/z", "train.txt:1 lists c/z, but .* no such image"),
    ],
)
def test_a_list_that_does_not_fit(own, line, message):
    own.with_name("train.txt").write_text(line)
    with pytest.raises(UserError, match=message):
        load_data("fruit")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ids: [5]", "ids: [4]", r"fruit.yaml:6: 4 of 'pear' belongs to 'apple', too"),
        ("ids: [0]}", "ids: [5]}", r"5 of 'pear' belongs to `ignore`, too"),
        (
            "{ids: [0]}",
            "[0]",
            r"ignore: values that are no class are listed by what labels hold, such as {ids: \[",
        ),
        ("ids: [5]", "ids: 5", r"classes.'pear'.ids: a list is needed, got 5"),
        ("name: pear", "name: apple", "class 'apple' occurs twice"),
        (", ids: [5]", "", "class 'pear' has no ids, but label files hold ids"),
        ("[0, 255, 0]", "[0, 256, 0]", "a colour is three numbers 0..255"),
        ("pictures/{group}/{name}", "pictures/{group}", "a path holds {name} once"),
        ("pictures/{group}/{name}", "pictures/{name}", "has a {group}, which the images' pattern"),
        ("{list: train.txt}", "{folder: train}", "split train names a folder"),
        ("hold: ids", "hold: names", "layouts.own.labels.0.hold"),
        ("layouts:", "layout:", "did you mean 'layouts'"),
    ],
)
def test_class_tables_that_make_no_sense(own, old, new, message):
    assert old in own.read_text()
    own.write_text(own.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        load_data("fruit")


def test_values_that_no_class_has_are_an_error_or_ignored(own, root):
    path = root / "masks/b/x_mask.png"
    Image.fromarray(downloads.spread([0, 4, 77], (33, 40)).astype(np.uint16)).save(path)
    with pytest.raises(UserError, match=r"b/x_mask.png holds label 77: classes are 3 values from 4 to 300"):
        load_data("fruit").val  # noqa: B018
    strict, lenient = load_data("fruit"), load_data("fruit", unknown="ignore")
    assert torch.equal(lenient.val.labels[0], expect([255, 0, 255], (33, 40)))
    assert strict.fingerprint != lenient.fingerprint


def test_a_colour_that_no_class_has_is_named(root):
    downloads.camvid_colours(root)
    labels = np.array(Image.open(root / "val_labels/0016E5_07959_L.png"))
    labels[3, 4] = 9, 8, 7
    Image.fromarray(labels).save(root / "val_labels/0016E5_07959_L.png")
    with pytest.raises(UserError, match=r"0016E5_07959_L.png holds colour \[9, 8, 7\]: classes are 11 colours"):
        load_data(root).val  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"szie": [32, 32]}, "did you mean 'size'"),
        ({"size": [16, 512]}, "at least 32 x 32"),
        ({"size": 512}, r"\[HEIGHT, WIDTH\]"),
        ({"layout": "fien"}, "did you mean 'fine'"),
        ({"unknown": "drop"}, "got 'drop'"),
        ({"splits": {"dev": {"folder": "val"}}}, "splits are train, val and test"),
        ({"splits": {"val": {"foldr": "val"}}}, "did you mean 'folder'"),
        ({"root": "nowhere"}, "no data set 'nowhere'"),
    ],
)
def test_options_that_do_not_exist(root, options, message):
    with pytest.raises(UserError, match=message):
        load_data("cityscapes", **{"root": downloads.cityscapes(root), **options})


def test_data_without_val_ask_for_one(root):
    downloads.camvid(root, splits=("train", "val"))
    text = list_tables()["camvid"].read_text()
    root.with_name("own.yaml").write_text(text.replace("      val: {folder: val, list_if_there: val.txt}\n", ""))
    with pytest.raises(UserError, match="has no split val: name a part of the data in the study"):
        load_data(root.with_name("own.yaml"), root=root)


def test_another_place_for_the_same_data(root):
    moved = DataFile(name="cityscapes", layout="coarse", size=[32, 64]).at(root)
    assert moved == DataFile(name="cityscapes", layout="coarse", size=[32, 64], root=str(root))
    assert DataFile(name="somewhere").at(root) == DataFile(name=str(root))
    with pytest.raises(UserError, match="does not exist"):
        DataFile(name="camvid").at(root / "nowhere")


def test_every_table_is_data_that_a_user_could_write():
    for path in list_tables().values():
        assert parse_yaml(path.read_text(), path).validate(ClassTable).model_dump() == read_table(path).model_dump()


# --- images of different sizes ------------------------------------------------------------------------------------


def test_images_of_many_sizes_need_the_size_that_networks_see(root):
    with pytest.raises(UserError, match=r"differ in size, .* to 40 x 50: set the size .*`size: \[HEIGHT, WIDTH\]`"):
        load_data(downloads.ade20k(root)).val  # noqa: B018


def test_images_of_many_sizes_are_made_smaller_with_their_labels(root):
    data = load_data(downloads.ade20k(root), size=[32, 48])
    assert isinstance(data.train.images, Ragged)
    assert [tuple(data.train.images[k].shape) for k in range(3)] == [(32, 48, 3), (32, 26, 3), (23, 48, 3)]
    assert [tuple(data.train.labels[k].shape) for k in range(3)] == [(32, 48), (32, 26), (23, 48)]
    assert [tuple(data.val.labels[k].shape) for k in range(2)] == [(40, 60), (50, 40)]
    pixels = np.asarray(Image.open(root / "ADEChallengeData2016/images/training/ADE_train_00000001.jpg"))
    assert abs(float(data.train.images[1].float().mean()) - pixels.mean()) < 2


@pytest.mark.slow
def test_training_and_evaluation_on_images_of_many_sizes(root):
    data = load_data(downloads.ade20k(root), size=[32, 48])
    seen = []
    torch.manual_seed(0)
    model = make_arch("bisenetv2", width=0.25).build(150)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    result = train(model, data, Recipe(steps=2, batch_size=2), seed=0)
    assert seen == [(2, 3, 32, 48)] * 3
    assert 0 <= result.miou <= 100
    matrix = evaluate(model, data.val, 150)
    labelled = sum(int((data.val.labels[k] != 255).sum()) for k in range(2))
    assert int(matrix.counts.sum()) == labelled


class Brightness(torch.nn.Module):
    """Class 1 where the image is bright, else 0."""

    def forward(self, x):
        return torch.stack([-x[:, 0], x[:, 0]], 1)


def test_accuracy_is_taken_at_the_labels_pixels(monkeypatch):
    """An image half dark, half bright, seen at a fifth of its size: the labels' edge is met to the pixel."""
    height, width, edge = 200, 300, 140
    label = torch.zeros(height, width, dtype=torch.uint8)
    label[:, edge:] = 1
    small = (label[2::5, 2::5, None] * 255).expand(-1, -1, 3).contiguous()
    other = torch.zeros(30, 20, 3, dtype=torch.uint8)
    images = Ragged(torch.cat([small.flatten(), other.flatten()]), ((40, 60), (30, 20)), (3,))
    labels = Ragged(torch.cat([label.flatten(), torch.full((600,), 255, dtype=torch.uint8)]), ((200, 300), (30, 20)))
    for values in (1 << 25, 3_000):  # all rows at once, and a few at a time
        monkeypatch.setattr("nasseg.train.views.network_input._VALUES", values)
        matrix = evaluate(Brightness(), Split(images, labels, (64, 64)), 2)
        assert matrix.counts.sum() == height * width
        assert matrix.pixel_accuracy > 99
    for start in (edge - 15, edge + 15):  # a shift by three pixels of the small image would be seen
        moved = torch.zeros_like(label)
        moved[:, start:] = 1
        wrong = Ragged(torch.cat([moved.flatten(), labels.flat[-600:]]), labels.sizes)
        assert evaluate(Brightness(), Split(images, wrong, (64, 64)), 2).pixel_accuracy < 96


@pytest.mark.slow
def test_views_of_images_of_many_sizes_are_those_of_one_size(root):
    """The same draws give the same views, whether images come together or one by one."""
    images = torch.randint(0, 255, (3, 32, 48, 3), dtype=torch.uint8)
    targets = torch.randint(0, 5, (3, 32, 48), dtype=torch.uint8)
    augment = Augment(Recipe(scale_range=(0.5, 2.0), crop_size=(24, 30), jitter=0.2), (32, 48))
    whole = augment(images, targets, torch.Generator().manual_seed(3))
    parts = augment(list(images), list(targets), torch.Generator().manual_seed(3))
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])


def test_labels_move_with_images_of_many_sizes():
    """Each image is its own label."""
    generator = torch.Generator().manual_seed(0)
    labels = [torch.zeros(size, dtype=torch.uint8) for size in ((32, 80), (60, 30))]
    for label in labels:
        label[5:15, 5:15] = 1
    images = [(label * 255)[..., None].expand(-1, -1, 3).contiguous() for label in labels]
    views, targets = Augment(Recipe(scale_range=(0.5, 2.0)), (60, 80))(images, labels, generator)
    assert views.shape == (2, 3, 60, 80)
    bright = views[:, 0] > normalise(torch.full((1, 1, 1, 3), 128, dtype=torch.uint8))[0, 0, 0, 0]
    kept = targets != 255
    assert kept.any()
    assert (bright == (targets == 1))[kept].float().mean() > 0.97
