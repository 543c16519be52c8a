"""A family of one's own: the shipped example keeps the rules, searches, and composes; what breaks a rule is found."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasseg import testing
from nasseg.errors import UserError
from nasseg.families import get_family, make_arch
from nasseg.families.arch import Arch, Decoder, Encoder, Feature, Segmenter
from nasseg.measure.cost import measure_cost
from nasseg.space import load_space
from nasseg.study.check_space import check_space
from nasseg.study.search.run_study import run_study
from nasseg.study.study_file import load_study
from tests import HUNG_SECONDS, ROOT

EXAMPLE = ROOT / "examples/3-your-block"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of the example's folder, in which nasseg runs."""
    monkeypatch.chdir(shutil.copytree(EXAMPLE, tmp_path / "example"))
    return Path.cwd()


@pytest.mark.slow
def test_the_example_keeps_the_rules(home):
    ran = subprocess.run([sys.executable, "check.py"], capture_output=True, text=True, timeout=HUNG_SECONDS)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_the_example_is_searched_beside_a_paper_and_its_hash_is_kept(home):
    space = load_space("my_space.yaml")
    check_space(space)
    ended = run_study(load_study("my_study.yaml"), trials=2)
    assert [trial.state for trial in ended.record.trials] == ["COMPLETE"] * 2, ended.record.trials
    (home / "my_block.py").write_text((home / "my_block.py").read_text() + "\n# changed\n")
    with pytest.raises(UserError, match="own code"):
        run_study(load_study("my_study.yaml"), trials=3)


@pytest.mark.slow
def test_the_example_is_an_encoder_and_a_decoder_of_composed(home):
    encoder = make_arch("composed", encoder="my_block.py:LargeKernelArch", decoder="ffm", **{"largekernel.width": 0.25})
    assert encoder.params()["largekernel.kernel"] == 7
    assert make_arch("composed", **encoder.params()) == encoder
    decoder = make_arch("composed", encoder="regseg", decoder="my_block.py:SumDecoder", **{"regseg.width": 0.25})
    for arch in (encoder, decoder):
        testing.check_features(arch)
        testing.check_training(arch, 2, (64, 96))
    with pytest.raises(UserError, match="is no decoder"):
        make_arch("composed", encoder="regseg", decoder="my_block.py:LargeKernelBlock")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("my_blok.py:LargeKernelArch", "there is no file 'my_blok.py'"),
        ("my_block.py:LargeKernelArc", "did you mean 'LargeKernelArch'"),
        ("my_block.py:LargeKernelBlock", "is no family: it must be a subclass of nasseg.Arch"),
        ("no.such.package:Arch", "does not import: ModuleNotFoundError"),
        ("broken.py:Arch", "does not import: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_family_is_refused(home, address, message):
    (home / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=re.escape(message)):
        get_family(address)


def test_a_class_of_an_installed_package_is_a_family():
    assert get_family("nasseg.families.regseg:RegSegArch") is get_family("regseg")


class FaultyEncoder(Encoder):
    def __init__(self, fault):
        super().__init__()
        self.fault, self.conv = fault, nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.idle = nn.Conv2d(3, 8, 1) if fault == "a weight without use" else None
        self.norm = nn.BatchNorm2d(8)
        self.features = {"p1": Feature(16 if fault == "wrong channels" else 8, 2)}

    def forward(self, image):
        x = self.conv(image)
        if self.fault == "batch norm on one pixel":
            x = x + self.norm(x.mean((2, 3), keepdim=True))
        if self.fault == "images mix":
            x = x + x.mean(0, keepdim=True)
        if self.fault == "random in eval mode":
            x = x + torch.rand_like(x)
        return {"p1": x}


class FaultyDecoder(Decoder):
    def __init__(self, fault):
        super().__init__()
        self.fault, self.feature = fault, Feature(8, 2)

    def forward(self, maps):
        if self.fault == "sizes must be even":
            return F.pixel_shuffle(F.pixel_unshuffle(maps["p1"], 2), 2)
        return maps["p1"]


@dataclass(frozen=True, kw_only=True)
class Faulty(Arch):
    family: ClassVar[str] = "faulty"
    fault: str = ""

    def build(self, num_classes):
        scale = 1.0 if self.fault == "no input scale" else self.input_scale
        encoder, head = FaultyEncoder(self.fault), nn.Conv2d(8, num_classes, 1)
        if self.fault != "batch norm on one pixel":
            del encoder.norm
        return Segmenter(encoder, FaultyDecoder(self.fault), head, input_scale=scale)


@dataclass(frozen=True, kw_only=True)
class Forgetful(Faulty):
    def params(self):
        return {"input_scale": self.input_scale}


def test_a_family_without_fault_passes():
    testing.check_family(Faulty)


def test_batch_norm_on_one_pixel_is_no_fault():
    testing.check_gradients(Faulty(fault="batch norm on one pixel"))


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("a weight without use", "check_gradients"),
        ("wrong channels", "check_features"),
        ("images mix", "check_eval"),
        ("random in eval mode", "check_training_heads"),
        ("sizes must be even", "check_logits"),
        ("no input scale", "check_id"),
    ],
)
def test_each_fault_is_found(fault, check):
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        getattr(testing, check)(Faulty(fault=fault))


def test_the_message_names_the_family_the_check_and_its_rule():
    with pytest.raises(AssertionError, match=r"Faulty: check_logits: logits are finite and have the input's size"):
        testing.check_family(Faulty, fault="sizes must be even")


def test_params_that_leave_a_field_out_are_found():
    with pytest.raises(AssertionError, match="Forgetful: check_params"):
        testing.check_family(Forgetful, fault="lost")


def test_a_cost_that_is_not_the_built_models_is_found(monkeypatch):
    monkeypatch.setattr(testing, "measure_cost", lambda arch, _size, classes: measure_cost(arch, (128, 128), classes))
    with pytest.raises(AssertionError, match="FLOPs predicted"):
        testing.check_cost(Faulty())
