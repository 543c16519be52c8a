"""Views made ahead of their step on a GPU, in which order, and from what state they are drawn again."""

import pytest
import torch

from nasseg.train.views.ahead import Ahead, searched_algorithms
from tests.fake_gpu import CudaRecord


class Part(torch.Tensor):
    """A tensor that says on which stream it is used."""

    def record_stream(self, stream):
        stream.record.note("used on", stream)


class Loss(torch.Tensor):
    def to(self, _device, non_blocking):
        assert non_blocking
        return self


def loss(value=0.5):
    return torch.tensor(value).as_subclass(Loss)


@pytest.fixture
def cuda(monkeypatch):
    return CudaRecord(monkeypatch)


@pytest.fixture
def drawn():
    """How many views were drawn: the state."""
    return [0]


def ahead_of(drawn, cuda=None, device="cuda:0"):
    def make():
        drawn[0] += 1
        if cuda:
            cuda.note("make views")
        return torch.tensor(drawn).as_subclass(Part), torch.tensor(drawn).as_subclass(Part)

    return Ahead(make, lambda: {"drawn": drawn[0]}, torch.device(device))


def test_the_next_views_are_made_between_a_step_and_the_wait_for_its_loss(cuda, drawn):
    ahead = ahead_of(drawn, cuda)
    assert ahead.take()[0].item() == 1
    assert cuda.notes == ["make views"]
    assert ahead.read(loss(), more=True) == 0.5
    assert cuda.notes[1:] == [
        "record on main",
        "new stream on cuda:0",
        "stream 1 waits for main",
        "enter stream 1",
        "make views",
        "leave stream 1",
        "wait for event",
        "wait for stream 1",
    ]
    cuda.notes.clear()
    assert ahead.take()[0].item() == 2
    assert cuda.notes == ["main waits for stream 1", "used on main", "used on main"]


def test_nothing_is_made_ahead_of_a_step_that_does_not_follow(cuda, drawn):
    ahead = ahead_of(drawn, cuda)
    ahead.take()
    assert ahead.read(loss(), more=False) == 0.5
    assert cuda.notes == ["make views", "record on main", "wait for event"]
    assert drawn == [1]


def test_a_state_is_that_before_the_views_that_no_step_has_had(cuda, drawn):
    ahead = ahead_of(drawn, cuda)
    ahead.take()
    ahead.read(loss(), more=True)
    assert drawn == [2]
    assert ahead.state() == ahead.state() == {"drawn": 1}
    ahead.take()
    assert ahead.state() == {"drawn": 2}


def test_a_cpu_makes_nothing_ahead(drawn):
    ahead = ahead_of(drawn, device="cpu")
    ahead.take()
    assert ahead.read(torch.tensor(0.25), more=True) == 0.25
    assert drawn == [1]
    assert ahead.state() == {"drawn": 1}


def test_algorithms_are_searched_on_a_gpu_only():
    before = torch.backends.cudnn.benchmark
    for device, searched in (("cuda", True), ("cpu", before)):
        with searched_algorithms(torch.device(device)):
            assert torch.backends.cudnn.benchmark is searched
        assert torch.backends.cudnn.benchmark is before
