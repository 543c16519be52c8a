"""The capture of a graph: on the network's own device, after a warm-up on the stream that captures."""

import pytest
import torch

from nasseg.errors import BrokenDeviceError
from nasseg.measure.latency.runtimes.cuda_graph import captured
from tests.fake_gpu import CudaRecord


class OnSecondGPU(torch.Tensor):
    """A tensor that says that it lies on cuda:1."""

    device = torch.device("cuda:1")


def test_a_graph_is_captured_on_its_own_device_and_stream(monkeypatch):
    cuda = CudaRecord(monkeypatch)
    image = torch.zeros(1).as_subclass(OnSecondGPU)
    run = captured(lambda image: cuda.note("forward") or image, image)
    assert cuda.notes == [
        "enter device cuda:1",
        "new stream on cuda:1",
        "stream 1 waits for main",
        "enter stream 1",
        *["forward"] * 3,
        "leave stream 1",
        "main waits for stream 1",
        "enter graph on stream 1",
        "forward",
        "leave graph on stream 1",
        "leave device cuda:1",
    ]
    cuda.notes.clear()
    assert run() is image
    assert cuda.notes == ["replay"]


def test_a_capture_that_fails_breaks_the_process(monkeypatch):
    CudaRecord(monkeypatch)
    runs = []

    def forward(image):
        runs.append(image)
        if len(runs) > 3:  # the warm-up is over
            raise torch.OutOfMemoryError("CUDA out of memory")
        return image

    with pytest.raises(BrokenDeviceError, match=r"cannot be captured as a CUDA graph, .*: CUDA out of memory"):
        captured(forward, torch.zeros(1).as_subclass(OnSecondGPU))
