"""The ways to run a network for timing: in PyTorch, as a CUDA graph, compiled, in ONNX Runtime or TensorRT."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nasseg.errors import UserError, unknown
from nasseg.families.arch import Segmenter
from nasseg.measure.latency.calibrate import calibrate_batch_norms
from nasseg.measure.latency.onnx_file import onnx_content
from nasseg.measure.latency.runtimes import onnx_runtime
from nasseg.measure.latency.runtimes.compiled import compiled
from nasseg.measure.latency.runtimes.cuda_graph import captured
from nasseg.measure.latency.runtimes.own_stream import Run
from nasseg.measure.latency.runtimes.tensorrt import on_tensorrt, require_tensorrt
from nasseg.records import BY_ITSELF, IN_TURNS, LatencyProtocol

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BACKENDS = ("eager", "cuda-graph", "onnxruntime", "tensorrt", "compile", "command")
ON_CUDA_ONLY = ("cuda-graph", "tensorrt")
SLOW_TO_BUILD = ("tensorrt", "compile")


class Buildable(Protocol):
    """An Arch, or anything else that can be timed."""

    def build(self, num_classes: int) -> nn.Module:
        """Return the network."""


def check_protocol(protocol: LatencyProtocol) -> None:
    """Check that a protocol can be followed here.

    Raises:
        UserError: it cannot.
    """
    kind = protocol.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device must be cpu, cuda or cuda:N, got {protocol.device!r}")
    if protocol.backend not in BACKENDS:
        raise unknown("backend", protocol.backend, BACKENDS)
    if protocol.rule not in (BY_ITSELF, IN_TURNS):
        raise UserError(
            f"rule must be {BY_ITSELF!r} or {IN_TURNS!r}, got {protocol.rule!r}, from another version of nasseg: "
            "use that version, or search again"
        )
    if protocol.precision not in DTYPES:
        raise UserError(f"precision must be one of {', '.join(DTYPES)}, got {protocol.precision!r}")
    if protocol.upsampling not in ("inside", "outside"):
        raise UserError(f"upsampling must be inside or outside, got {protocol.upsampling!r}")
    if (protocol.backend == "command") != bool(protocol.command):
        raise UserError("backend command needs `command`, and no other backend takes one")
    if protocol.backend == "command":
        if "{onnx}" not in protocol.command:
            raise UserError(f"the command must hold {{onnx}}, which the file's path replaces, got {protocol.command!r}")
        return  # the target sets precision and device
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {protocol.device} is not available: torch sees no CUDA here; use cpu")
    if protocol.backend in ON_CUDA_ONLY and kind != "cuda":
        raise UserError(f"backend {protocol.backend} needs a cuda device; use eager on a CPU")
    if protocol.backend == "tensorrt":
        require_tensorrt()
    if kind == "cpu" and protocol.precision == "fp16":
        raise UserError("fp16 cannot be timed on a CPU; use fp32 or bf16")
    if protocol.backend == "onnxruntime" and protocol.precision != "fp32":
        raise UserError(
            f"backend onnxruntime runs fp32 here, got {protocol.precision}; use a command for other precisions"
        )


def prepare(arch: Buildable, protocol: LatencyProtocol) -> nn.Module:
    """Build the network to time on its device, by the protocol: seeded weights, inference form."""
    torch.manual_seed(0)
    model = arch.build(protocol.num_classes).eval()
    # Files are written from the CPU.
    device = "cpu" if protocol.backend in ("onnxruntime", "tensorrt", "command") else protocol.device
    if protocol.precision == "fp16" and protocol.backend != "command":
        calibrate_batch_norms(model, protocol.input_size, protocol.device)
    if protocol.fold_bn:
        fold_batch_norm(model)
    if protocol.upsampling == "outside" and isinstance(model, Segmenter):
        model = WithoutUpsampling(model)
    layout = torch.channels_last if protocol.memory_format == "channels_last" else torch.contiguous_format
    dtype = torch.float32 if protocol.backend in ("onnxruntime", "command") else DTYPES[protocol.precision]
    return model.to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]


def runner(arch: Buildable, protocol: LatencyProtocol) -> Run:
    """Return a call that computes one batch, and returns when it is enqueued (CUDA) or done."""
    if protocol.backend == "tensorrt":
        content = lambda: _onnx(prepare(arch, protocol), protocol)  # noqa: E731  (called if no engine is cached)
        return on_tensorrt(content, protocol, example(protocol), getattr(arch, "id", ""))
    model = prepare(arch, protocol)
    if protocol.backend == "onnxruntime":
        if protocol.device == "cpu":
            return onnx_runtime.on_cpu(_onnx(model, protocol), protocol)
        return onnx_runtime.on_cuda(_onnx(model, protocol), protocol, example(protocol))
    image = example(protocol)
    if protocol.backend == "compile":
        return compiled(model, image)
    if protocol.backend == "cuda-graph":
        return captured(model, image)
    return lambda: model(image)


def _onnx(model: nn.Module, protocol: LatencyProtocol) -> bytes:
    return onnx_content(model, protocol.input_size, batch=protocol.batch)


def example(protocol: LatencyProtocol) -> Tensor:
    """Return a batch of noise by the protocol: [batch, 3, H, W]."""
    layout = torch.channels_last if protocol.memory_format == "channels_last" else torch.contiguous_format
    image = torch.randn(protocol.batch, 3, *protocol.input_size)
    return image.to(device=protocol.device, dtype=DTYPES[protocol.precision], memory_format=layout)


@contextmanager
def numerics(protocol: LatencyProtocol) -> Iterator[None]:
    """Set threads, TF32 and cuDNN's search for algorithms by the protocol, and restore them afterwards."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.get_num_threads(), cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    torch.set_num_threads(protocol.threads)
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = protocol.cudnn_benchmark, protocol.tf32, protocol.tf32
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before[1:]


class WithoutUpsampling(nn.Module):
    """A network up to its logits at their own stride."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.coarse_logits(image)


def fold_batch_norm(model: nn.Module) -> int:
    """Fold each BatchNorm that follows a convolution in a Sequential into it, in place; return how many."""
    folded = 0
    for module in model.modules():
        if not isinstance(module, nn.Sequential):
            continue
        names = list(module._modules)
        for first, second in pairwise(names):
            conv, holder, place = module._modules[first], module, second
            while isinstance(norm := holder._modules[place], nn.Sequential) and len(norm):
                holder, place = norm, next(iter(norm._modules))
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = fuse_conv_bn_eval(conv, norm)
                holder._modules[place] = nn.Identity()
                folded += 1
    return folded


def clock_mhz(device: str) -> float | None:
    """Return the current clock of a CPU, if it can be read. NVML reports that of a GPU."""
    if device != "cpu":
        return None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    except (OSError, ValueError):
        return None
    return sum(found) / len(found) if found else None
