"""Starting weights: what matches is taken, what does not is named, and the file is part of how accuracy was got."""

import argparse
import collections

import numpy as np
import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.search import run_study as search
from nasseg.study.study_file import load_study
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.weights import load_weights, load_whole, save_weights, weights_hash

STUDY = """
question: Do starting weights help?
expected: seconds
space: quickstart
data: {name: scenes, size: [32, 64], train: 4, val: 2}
objectives: [miou]
recipe: {steps: 1, batch_size: 2, init: start.pt}
latency: {warmup: 1, min_replicates: 1, min_seconds: 0}
"""


def build(classes=3, seed=0, **params):
    torch.manual_seed(seed)
    return make_arch("regseg", width=0.25, **params).build(classes)


def test_a_head_of_other_classes_is_left_out_and_everything_else_taken(tmp_path):
    path = tmp_path / "start.pt"
    save_weights(build(19), path)
    model = build(3, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = load_weights(model, path)
    assert found.skipped == {
        "head.weight": "its shape is [19, 16, 1, 1], the model's is [3, 16, 1, 1]",
        "head.bias": "its shape is [19], the model's is [3]",
    }
    assert found.missing == ("head.weight", "head.bias")
    assert len(found.matched) == len(before) - 2
    assert found.sha256 == weights_hash(path)
    assert found.lines()[0] == f"{len(before) - 2} of {len(before)} tensors matched, 2 skipped"
    assert "missing head (2 tensors): as initialised" in found.lines()
    saved = torch.load(path, weights_only=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith("head") else saved[name]), name


def test_a_key_map_renames_prefixes_the_longest_first(tmp_path):
    source = build().state_dict()
    theirs = {f"module.backbone.{name.removeprefix('encoder.')}": t for name, t in source.items() if "encoder" in name}
    theirs["module.backbone.stage4.0.main.1.convs.0.weight"] = torch.zeros(1)  # of another shape
    torch.save({"state_dict": theirs, "epoch": 3}, tmp_path / "theirs.pt")
    found = load_weights(build(seed=1), tmp_path / "theirs.pt", {"back": "nowhere.", "backbone.": "encoder."})
    assert list(found.skipped) == ["module.backbone.stage4.0.main.1.convs.0.weight"]
    assert {name.partition(".")[0] for name in found.matched} == {"encoder"}
    assert {name.partition(".")[0] for name in found.missing} == {"encoder", "decoder", "head"}


def test_a_checkpoint_with_plain_numbers_and_options_beside_its_tensors_is_read(tmp_path):
    """Much training code leaves numpy's numbers and argparse's options in its files: plain data, and no code."""
    beside = {"best": np.float64(77.8), "epoch": np.int64(3), "args": argparse.Namespace(lr=0.1)}
    torch.save({"model": build().state_dict(), **beside}, tmp_path / "theirs.pth")
    assert not load_weights(build(seed=1), tmp_path / "theirs.pth").missing


def test_our_own_checkpoint_is_a_file_of_weights(tmp_path):
    Checkpoints(tmp_path / "checkpoint.pt", {}).write(1, {"model": build().state_dict(), "loss": [1.0]})
    assert not load_whole(build(seed=1), tmp_path / "checkpoint.pt").missing


def test_names_that_do_not_fit_are_shown_beside_the_nearest_ones(tmp_path):
    theirs = {f"net.{name}": tensor for name, tensor in build().state_dict().items()}
    torch.save(theirs, tmp_path / "theirs.pt")
    nearest = r"net\.encoder\.stem\.0\.weight \[.*\] is nearest to encoder\.stem\.0\.weight \[.*--init-map"
    with pytest.raises(UserError, match=nearest):
        load_weights(build(), tmp_path / "theirs.pt")
    assert not load_whole(build(), tmp_path / "theirs.pt", {"net.*": "*"}).missing


def test_the_few_names_without_a_partner_are_shown_from_both_sides(tmp_path):
    theirs = {name.replace("decoder.fine.1", "decoder.detail.bn"): t for name, t in build().state_dict().items()}
    theirs = {name: tensor for name, tensor in theirs.items() if "running" not in name and "num_batches" not in name}
    torch.save(theirs, tmp_path / "theirs.pt")
    found = load_weights(build(), tmp_path / "theirs.pt")
    width = list(theirs["decoder.detail.bn.weight"].shape)
    assert found.nearest[:2] == (
        f"decoder.detail.bn.weight {width} is nearest to decoder.fine.1.weight {width}",
        f"decoder.detail.bn.bias {width} is nearest to decoder.fine.1.bias {width}",
    )
    assert "encoder.stem.1.running_mean" in found.nearest[2]
    assert {*found.nearest} <= {*found.lines()}
    with pytest.raises(UserError, match=r"decoder\.detail\.bn\.weight .* is nearest to decoder\.fine\.1\.weight"):
        load_whole(build(), tmp_path / "theirs.pt")


def test_weights_that_must_fill_the_network_and_do_not_are_refused(tmp_path):
    save_weights(build(19), tmp_path / "start.pt")
    with pytest.raises(UserError, match=r"2 of its \d+ tensors are not.*its shape is \[19, 16, 1, 1\].*of classes"):
        load_whole(build(3), tmp_path / "start.pt")


class Payload:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the weights"),
        ({"weight": Payload()}, "holds no plain tensors"),
        ([1, 2], "holds no state_dict"),
        ({"a": 1}, "holds no state_dict"),
        ({"encoder.nothing": torch.zeros(1)}, "no tensor of"),
        (collections.OrderedDict(), "no tensor of"),
        (b"PNG", "holds no plain tensors"),
    ],
)
def test_files_that_are_no_weights_are_refused(tmp_path, capsys, content, message):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        load_weights(build(), path)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_weights_a_search_starts_from_are_part_of_its_identity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(STUDY)
    study = load_study("my.yaml")
    with pytest.raises(UserError, match=r"cannot read the weights start\.pt"):
        search.prepare(study, None, 0)
    save_weights(make_arch("regseg", width=0.25).build(19), tmp_path / "start.pt")
    context, _ = search.prepare(study, None, 0)
    assert context.accuracy.init == weights_hash("start.pt")
    workshop = Workshop(context)
    settings = {"family": "regseg", "width": 0.25}
    cost = workshop.run(Job(0, "cost", settings))
    trained = workshop.run(Job(0, "train", settings, cost.measurement, "key"))
    tensors = len(build().state_dict())
    assert trained.extra["init"] == [f"{tensors - 2} of {tensors} tensors matched, 2 skipped"]
    assert trained.measurement.accuracy.protocol.init == weights_hash("start.pt")
    other = workshop.run(Job(0, "train", {"family": "eseg", "width": 0.25}, cost.measurement, "other"))
    assert "no tensor of start.pt fits the model" in other.reason
    identity = search.identity(study, context)
    save_weights(make_arch("regseg", width=0.25).build(18), tmp_path / "start.pt")
    assert search.identity(study, search.prepare(study, None, 0)[0]) != identity
