"""CUDA graphs: a network captured once and replayed, without the costs of launches."""

import torch
from torch import Tensor, nn

from nasseg.errors import BrokenDeviceError
from nasseg.measure.latency.runtimes.own_stream import Run

_WARM_UP = 3  # runs before the capture, in which libraries choose their algorithms


def captured(model: nn.Module, image: Tensor) -> Run:
    """Capture a network on its own device, and return a call that replays it. Each call refills the same tensor.

    Raises:
        BrokenDeviceError: the capture failed.
    """
    device = image.device
    # torch.cuda.graph captures on the current device, but on a stream of the first device it saw.
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
                "the network cannot be captured as a CUDA graph, and the process can no longer use the device: "
                f"{reason}; use another backend if this happens again"
            ) from error

    def replay() -> Tensor:
        graph.replay()
        return logits

    replay.reads = model, image  # type: ignore[attr-defined]  # a graph keeps addresses, so keep the memory
    return replay
