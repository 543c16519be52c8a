"""Splits of a user's own: a split may be one of the layout's, or several; what is trained on is reported on nowhere."""

import pytest
import torch

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.network.evaluate import evaluate_address
from nasseg.study.store.trained import _joined
from tests.command_line import nasseg, refused
from tests.data.downloads import camvid

JOINED = {"train": ["train", "val"], "val": "test"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)
    root = camvid(tmp_path / "data", splits=("train", "val", "test"))
    for split in ("train", "val", "test"):  # no two images are one
        for number in range(3):
            (root / split / f"f{number}.png").rename(root / split / f"{split}{number}.png")
            (root / f"{split}annot" / f"f{number}.png").rename(root / f"{split}annot" / f"{split}{number}.png")
    return root


def test_training_and_validation_split_in_one(here):
    plain, joined = load_data(here), load_data(here, splits=JOINED)
    assert torch.equal(joined.train.images, torch.cat([plain.train.images, plain.val.images]))
    assert torch.equal(joined.val.labels, plain.test.labels)
    assert torch.equal(joined.test.labels, plain.test.labels)
    assert joined.counts == {"train": 6, "val": 3}
    assert (joined.trained_on, joined.val_is_test) == (("train", "val"), True)
    assert (plain.trained_on, plain.val_is_test) == ((), False)
    assert joined.fingerprint != plain.fingerprint


def test_a_part_of_a_split_may_be_kept(here):
    parts = ["train", {"folder": "val", "without": ["val0"]}]
    data = load_data(here, splits={"train": parts, "val": {"folder": "val", "sequences": ["val0"]}})
    assert (data.counts, data.trained_on, data.val_is_test) == ({"train": 5, "val": 1, "test": 3}, ("train",), False)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": ["train", "val"]}, "splits: val is trained on, and cannot be reported on: say what networks are"),
        ({"train": ["train", "val"], "val": "val"}, "splits: val is trained on, and cannot be reported on"),
        ({"train": ["train", "vall"], "val": "test"}, r"unknown split \(splits: train\) 'vall': did you mean 'val'"),
        ({"train": ["train", "test"], "test": "test"}, "is in split train and in test: an image belongs to one split"),
    ],
)
def test_what_is_trained_on_is_not_reported_on(here, splits, said):
    with pytest.raises(UserError, match=said):
        _ = load_data(here, splits=splits).counts


def test_a_run_on_both_is_not_chosen_on_the_third_nor_scored_on_the_second(here, tmp_path):
    (tmp_path / "recipe.yaml").write_text("{steps: 4, batch_size: 2}")
    recipe = ("--recipe", "recipe.yaml", "--set", "width=0.25", "--set", "dilations=(1,1)")
    nasseg("train", "regseg", "--data", here, *recipe, "--splits", "{train: [train, val], val: test}", cwd=tmp_path)
    (run,) = (tmp_path / "runs/train").iterdir()
    assert (run / "last.pt").read_bytes() == (run / "best.pt").read_bytes()
    evaluated, _ = evaluate_address(str(run), here, split="test")
    assert evaluated.miou is not None
    said = refused("evaluate", run, "--data", here, "--split", "val", cwd=tmp_path)
    assert "was trained on train + val of data: val cannot be reported on" in said


@pytest.mark.parametrize(
    ("splits", "names"),
    [("", ()), ("splits: {train: [train, {folder: val}], val: test}", ("train",)), ("splits: {train: val}", ("val",))],
)
def test_a_study_says_what_its_trials_were_trained_on(splits, names):
    assert _joined(f"data:\n  name: camvid\n  {splits}\n") == names
    assert _joined("") == ()
