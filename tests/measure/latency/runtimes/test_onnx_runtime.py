"""ONNX Runtime on a GPU: what it is told, with a stand-in for its session."""

from types import SimpleNamespace

import pytest
import torch

from nasseg.errors import UserError
from nasseg.measure.latency.runtimes import onnx_runtime
from nasseg.records import LatencyProtocol
from tests.fake_gpu import CudaRecord

PROTOCOL = LatencyProtocol(device="cuda:1", input_size=(32, 64), num_classes=3, backend="onnxruntime")


class Session:
    """Stands in for an InferenceSession, with the names and arguments of ONNX Runtime's Python API."""

    def __init__(self, cuda, providers=("CUDAExecutionProvider", "CPUExecutionProvider")):
        self.cuda, self.providers, self.bound = cuda, providers, {}

    def get_providers(self):
        return [*self.providers]

    def get_inputs(self):
        return [SimpleNamespace(name="image", shape=[1, 3, 32, 64])]

    def get_outputs(self):
        return [SimpleNamespace(name="logits", shape=[1, 3, 32, 64])]

    def io_binding(self):
        return self

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        self.bound[name] = (device_type, device_id, element_type, shape, buffer_ptr)

    bind_output = bind_input

    def run_with_iobinding(self, binding, options):
        assert binding is self
        self.cuda.note("run with", options)


class OnSecondGPU(torch.Tensor):
    """A tensor that says that it lies on cuda:1."""

    device = torch.device("cuda:1")

    def get_device(self):
        return 1


@pytest.fixture
def asked(monkeypatch):
    """What the session is opened with, and what is done."""
    cuda, opened = CudaRecord(monkeypatch), []
    session = Session(cuda)

    def open_onnx(content, **settings):
        opened.append((content, settings))
        return session

    monkeypatch.setattr(onnx_runtime, "open_onnx", open_onnx)
    monkeypatch.setattr(onnx_runtime, "run_options", lambda **entries: entries)
    real_empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, device: real_empty(shape))
    return SimpleNamespace(cuda=cuda, opened=opened, session=session)


def test_input_and_output_stay_on_the_device_and_nothing_waits(asked):
    image = torch.zeros(1, 3, 32, 64).as_subclass(OnSecondGPU)
    run = onnx_runtime.on_cuda(b"file", PROTOCOL, image)
    ((content, settings),) = asked.opened
    assert content == b"file"
    ((provider, options),) = settings["providers"]
    assert provider == "CUDAExecutionProvider"
    assert options == {
        "device_id": 1,
        "use_tf32": 0,
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "user_compute_stream": "77",
    }
    held, logits = run.reads
    assert asked.session.bound == {
        "image": ("cuda", 1, "float32", (1, 3, 32, 64), held.data_ptr()),
        "logits": ("cuda", 1, "float32", (1, 3, 32, 64), logits.data_ptr()),
    }
    asked.cuda.notes.clear()
    run()
    assert asked.cuda.notes == [
        "stream 1 waits for main",
        "run with {'disable_synchronize_execution_providers': '1'}",
        "main waits for stream 1",
    ]


def test_an_onnx_runtime_without_cuda_is_said(asked):
    asked.session.providers = ("CPUExecutionProvider",)
    with pytest.raises(UserError, match="has no CUDA: install onnxruntime-gpu"):
        onnx_runtime.on_cuda(b"file", PROTOCOL, torch.zeros(1, 3, 32, 64).as_subclass(OnSecondGPU))


def test_the_options_of_a_run_are_those_that_it_knows():
    onnxruntime = pytest.importorskip("onnxruntime")
    from nasseg.measure.latency.onnx_file import run_options

    options = run_options(disable_synchronize_execution_providers="1")
    assert isinstance(options, onnxruntime.RunOptions)
    assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
