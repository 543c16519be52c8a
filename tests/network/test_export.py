"""Leaving with a network: files that compute what PyTorch does, and cards that say what they are."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from nasseg.data import scenes
from nasseg.errors import UserError
from nasseg.families import FAMILIES, make_arch
from nasseg.measure.cost import measure_cost
from nasseg.measure.latency import onnx_file
from nasseg.network import export
from nasseg.network.card import compare, palette, read_card
from nasseg.network.export import export_address, parity_images
from nasseg.train.views.network_input import MAP_BACK, MEAN, PREPARE, STD
from nasseg.train.weights import save_weights
from tests.families.cheap import CHEAP
from tests.study.leaving import SIZE, STORAGE, TINY, WEIGHTS, build, make_study, measured

CLASSES = 5


def tiny(output, **options):
    return export_address("regseg", output, overrides=TINY, input_size=SIZE, num_classes=CLASSES, **options)


def logits_of(path, images):
    """Of a state_dict's file, by PyTorch alone."""
    state = torch.load(path, weights_only=True)
    model = build(len(state["head.bias"]))
    model.load_state_dict(state)
    with torch.no_grad():
        return model(images).numpy()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The tiny network as a state_dict."""
    return tiny(tmp_path_factory.mktemp("plain") / "plain.pt")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Here is the study `tiny`; gives what runs one more trial of it, and the hash of the weights."""
    monkeypatch.chdir(tmp_path)
    return make_study(tmp_path)


