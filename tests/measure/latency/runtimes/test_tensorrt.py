"""TensorRT's Python API as it is documented, by a stand-in that takes no call out of order. It has run on no device."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch

from nasseg.errors import MisfitError, UserError
from nasseg.families import make_arch
from nasseg.measure.latency.backends import check_protocol, prepare
from nasseg.measure.latency.onnx_file import onnx_content
from nasseg.measure.latency.runtimes import tensorrt
from nasseg.measure.latency.runtimes.tensorrt import on_tensorrt
from nasseg.records import LatencyProtocol
from tests.fake_gpu import CudaRecord
from tests.families.cheap import SHALLOW

PROTOCOL = LatencyProtocol(
    device="cuda:0", input_size=(32, 64), num_classes=3, backend="tensorrt", precision="fp16", tf32=False
)


class StandIn(ModuleType):
    """The package: what parses, builds and runs notes it, and fails where `fails` says so."""

    __version__ = "11.0.0"
    BuilderFlag = SimpleNamespace(TF32="TF32")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)

    class Logger:
        ERROR = 1

        def __init__(self, level):
            assert level == 1

    def __init__(self, cuda):
        super().__init__("tensorrt")
        self.cuda, self.fails = cuda, ""
        self.addresses = {}

    def Builder(self, logger):  # noqa: N802
        assert isinstance(logger, self.Logger)
        return SimpleNamespace(
            create_network=self._network, create_builder_config=self._config, build_serialized_network=self._build
        )

    def _network(self, flags):
        assert flags == 1 << 0
        return SimpleNamespace(parsed=None)

    def OnnxParser(self, network, _logger):  # noqa: N802
        def parse(content):
            self.cuda.note("parse", content)
            network.parsed = content
            return self.fails != "parse"

        return SimpleNamespace(
            parse=parse, num_errors=1, get_error=lambda _n: SimpleNamespace(desc=lambda: "no such\nop")
        )

    def _config(self):
        return SimpleNamespace(
            set_flag=lambda flag: self.cuda.note("with", flag), clear_flag=lambda flag: self.cuda.note("without", flag)
        )

    def _build(self, network, _config):
        assert network.parsed
        self.cuda.note("build")
        return None if self.fails == "build" else b"plan of " + network.parsed

    def Runtime(self, logger):  # noqa: N802
        assert isinstance(logger, self.Logger)
        return SimpleNamespace(deserialize_cuda_engine=self._engine)

    def _engine(self, plan):
        self.cuda.note("deserialize", plan)
        if not plan.startswith(b"plan of"):
            return None
        shapes = {"image": (1, 3, 32, 64), "logits": (1, 3, 32, 64)}
        return SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=[*shapes].__getitem__,
            get_tensor_mode=lambda name: "in" if name == "image" else "out",
            get_tensor_shape=shapes.__getitem__,
            create_execution_context=lambda: None if self.fails == "room" else self._context(),
        )

    def _context(self):
        def execute(stream):
            assert {*self.addresses} == {"image", "logits"}
            self.cuda.note("execute on", stream)
            return self.fails != "enqueue"

        return SimpleNamespace(set_tensor_address=self.addresses.__setitem__, execute_async_v3=execute)


class OnGPU(torch.Tensor):
    """A tensor that says that it lies on cuda:0."""

    device = torch.device("cuda:0")


@pytest.fixture
def image():
    return torch.zeros(1, 3, 32, 64, dtype=torch.float16).as_subclass(OnGPU)


@pytest.fixture
def trt(monkeypatch, tmp_path):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path))
    cuda, real_empty = CudaRecord(monkeypatch), torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, device: real_empty(shape, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    stand_in = StandIn(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    return stand_in


def notes(trt):
    found = [note for note in trt.cuda.notes if "device" not in note]
    trt.cuda.notes.clear()
    return found


def test_an_engine_is_parsed_built_bound_and_enqueued_in_that_order(trt, image):
    run = on_tensorrt(lambda: b"onnx", PROTOCOL, image)
    built = ["parse b'onnx'", "without TF32", "build", "deserialize b'plan of onnx'", "new stream on cuda:0"]
    assert notes(trt) == built
    _runtime, _engine, held = run.reads
    assert trt.addresses == {"image": held[0].data_ptr(), "logits": held[1].data_ptr()}
    assert (held[1].shape, held[1].dtype) == ((1, 3, 32, 64), torch.float16)
    run()
    assert notes(trt) == ["stream 1 waits for main", "execute on 77", "main waits for stream 1"]


def test_it_works_on_the_device_of_the_image(trt, image):
    on_tensorrt(lambda: b"onnx", PROTOCOL, image)
    assert (trt.cuda.notes[0], trt.cuda.notes[-1]) == ("enter device cuda:0", "leave device cuda:0")


def test_tf32_is_as_the_protocol_says(trt, image):
    on_tensorrt(lambda: b"onnx", replace(PROTOCOL, precision="fp32", tf32=True), image)
    assert "with TF32" in notes(trt)


def test_an_engine_is_kept_by_what_it_computes_and_the_version(trt, image, monkeypatch):
    def again(identity, protocol=PROTOCOL):
        on_tensorrt(lambda: b"onnx", protocol, image, identity)
        return "build" in notes(trt)

    assert again("a")
    assert not again("a")
    assert not again("a", replace(PROTOCOL, warmup=99))
    assert again("b")
    assert again("a", replace(PROTOCOL, input_size=(64, 64)))
    assert again("")
    assert again("")
    monkeypatch.setattr(StandIn, "__version__", "11.4.1")
    assert again("a")


def test_a_kept_engine_that_cannot_be_used_is_built_again(trt, image, tmp_path):
    on_tensorrt(lambda: b"onnx", PROTOCOL, image, "a")
    (path,) = tmp_path.glob("tensorrt/*.engine")
    path.write_bytes(b"of another version")
    trt.cuda.notes.clear()
    on_tensorrt(lambda: b"onnx", PROTOCOL, image, "a")
    assert "build" in notes(trt)
    assert path.read_bytes() == b"plan of onnx"


def test_the_cache_does_not_grow_without_end(trt, image, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt, "KEPT", 2)
    for identity in "abc":
        on_tensorrt(lambda: b"onnx", PROTOCOL, image, identity)
    assert len([*tmp_path.glob("tensorrt/*.engine")]) == 2


@pytest.mark.parametrize(
    ("fails", "error", "message"),
    [
        ("parse", MisfitError, "TensorRT cannot read the network: no such op"),
        ("build", MisfitError, "TensorRT cannot build the network"),
        ("room", MemoryError, "no memory for the network's activations"),
    ],
)
def test_what_goes_wrong_is_said(trt, image, fails, error, message):
    trt.fails = fails
    with pytest.raises(error, match=message):
        on_tensorrt(lambda: b"onnx", PROTOCOL, image)


def test_a_network_that_cannot_be_enqueued_is_said(trt, image):
    run = on_tensorrt(lambda: b"onnx", PROTOCOL, image)
    trt.fails = "enqueue"
    with pytest.raises(RuntimeError, match="could not enqueue"):
        run()


def test_without_the_package_the_protocol_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match=r"needs tensorrt, which is not installed: pip install 'nasseg\[tensorrt\]'"):
        check_protocol(PROTOCOL)


@pytest.mark.slow
def test_the_file_that_it_reads_is_in_the_protocols_precision():
    """The network is strongly typed: types come from the file."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    arch = make_arch("regseg", width=0.25, **SHALLOW["regseg"])
    model = prepare(arch, replace(PROTOCOL, device="cpu"))
    graph = onnx.load_from_string(onnx_content(model, PROTOCOL.input_size)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types == {"image": onnx.TensorProto.FLOAT16, "logits": onnx.TensorProto.FLOAT16}
