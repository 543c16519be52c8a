"""ONNX Runtime: the network as an ONNX file, on the CPU, or on a GPU with input and output in GPU memory."""

from typing import Any

import torch
from torch import Tensor

from nasseg.errors import UserError
from nasseg.measure.latency.onnx_file import INPUT, open_onnx, run_options
from nasseg.measure.latency.runtimes.own_stream import Run, in_order
from nasseg.records import LatencyProtocol

_CUDA = "CUDAExecutionProvider"


def on_cpu(content: bytes, protocol: LatencyProtocol) -> Run:
    """Return a call of an ONNX file's content on the CPU."""
    session = open_onnx(content, threads=protocol.threads)
    image: Any = torch.randn(protocol.batch, 3, *protocol.input_size).numpy()
    return lambda: session.run(None, {INPUT: image})


def on_cuda(content: bytes, protocol: LatencyProtocol, image: Tensor) -> Run:
    """Return a call that enqueues an ONNX file's content on the GPU of an image [B, 3, H, W], fp32.

    Copies to and from the host would take longer than many networks. TF32 and the search for algorithms follow the
    protocol; ONNX Runtime's own default is on.

    Raises:
        UserError: this ONNX Runtime has no CUDA.
    """
    image, number = image.contiguous(), image.get_device()
    stream = torch.cuda.Stream(image.device)
    options = {
        "device_id": number,
        "use_tf32": int(protocol.tf32),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if protocol.cudnn_benchmark else "HEURISTIC",
        "user_compute_stream": str(stream.cuda_stream),
    }
    session = open_onnx(content, threads=protocol.threads, providers=[(_CUDA, options)])
    if _CUDA not in session.get_providers():
        raise UserError("this ONNX Runtime has no CUDA: install onnxruntime-gpu, or use --device cpu")
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    logits = torch.empty(target.shape, device=image.device)
    binding = session.io_binding()
    for bind, name, tensor in ((binding.bind_input, source.name, image), (binding.bind_output, target.name, logits)):
        bind(
            name=name,
            device_type="cuda",
            device_id=number,
            element_type="float32",
            shape=tuple(tensor.shape),
            buffer_ptr=tensor.data_ptr(),
        )
    # Otherwise each run waits for the GPU, and a call's time includes the wait.
    unwaited = run_options(disable_synchronize_execution_providers="1")
    run = in_order(stream, lambda: session.run_with_iobinding(binding, unwaited))
    run.reads = image, logits  # type: ignore[attr-defined]  # the binding keeps addresses, so keep the memory
    return run
