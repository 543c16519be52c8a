"""A study of one tiny trained network, made up: what export and predict leave with."""

from dataclasses import replace
from functools import cache

import torch

from nasseg.data import scenes
from nasseg.families import make_arch
from nasseg.measure.cost import measure_cost
from nasseg.measure.environment import environment
from nasseg.network.export import parity_images
from nasseg.records import Accuracy, Measurement
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.record import Record
from nasseg.study.store.storage import open_storage
from nasseg.train.weights import save_weights
from tests.study.fakes import ACCURACY

TINY = {"width": 0.25, "dilations": "(1,1)"}
SIZE = (64, 96)
STORAGE = "study.log"
WEIGHTS = "runs/tiny/key/last.pt"


def build(classes):
    return make_arch("regseg", **TINY).build(classes).eval()


@torch.no_grad()
def colourful(classes):
    """A network with statistics as after training, which finds every class somewhere."""
    torch.manual_seed(1)
    model = build(classes)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.05, 0.5)
    logits = model(parity_images(4, SIZE))
    scale = logits.std((0, 2, 3))
    model.head.weight /= scale[:, None, None, None]
    model.head.bias.copy_((model.head.bias - logits.mean((0, 2, 3))) / scale)
    return model


@cache
def costed():
    arch = make_arch("regseg", **TINY)
    return Measurement(arch_id=arch.id, cost=measure_cost(arch, SIZE, len(scenes.CLASSES)))


def measured():
    accuracy = Accuracy(
        protocol=ACCURACY,
        environment=environment(),
        miou=47.11,
        pixel_accuracy=80.0,
        train_seconds=1.0,
        class_iou={name: None if name == "truck" else 40.0 for name in scenes.CLASSES},
    )
    return replace(costed(), accuracy=accuracy)


def make_study(folder):
    """The study `tiny` of a trained trial (0), its duplicate (1) and one that was only costed (2).

    Gives what runs one more trial to its end with given attributes, and the SHA-256 of the weights.
    """
    sha = save_weights(colourful(len(scenes.CLASSES)), folder / WEIGHTS)
    settings = {"family": "regseg", **make_arch("regseg", **TINY).params()}
    record = Record.create(open_storage(str(folder / STORAGE), create=True), "tiny", {"miou": "maximize"}, {})
    candidate = Candidate(Proposal({}, {}, {}), settings, costed(), seed=0)

    def run(attributes):
        trial = record.claim(candidate, "key", {}, {})
        assert record.complete(trial, [47.11], attributes)
        return record.reread(trial)

    first = run({"measurement": measured().to_json(), "weights_sha256": sha})
    reused = {"eval_key": "key", "reused_from": first.number}
    record.add_reused(replace(candidate, measurement=measured()), first.values, {}, {}, reused)
    record.add_rejected(candidate, "too large", {}, {})
    return run, sha