@pytest.mark.slow
def test_onnx_computes_what_the_network_does(onnx_file):
    """Run by ONNX Runtime alone, beside PyTorch with the study's weights."""
    done, onnxruntime = onnx_file, pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    images = torch.randn(1, 3, *SIZE)
    (found,) = session.run(["logits"], {"image": images.numpy()})
    expected = logits_of(done.path.parent / WEIGHTS, images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert session.get_inputs()[0].shape == [1, 3, *SIZE]

    card = done.card
    assert done.card_path == done.path.with_name("m.card.json")
    assert read_card(done.path) == card
    assert card.sha256 == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert card.output.name == "logits"
    assert card.output.shape == (1, 10, *SIZE)
    assert 0 < card.parity.max_difference < 1e-5
    assert card.parity.equal_argmax > 0.999
    assert card.parity.runtime.startswith("onnxruntime")
    first, weights, how, parity, _ = card.lines()
    assert first == f"m.onnx: regseg ({card.arch.id}), onnx, images 1 x 3 x 64 x 96 -> logits of 10 classes"
    assert weights == f"weights: {card.weights}, mIoU 47.11 %"
    assert how == "m.card.json says how to prepare a picture and how to map the logits back"
    assert "parity with PyTorch in onnxruntime" in parity
    with pytest.raises(UserError, match=r"is the card of m\.onnx, and two files cannot share one"):
        tiny(done.path.with_name("m.pt"))


@pytest.mark.slow
def test_onnx_of_an_opset_and_any_batch_in_half_precision_without_batch_norm(tmp_path, plain):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    card = tiny(tmp_path / "winner.onnx", half=True, opset=18, batch=None).card
    model = onnx.load(tmp_path / "winner.onnx")
    assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    half = onnx.TensorProto.FLOAT16
    assert {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4} == {half}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    session = onnxruntime.InferenceSession(tmp_path / "winner.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, *SIZE]
    for count in (1, 4):
        images = torch.randn(count, 3, *SIZE)
        (found,) = session.run(["logits"], {"image": images.numpy()})
        np.testing.assert_allclose(found, logits_of(plain.path, images), atol=0.01)
    assert (card.precision, card.parity.tolerance, card.input.any_batch) == ("fp16", 1e-2, True)
    assert ", images N x 3 x 64 x 96 -> logits" in card.lines()[0]
    assert " on 3 procedural street scenes of 64 x 96, in batches of 1 and 2: " in card.lines()[3]
    assert card.lines()[-1].endswith(" folded into the convolutions before them")
    for options, message in (
        ({"opset": 18}, "opset is for onnx"),
        ({"half": True}, "half precision for onnx and pt2"),
        ({"batch": None}, "leave the batch open, not state_dict"),
    ):
        with pytest.raises(UserError, match=message):
            tiny(tmp_path / "winner.pt", **options)


@pytest.mark.slow
def test_argmax_inside_the_file(trained, tmp_path):
    done = export_address("tiny#0", tmp_path / "winner.pt2", argmax=True, storage=STORAGE)
    images = parity_images(1, SIZE)
    found = torch.export.load(done.path).module()(images)
    assert found.dtype == torch.uint8
    assert np.array_equal(found, logits_of(WEIGHTS, images).argmax(1))
    assert len(np.unique(found)) > 3
    assert (done.card.output.name, done.card.output.shape, done.card.output.dtype) == ("classes", (1, *SIZE), "uint8")
    assert done.card.parity.max_difference == 0


def test_a_card_says_how_to_use_the_file(plain):
    assert plain.card_path == plain.path.with_name("plain.card.json")
    card = json.loads(plain.card_path.read_text())
    assert make_arch(card["arch"]["family"], **card["arch"]["params"]) == make_arch("regseg", **TINY)
    assert card["arch"]["id"] == make_arch("regseg", **TINY).id
    assert card["input"] == {
        "name": "image",
        "values": "(pixel - mean) / std, colour by colour, of pixels 0..255",
        "shape": [1, 3, *SIZE],
        "any_batch": False,
        "dtype": "float32",
        "layout": "NCHW",
        "colour_order": "RGB",
        "mean": list(MEAN),
        "std": list(STD),
        "prepare": list(PREPARE),
    }
    assert card["output"]["map_back"] == list(MAP_BACK["logits"])
    assert card["classes"][1] == {"name": "class 1", "colour": [86, 180, 233]}
    assert card["ignore"] == 255
    assert card["weights"] == "untrained (random)"
    assert card["figures"]["cost"]["protocol"]["input_size"] == list(SIZE)
    assert card["figures"]["cost"]["macs"] == measure_cost(make_arch("regseg", **TINY), SIZE, CLASSES).macs
    assert card["environment"]["torch"] == torch.__version__


def test_a_variant_has_its_name_and_a_batch_its_shape(tmp_path):
    card = export_address("dabnet", tmp_path / "a.pt", input_size=(32, 32), batch=2).card
    assert (card.arch.variant, card.input.size, len(card.classes)) == ("dabnet", (32, 32), 19)
    assert (card.input.shape, card.output.shape) == ((2, 3, 32, 32), (2, 19, 32, 32))
    assert ", images 2 x 3 x 32 x 32 -> logits of 19 classes" in card.lines()[0]


def test_random_weights_are_the_same_every_time_and_leave_no_trace(tmp_path, plain):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    assert tiny(tmp_path / "plain.pt").card.sha256 == plain.card.sha256
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("number", [0, 1])
def test_a_trained_trial_leaves_with_its_weights_and_figures(trained, tmp_path, number):
    _, sha = trained
    card = export_address(f"tiny#{number}", tmp_path / "winner.pt", storage=STORAGE).card
    kept = torch.load(tmp_path / WEIGHTS, weights_only=True)
    left = torch.load(tmp_path / "winner.pt", weights_only=True)
    assert kept.keys() == left.keys()
    assert all(torch.equal(kept[name], left[name]) for name in kept)
    assert card.weights == sha
    assert card.figures == measured()
    assert card.exported_from == f"tiny#{number}"
    assert tuple(entry.name for entry in card.classes) == scenes.CLASSES
    assert tuple(entry.colour for entry in card.classes) == scenes.COLOURS
    assert card.input.size == SIZE
    assert card.lines()[1] == f"weights: {sha}, mIoU 47.11 %"


def test_a_trial_that_was_not_trained_has_random_weights(trained, tmp_path):
    card = export_address("tiny#2", tmp_path / "winner.pt", storage=STORAGE).card
    assert card.weights == "untrained (random)"
    assert card.lines()[1] == "weights: untrained (random); good for timing only"
    assert len(card.classes) == len(scenes.CLASSES)
    assert card.figures.accuracy is None


def test_weights_that_are_not_the_trials_are_refused(trained, tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"something else")
    with pytest.raises(UserError, match="is not what tiny#0 was evaluated with"):
        export_address("tiny#0", tmp_path / "winner.pt", storage=STORAGE)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"cannot read the weights of tiny#1, .*last\.pt: No such file"):
        export_address("tiny#1", tmp_path / "winner.pt", storage=STORAGE)
    assert not list(tmp_path.glob("*winner*"))


def test_weights_that_were_not_kept_are_said_to_be(trained, tmp_path):
    run, _ = trained
    full = run({"measurement": measured().to_json(), "weights_error": "No space left on device"})
    with pytest.raises(UserError, match="its weights were not kept: No space left on device"):
        export_address(f"tiny#{full.number}", tmp_path / "winner.pt", storage=STORAGE)
    stopped = run({"measurement": measured().to_json()}).number
    advice = f"a search keeps those of its front .*; `nasseg finish tiny#{stopped}` trains it"
    with pytest.raises(UserError, match=f"tiny#{stopped} was trained, but its weights were not kept: {advice}"):
        export_address(f"tiny#{stopped}", tmp_path / "winner.pt", storage=STORAGE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": {"width": 0.5}}, "tiny#0 is trained, and its weights do not fit other fields"),
        ({"num_classes": 19}, "19 classes are asked for, but there are 10: sky, building"),
        ({"data": "nowhere"}, "no data set 'nowhere'"),
    ],
)
def test_what_contradicts_a_trained_trial_is_refused(trained, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        export_address("tiny#0", tmp_path / "winner.pt", storage=STORAGE, **options)


def test_classes_come_from_a_data_set(tmp_path, monkeypatch):
    card = export_address("regseg", tmp_path / "a.pt", overrides=TINY, input_size=SIZE, data="scenes").card
    assert tuple(entry.name for entry in card.classes) == scenes.CLASSES
    with pytest.raises(UserError, match="5 classes are asked for, but there are 10"):
        tiny(tmp_path / "b.pt", data="scenes")


def test_a_data_set_of_other_classes_is_refused(trained, tmp_path, monkeypatch):
    other = replace(export.load_data("scenes"), classes=("ground", "sky"), colours=((0, 0, 0), (9, 9, 9)))
    monkeypatch.setattr(export, "load_data", lambda _: other)
    with pytest.raises(UserError, match="has the classes ground, sky; the network was trained on sky, building"):
        export_address("tiny#0", tmp_path / "winner.pt", storage=STORAGE, data="other")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("winner", {}, r"the suffix of winner names no format: use one of \.onnx, \.pt2, \.pt, \.pth"),
        ("winner.onnx", {"file_format": "onxx"}, "unknown format 'onxx': did you mean 'onnx'"),
        ("winner.onnx", {"file_format": "pt2"}, r"a file of format pt2 is called NAME\.pt2, got winner\.onnx"),
        ("winner.pt", {"argmax": True}, "leave out --argmax"),
        ("winner.pt", {"batch": 0}, "a batch is at least 1"),
        ("winner.pt", {"input_size": (31, 96)}, "an image at least 32 x 32"),
        ("winner.pt", {"num_classes": 256}, "at most 255 classes"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, name, options, message):
    with pytest.raises(UserError, match=message):
        export_address("regseg", tmp_path / name, **{"overrides": TINY, "input_size": SIZE, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_before_any_work(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(export, "find_weighted", None)
    with pytest.raises(UserError, match=rf"ONNX needs {package}, which is not installed: pip install 'nasseg\[onnx\]'"):
        tiny(tmp_path / "winner.onnx")


def test_a_file_that_computes_something_else_is_never_left_behind(tmp_path, monkeypatch):
    (tmp_path / "winner.pt").write_bytes(b"before")

    def spoil(model, path):
        with torch.no_grad():
            model.head.weight[0] += 0.01
        return save_weights(model, path)

    monkeypatch.setattr(export, "save_weights", spoil)
    with pytest.raises(UserError, match="the exported file does not compute what PyTorch does: in torch"):
        tiny(tmp_path / "winner.pt")
    assert (tmp_path / "winner.pt").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["winner.pt"]


def test_a_network_that_torch_cannot_trace_is_a_user_error(tmp_path):
    class Branches(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(UserError, match="the network cannot be traced: "):
        onnx_file.write_onnx(Branches(3, 3, 1).eval(), tmp_path / "a.onnx", SIZE)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/winner\.pt: "):
        tiny(tmp_path / "file/winner.pt")


def parity(found, logits):
    return compare(found, logits, runtime="r", where="w")


def test_parity_is_of_the_largest_difference():
    logits = torch.tensor([[[[1.0, 2.0]], [[3.0, -5.0]]]])  # [1, 2, 1, 2]
    assert parity(logits.clone(), logits).holds
    off = logits.clone()
    off[0, 0, 0, 1] += 0.006
    found = parity(off, logits)
    assert found.max_difference == pytest.approx(0.006, rel=1e-3)
    assert (found.largest_logit, found.equal_argmax, found.holds) == (5.0, 1.0, False)
    off[0, 0, 0, 1] = float("nan")
    assert not parity(off, logits).holds


def test_parity_of_classes_is_what_their_logits_lack():
    logits = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.999]]]])
    assert parity(torch.tensor([[[1, 0]]], dtype=torch.uint8), logits).max_difference == 0
    tie = parity(torch.tensor([[[1, 1]]], dtype=torch.uint8), logits)
    assert tie.holds
    assert tie.equal_argmax == 0.5
    wrong = parity(torch.tensor([[[0, 0]]], dtype=torch.uint8), logits)
    assert (wrong.max_difference, wrong.holds) == (2.0, False)
    with pytest.raises(UserError, match=r"gives \[1, 2\] where PyTorch gives \[1, 1, 2\]"):
        parity(torch.zeros(1, 2, dtype=torch.uint8), logits)


