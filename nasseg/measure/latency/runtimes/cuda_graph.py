"""CUDA graphs: a network captured once and replayed, without the costs of launches."""

import torch
from torch import Tensor, nn

from nasseg.errors import BrokenDeviceError
from nasseg.measure.latency.runtimes.own_stream import Run

_WARM_UP = 3  # runs in which libraries choose their algorithms, before the capture


def captured(model: nn.Module, image: Tensor) -> Run:
    """Capture a network on its own device, and return its replay. Each call refills the same tensor.

    Raises:
        BrokenDeviceError: the capture failed.
    """
    device = image.device
    # torch.cuda.graph captures on the current device, and on a stream that it keeps of the first one it saw.
    with torch.cuda.device(device), torch.inference_mode():
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                model(image)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=side):
                logits = model(image)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise BrokenDeviceError(
                "the network cannot be captured as a CUDA graph, after which a process can use the device no more: "
                f"{reason}; use another backend if it never can"
            ) from error

    def replay() -> Tensor:
        graph.replay()
        return logits

    replay.reads = model, image  # type: ignore[attr-defined]  # a graph keeps addresses, so keep the memory
    return replay
