"""Write a model as a program of torch.export (.pt2), and read such a file safely, without running code from it.

`torch.export.load` trusts its file: it may hold any Python object, compiled libraries, expressions that are evaluated
and names that are looked up and called. Here a file is first taken apart, and only its plain parts are written to a new
file for torch: raw tensors, ATen operators on tensors and numbers, constant sizes. Everything else is refused.
`save_pt2` writes only such parts, in the archive format of torch 2.9 and later.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from nasseg.errors import UserError

_PROGRAM, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_RAW = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder"
    r"|\.data/version|\.data/serialization_id"
)
# No strings: operators on files take the file's name as one. No expressions, graphs or objects.
_ARGUMENTS = frozenset(
    f"as_{kind}"
    for kind in (
        "tensor",
        "tensors",
        "none",
        "int",
        "ints",
        "float",
        "floats",
        "bool",
        "bools",
        "scalar_type",
        "memory_format",
        "layout",
        "device",
    )
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.([a-z]\w*|_assert_tensor_metadata)\.\w+")  # other names with _ are internal
_WORD = re.compile(r"[\w.+]*")
# The nesting of inputs and outputs, as JSON in a string: a tuple of tensors, no other class.
_SPEC = re.compile(r'(type|context|children_spec|null|builtins\.tuple|builtins\.dict|1|[\[\]{}":, ])*')


class _Refused(Exception):  # noqa: N818  (becomes a UserError with the file's name)
    pass


def save_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a traced program.

    Raises:
        OSError: it cannot be written.
    """
    program.example_inputs = None  # otherwise the image it was traced with is stored in full
    content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without a reason
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


def open_pt2(content: bytes, name: str) -> Callable[[Tensor], Tensor]:
    """Return the program in the content of a .pt2 file, to call with images. name: of the file, for errors.

    Raises:
        UserError: it is no .pt2 file, or holds more than operators on plain tensors.
    """
    try:
        plain = _plain_archive(content)
        program = torch.export.load(io.BytesIO(plain)).module()
    except _Refused as error:
        raise UserError(
            f"{name} is not opened: {error}; only programs of plain tensors are, as `nasseg export --format pt2` "
            "writes them with torch 2.9 or later: export it again, or use onnx"
        ) from None
    except Exception as error:  # a damaged file may fail at any step of torch's reader
        raise UserError(f"cannot read {name} as a program of torch.export: {type(error).__name__}: {error}") from None
    return program


def _plain_archive(content: bytes) -> bytes:
    """Rewrite the archive with only its plain parts."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as plain:
        names = archive.namelist()
        root = names[0].partition("/")[0] + "/" if names else ""
        if len(set(names)) < len(names):
            raise _Refused("it holds two files of one name")
        for full in names:
            name = full.removeprefix(root)
            if name == _PROGRAM:
                found: bytes | str = json.dumps(_plain_program(json.loads(archive.read(full))))
            elif name in _CONFIGS:
                found = json.dumps(_plain_config(json.loads(archive.read(full))))
            elif name == _SAMPLES:
                found = b""  # the traced inputs: not needed
            elif _RAW.fullmatch(name):
                found = archive.read(full)
            else:
                raise _Refused(f"it holds {name!r}")
            plain.writestr(f"model/{name}", found)
    return written.getvalue()


def _plain_program(program: dict[str, Any]) -> dict[str, Any]:
    graph = program["graph_module"]
    graph["metadata"] = {}
    for node in graph["graph"]["nodes"]:
        node["metadata"] = {}  # its line in the source
    if program["range_constraints"] or program.get("guards_code") or graph.get("treespec_namedtuple_fields"):
        raise _Refused("its sizes are not constant")
    _check(program)
    return program


def _plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """Check where each tensor is. Any other entry means that the tensor is not raw."""
    for tensor in config["config"].values():
        if any(value for key, value in tensor.items() if key not in ("path_name", "is_param", "tensor_meta")):
            raise _Refused(f"{tensor['path_name']!r} is no raw tensor")
    _check(config)
    return config


def _check(value: Any, key: str = "") -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not _WORD.fullmatch(name) or (name.startswith("as_") and name not in _ARGUMENTS):
                raise _Refused(f"it says {name!r}")
            _check(item, name)
    elif isinstance(value, list):
        for item in value:
            _check(item, key)
    elif isinstance(value, str):
        rule = _OPERATOR if key == "target" else _SPEC if key in ("in_spec", "out_spec") else _WORD
        if not rule.fullmatch(value):
            raise _Refused(f"it says {value[:80]!r}")
