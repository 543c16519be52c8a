"""Published networks leave PyTorch: by torch.export and by ONNX, with the numbers they had."""

import re
import warnings

import numpy as np
import pytest
import torch

from nasseg.families import make_arch, variants
from tests.families.cheap import CHEAP

SIZE, CLASSES = (96, 160), 5


ALIKE = ("eseg-m", "eseg-l", "eseg-lite-m", "eseg-lite-l", "stdc1-seg75", "stdc2-seg75")


def named():
    """Networks that are more than the row of a table (`stdc2-t3-2`), and the rows that are made of other layers.

    Left out are the networks of `ALIKE`, which are larger or scaled forms of others, and composed networks that have
    another family's graph.
    """
    rest = [name for name in variants() if "-t3b-" in name or not re.search(r"-[tf]\d", name)]
    return [name for name in rest if name not in ALIKE and not name.startswith("composed-")]


def built(arch):
    """In eval mode, with statistics and scales as after training: no two layers alike."""
    torch.manual_seed(0)
    model = arch.build(CLASSES).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model, torch.randn(1, 3, *SIZE)


def close(found, expected):
    """Equal up to the rounding of float32 sums in another order."""
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def by_torch_export(arch):
    """The exported program, the image it was checked with, and the logits."""
    model, image = built(arch)
    with torch.no_grad():
        program = torch.export.export(model, (image,))
        expected = model(image).numpy()
        close(program.module()(image).numpy(), expected)
    return program, image, expected


def by_onnx(program, image, expected, folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, (), path, dynamo=True, verbose=False, optimize=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    close(found, expected)


def test_every_network_with_a_name_is_exported():
    assert set(named()) > {
        "bisenetv2",
        "bisenetv2-large",
        "stdc1",
        "stdc2-seg",
        "eseg-s",
        "eseg-lite-s",
        "regseg",
        "dabnet",
    }
    assert len(named()) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bisenetv2", "stdc", "backbone"])  # of the others, see the next test
def test_a_family_is_exported_by_torch(family):
    by_torch_export(make_arch(family, **CHEAP[family]))


@pytest.mark.slow
@pytest.mark.parametrize("name", named())
def test_a_published_network_is_exported(name, tmp_path):
    by_onnx(*by_torch_export(make_arch(name)), tmp_path)
