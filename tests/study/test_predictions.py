"""Pictures of what networks predict: small, in the colours of their classes, and read back for the front alone."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.analyse.trials import front_frame
from nasseg.data.dataset import load_data
from nasseg.study.predictions import example_numbers, read_examples, with_examples, write_predictions
from tests.report.fake import fake_record


@pytest.fixture(scope="module")
def data():
    return load_data("scenes", size=(240, 320), train=1, val=4)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_prediction_is_drawn_beside_its_image_and_labels(data, tmp_path):
    labels = torch.as_tensor(data.val.labels[2])
    write_predictions(tmp_path / "p.zip", data, {2: torch.full_like(labels, 1)})
    (example,) = read_examples((tmp_path / "p.zip").read_bytes())
    assert example.number == 2
    assert (pixels(example.prediction) == data.colours[1]).all()
    known = labels.numpy() != 255
    assert (pixels(example.labels)[known] == np.array(data.colours)[labels.numpy()[known]]).all()
    difference = pixels(example.image).astype(float) - data.val.images[2].numpy()
    assert np.abs(difference).mean() < 10
    shown = {data.classes[k] for k in {1, *labels.unique().tolist()} - {255}}
    assert {name for name, _ in example.classes} == shown
    assert dict(example.classes)[data.classes[1]] == "#{:02x}{:02x}{:02x}".format(*data.colours[1])
    assert (tmp_path / "p.zip").stat().st_size < 45_000


def test_a_large_image_becomes_small(data, tmp_path):
    large = load_data("scenes", size=(512, 1024), train=1, val=1)
    labels = torch.as_tensor(large.val.labels[0])
    write_predictions(tmp_path / "p.zip", large, {0: labels})
    (example,) = read_examples((tmp_path / "p.zip").read_bytes())
    for content in (example.image, example.labels, example.prediction):
        assert pixels(content).shape == (160, 320, 3)
    assert example.labels == example.prediction
    assert (tmp_path / "p.zip").stat().st_size < 45_000


@pytest.mark.parametrize(("images", "numbers"), [(1, (0,)), (2, (0, 1)), (3, (1, 2)), (101, (33, 67))])
def test_examples_are_images_of_the_split(images, numbers):
    assert example_numbers(images) == numbers


def test_a_record_gets_the_examples_of_its_front_and_damaged_ones_are_left_out(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = fake_record(30)
    rows = tuple(replace(t, extra={**t.extra, "eval_key": f"k{t.number}"}) for t in record.trials)
    record = replace(record, name="s", trials=rows)
    whole, cut, other, *_ = front_frame(record)["number"].tolist()
    assert with_examples(record).examples == {}
    dominated = next(t.number for t in rows if t.values and t.number not in set(front_frame(record)["number"]))
    write_predictions(tmp_path / "p.zip", data, {0: torch.as_tensor(data.val.labels[0])})
    kept = (tmp_path / "p.zip").read_bytes()
    method = kept.index(b"PK\x01\x02") + 10  # of compression, in the list of the first file
    for number, content in (
        (whole, kept),
        (cut, kept[:300]),
        (other, kept[:method] + b"\x63" + kept[method + 1 :]),
        (dominated, kept),
    ):
        folder = tmp_path / f"runs/s/k{number}"
        folder.mkdir(parents=True)
        (folder / "predictions.zip").write_bytes(content)
    assert set(with_examples(record).examples) == {whole}
    moved = replace(record, extra={**record.extra, "weights": str(tmp_path / "runs/s")})
    monkeypatch.chdir("/")
    assert set(with_examples(moved).examples) == {whole}


@pytest.mark.parametrize("name", ["1-image.webp", "classes.json"])
def test_a_file_of_something_else_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"0" * (2 << 20))
    with pytest.raises((ValueError, KeyError)):
        read_examples((tmp_path / "p.zip").read_bytes())
