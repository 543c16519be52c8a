"""TensorRT by its Python API: a network's ONNX file, built into an engine for this GPU.

It has not run on a device yet. It follows NVIDIA's documentation of TensorRT 10 and 11, and is tested with a stand-in
that checks the order of calls.

The file is in the protocol's precision and the network strongly typed, as every network is since TensorRT 11: each
tensor has its type in torch. An engine takes minutes to build, and two builds may differ in speed. So it is cached by
what it computes, the versions and the GPU, and a network that is timed again uses the same engine.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasseg.errors import MisfitError, UserError
from nasseg.files import cache_folder, written_whole
from nasseg.measure.latency.runtimes.own_stream import Run, in_order
from nasseg.records import LatencyProtocol, digest

KEPT = 200  # engines kept in the cache, those used last
_DECIDE = ("input_size", "num_classes", "precision", "tf32", "fold_bn", "upsampling", "batch", "form")


def require_tensorrt() -> Any:
    """Return the package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import tensorrt
    except ImportError:
        raise UserError(
            "backend tensorrt needs tensorrt, which is not installed: pip install 'nasseg[tensorrt]'"
        ) from None
    return tensorrt


def on_tensorrt(content: Callable[[], bytes], protocol: LatencyProtocol, image: Tensor, identity: str = "") -> Run:
    """Return a call that enqueues a network's engine on the GPU of an image [B, 3, H, W], in the protocol's precision.

    content: gives its ONNX file, called if no engine is cached. identity: of what it computes; empty: not cached.

    Raises:
        MisfitError: TensorRT cannot parse or build the network.
        MemoryError: the memory has no room for it.
    """
    trt, image = require_tensorrt(), image.contiguous()
    with torch.cuda.device(image.device):
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = _engine(trt, runtime, content, protocol, _kept_at(trt, protocol, image.device, identity))
        context = engine.create_execution_context()
        if context is None:
            raise MemoryError("TensorRT has no memory for the network's activations")
        held = []
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            tensor = image
            if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
                tensor = torch.empty(tuple(engine.get_tensor_shape(name)), dtype=image.dtype, device=image.device)
            context.set_tensor_address(name, tensor.data_ptr())
            held.append(tensor)
        stream = torch.cuda.Stream(image.device)

    def enqueue() -> None:
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT could not enqueue the network")

    run = in_order(stream, enqueue)
    run.reads = runtime, engine, held  # type: ignore[attr-defined]  # the context keeps addresses, so keep the memory
    return run


def _kept_at(trt: Any, protocol: LatencyProtocol, device: torch.device, identity: str) -> Path | None:
    if not identity:
        return None
    gpu = [torch.cuda.get_device_name(device), *torch.cuda.get_device_capability(device)]
    decides = [getattr(protocol, name) for name in _DECIDE]
    key = digest([identity, decides, trt.__version__, torch.__version__, gpu])
    return cache_folder() / "tensorrt" / f"{key}.engine"


def _engine(trt: Any, runtime: Any, content: Callable[[], bytes], protocol: LatencyProtocol, path: Path | None) -> Any:
    """Return the cached engine if it can be used, else a new one, which is then cached."""
    if path is not None and path.exists():
        path.touch()
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is not None:
            return engine
    plan = _build(trt, content(), protocol)
    if path is not None:
        with contextlib.suppress(OSError):  # without the file, the next call only takes longer
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                partial.write_bytes(plan)
            for old in sorted(path.parent.glob("*.engine"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise MemoryError("TensorRT has no memory for the network's engine")
    return engine


def _build(trt: Any, content: bytes, protocol: LatencyProtocol) -> Any:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        why = parser.get_error(0).desc() if parser.num_errors else "without a word"
        raise MisfitError(f"TensorRT cannot read the network: {' '.join(why.split())[:200]}")
    config = builder.create_builder_config()
    (config.set_flag if protocol.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)  # on by default
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise MisfitError("TensorRT cannot build the network; its log says why")
    return plan
