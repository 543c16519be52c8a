"""Give tests of exporting and of predicting a network as an ONNX file."""

import contextlib

import pytest


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    """Return a trained network as an ONNX file that takes one picture; its card and its study lie beside it."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from nasseg.network.export import export_address
    from tests.study.leaving import STORAGE, make_study

    folder = tmp_path_factory.mktemp("onnx")
    make_study(folder)
    with contextlib.chdir(folder):
        return export_address("tiny#0", folder / "m.onnx", storage=STORAGE)
