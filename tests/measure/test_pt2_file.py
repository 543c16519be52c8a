"""Programs of torch.export are read without running what is in the file."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.latency.onnx_file import trace
from nasseg.measure.pt2_file import open_pt2, save_pt2
from tests import ROOT

SIZE = (64, 96)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file's content, and the model."""
    torch.manual_seed(0)
    model = make_arch("regseg", width=0.25, dilations="(1,1)").build(3).eval()
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    save_pt2(trace(model, SIZE), path)
    return path.read_bytes(), model


def changed(content, **changes):
    """The archive with members (by the end of their names) passed through functions; a new name is added."""
    written, left = io.BytesIO(), dict(changes)
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as copy:
        root = archive.namelist()[0].partition("/")[0]
        for name in archive.namelist():
            key = name.removeprefix(f"{root}/")
            copy.writestr(name, left.pop(key)(archive.read(name)) if key in left else archive.read(name))
        for key, make in left.items():
            copy.writestr(f"{root}/{key}", make(b""))
    return written.getvalue()


class Bomb:
    """An object that makes a file when it is read by the wrong reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def program_with(change):
    """`change(program, node)` on the program's JSON, with its first node."""

    def edit(text):
        program = json.loads(text)
        change(program, program["graph_module"]["graph"]["nodes"][0])
        return json.dumps(program)

    return {"models/model.json": edit}


def set_path(mapping, *keys_and_value):
    *keys, last, value = keys_and_value
    for key in keys:
        mapping = mapping[key]
    mapping[last] = value


@pytest.mark.slow
def test_a_program_computes_what_its_model_does(saved):
    content, model = saved
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(open_pt2(content, "it")(image), model(image))


@pytest.mark.slow
def test_a_file_holds_neither_the_traced_image_nor_paths_of_this_machine(saved):
    content, _ = saved
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert max(info.file_size for info in archive.infolist() if "sample_inputs" in info.filename) < 5_000
        text = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".json"))
    assert str(ROOT) not in text
    assert "stack_trace" not in text


REFUSED = {
    "another operator": program_with(lambda p, node: set_path(node, "target", "torch.os.system")),
    "an internal operator": program_with(lambda p, node: set_path(node, "target", "torch.ops.aten._foobar.default")),
    "a string": program_with(lambda p, node: node["inputs"].append({"name": "x", "arg": {"as_string": "f"}})),
    "an expression": program_with(
        lambda p, node: node["inputs"].append({"name": "x", "arg": {"as_sym_int": {"as_expr": {"expr_str": "1"}}}})
    ),
    "a free size": program_with(lambda p, node: set_path(p, "range_constraints", {"s0": {"min_val": 2}})),
    "a guard": program_with(lambda p, node: set_path(p, "guards_code", ["L.shape"])),
    "code for a name": program_with(lambda p, node: set_path(node, "name", "x = print(1)")),
    "code for a weight": program_with(
        lambda p, node: set_path(p, "graph_module", "signature", "input_specs", 0, "parameter", "parameter_name", 'a")')
    ),
    "a class in the nesting": program_with(
        lambda p, node: set_path(p, "graph_module", "module_call_graph", 0, "signature", "in_spec", '[1, "__enum__"]')
    ),
    "an object": {"data/constants/opaque_obj_0": lambda _: b""},
    "a library": {"data/aotinductor/model/x.so": lambda _: b""},
    "an old archive's weights": {"data/weights/model.pt": lambda _: b""},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_plain_is_refused(saved, what):
    with pytest.raises(UserError, match=r"evil\.pt2 is not opened: .*export it again"):
        open_pt2(changed(saved[0], **REFUSED[what]), "evil.pt2")


def test_an_object_for_a_weight_is_refused_and_not_made(saved, tmp_path):
    """With torch's own reader as witness that there was something to refuse."""
    bomb = tmp_path / "made"

    def object_instead(text):
        config = json.loads(text)
        first = next(iter(config["config"].values()))
        first["use_pickle"], first["path_name"] = True, "weight_0"
        return json.dumps(config)

    spoilt = io.BytesIO()
    torch.save(Bomb(bomb), spoilt)
    evil = changed(
        saved[0],
        **{
            "data/weights/model_weights_config.json": object_instead,
            "data/weights/weight_0": lambda _: spoilt.getvalue(),
        },
    )
    with pytest.raises(UserError, match="is no raw tensor"):
        open_pt2(evil, "evil.pt2")
    assert not bomb.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch.export.load(io.BytesIO(evil))
    assert bomb.exists()


@pytest.mark.slow
def test_an_object_for_the_traced_image_is_not_made(saved, tmp_path):
    bomb = tmp_path / "made"
    spoilt = io.BytesIO()
    torch.save(Bomb(bomb), spoilt)
    open_pt2(changed(saved[0], **{"data/sample_inputs/model.pt": lambda _: spoilt.getvalue()}), "evil.pt2")
    assert not bomb.exists()
    pickle.loads(pickle.dumps(Bomb(bomb)))
    assert bomb.exists()


@pytest.mark.parametrize("length", [0, 10, 5_000])
def test_a_damaged_file_is_a_user_error(saved, length):
    with pytest.raises(UserError, match=r"cannot read cut\.pt2 as a program"):
        open_pt2(saved[0][:length], "cut.pt2")