def test_parity_pictures_are_as_networks_read_them():
    images = parity_images(2, SIZE)
    assert images.shape == (2, 3, *SIZE)
    assert images.is_contiguous()
    assert not torch.equal(images[0], images[1])
    assert -2.2 < float(images.min()) < float(images.max()) < 2.7


def test_class_colours_are_fixed_and_differ():
    colours = palette(255)
    assert len(set(colours)) == 255
    assert palette(8) == colours[:8]
    assert min(np.abs(np.subtract(a, b)).max() for i, a in enumerate(colours[:24]) for b in colours[:i]) > 20
    assert all(0 <= value <= 255 for colour in colours for value in colour)


@pytest.mark.slow
def test_a_published_network_at_full_size(tmp_path):
    card = export_address("regseg", tmp_path / "regseg.onnx").card
    assert card.input.shape == (1, 3, 1024, 2048)
    assert card.arch.variant == "regseg"
    assert card.parity.holds


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_leaves_in_every_format(family, tmp_path):
    options = {"overrides": CHEAP[family], "input_size": (96, 160), "num_classes": 3}
    for number, name in enumerate(("classes.onnx", "logits.pt2", "weights.pt")):
        done = export_address(family, tmp_path / str(number) / name, argmax="classes" in name, **options)
        assert done.card.parity.holds
