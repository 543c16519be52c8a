"""Users' own splits: a split may be one of the layout's, or several; nothing is both trained on and reported."""

import re

import pytest
import torch

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.network.evaluate import evaluate_address
from nasseg.study.finish.finish import finish_study
from nasseg.study.finish.remeasure import remeasure
from nasseg.study.search.run_study import run_study
from nasseg.study.study_file import load_study
from nasseg.tables.reproduce import train_tables
from nasseg.tables.table_file import load_table
from tests.command_line import nasseg, refused
from tests.data.downloads import camvid
from tests.study.fakes import search_here
from tests.tables.two_rows import TWO_ROWS, training

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
        ({"train": ["train", "val"]}, "splits: val is trained on and cannot be evaluated on: name another split"),
        ({"train": ["train", "val"], "val": "val"}, "splits: val is trained on and cannot be evaluated on"),
        ({"train": ["train", "vall"], "val": "test"}, r"unknown split \(splits: train\) 'vall': did you mean 'val'"),
        ({"train": ["train", "test"], "test": "test"}, "is in split train and in test: an image belongs to one split"),
    ],
)
def test_what_is_trained_on_is_not_reported_on(here, splits, said):
    with pytest.raises(UserError, match=said):
        _ = load_data(here, splits=splits).counts


@pytest.mark.slow
def test_a_run_on_both_is_not_chosen_on_the_third_nor_scored_on_the_second(here, tmp_path):
    (tmp_path / "recipe.yaml").write_text("{steps: 4, batch_size: 2}")
    recipe = ("--recipe", "recipe.yaml", "--set", "width=0.25", "--set", "dilations=(1,1)")
    said = nasseg(
        "train", "regseg", "--data", here, *recipe, "--splits", "{train: [train, val], val: test}", cwd=tmp_path
    )
    assert "last.pt (test)" in said.stdout
    (run,) = (tmp_path / "runs/train").iterdir()
    assert (run / "last.pt").read_bytes() == (run / "best.pt").read_bytes()
    evaluated, _ = evaluate_address(str(run), here, split="test")
    assert evaluated.miou is not None
    said = refused("evaluate", run, "--data", here, "--split", "val", cwd=tmp_path)
    assert "was trained on train + val of data, so it cannot be evaluated on val: choose another split" in said


STUDY = """
question: q
expected: e
space: tiny.yaml
data: {name: data, splits: {train: [train, val], val: test}}
objectives: [miou, macs]
recipe: {steps: 2, batch_size: 2}
latency: {warmup: 1, min_replicates: 1, min_seconds: 0}
trials: 1
"""
SPACE = """
about: one network
parameters: {family: regseg, width: 0.25, dilations: "(1,1)"}
"""


@pytest.mark.slow
def test_what_a_study_or_a_table_trained_on_both_is_not_scored_on_the_second(here, tmp_path, monkeypatch):
    """A search's trial, what finished it, what timed it again, and a table's row."""
    search_here(monkeypatch, tmp_path)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    (tmp_path / "both.yaml").write_text(STUDY)
    run_study(load_study("both.yaml"))
    finish_study("both", recipe={"steps": 2, "batch_size": 2}, seeds=1)
    remeasure("both", rounds=1)
    (tmp_path / "studies/mine").mkdir(parents=True)
    (tmp_path / "studies/mine/table-0.yaml").write_text(TWO_ROWS)
    train_tables([load_table("mine/table-0")], training(load_data(here, splits=JOINED), seeds=1))
    for address in ("both#0", "both@finish#0", "both@remeasure#0", "mine/table-0#narrow"):
        why = f"{address} was trained on train + val of data, so it cannot be evaluated on val"
        with pytest.raises(UserError, match=re.escape(why)):
            evaluate_address(address, here, split="val")
        assert evaluate_address(address, here, split="test")[0].miou is not None
