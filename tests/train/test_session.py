"""What every training shares: one start from a seed and from weights, and failures that are said with their fault."""

import signal

import pytest
import torch

from nasseg.data.dataset import load_data
from nasseg.errors import BrokenDeviceError, CrowdedDeviceError, Fault, UserError
from nasseg.families import make_arch
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.train import session
from nasseg.train.loop import Diverged, Scores
from nasseg.train.recipe import Recipe
from nasseg.train.session import Failed, failures, train_network, working
from nasseg.train.weights import save_weights

DATA = load_data("scenes", size=(32, 64), train=4, val=2)


def begun(monkeypatch, recipe, **options):
    """The result of train_network where no step is done."""
    monkeypatch.setattr(
        session, "train", lambda *_arguments, **_options: Scores(miou=50.0, pixel_accuracy=60.0, class_iou={})
    )
    arch = make_arch("regseg", width=0.25, dilations="(1,1)")
    return train_network(arch, DATA, recipe, guard=DeviceLock("cpu").computing, **options)


def test_the_seed_decides_the_initial_weights(monkeypatch):
    first, again, other = (begun(monkeypatch, Recipe(), seed=seed).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_starting_weights_are_taken_and_told_of(tmp_path, monkeypatch):
    start = begun(monkeypatch, Recipe(), seed=3).model
    save_weights(start, tmp_path / "start.pt")
    told = []
    trained = begun(monkeypatch, Recipe(init=str(tmp_path / "start.pt")), seed=4, tell=told.append)
    assert all(torch.equal(tensor, trained.model.state_dict()[name]) for name, tensor in start.state_dict().items())
    assert told == trained.loaded
    assert "tensors matched, 0 skipped" in told[0]


@pytest.mark.parametrize(
    ("error", "fault", "reason"),
    [
        (Diverged(7, float("nan")), Fault.DIVERGED, r"^diverged: training diverged: the loss of step 7 is nan"),
        (MemoryError(), Fault.OUT_OF_MEMORY, r"^out of memory: ; try less$"),
        (torch.OutOfMemoryError("CUDA\n out"), Fault.OUT_OF_MEMORY, r"^out of memory: CUDA out; try less$"),
        (RuntimeError("could not create a primitive"), Fault.OUT_OF_MEMORY, "primitive; try less$"),
    ],
)
def test_what_fails_says_its_fault(error, fault, reason):
    with pytest.raises(Failed, match=reason) as caught, failures("; try less"):
        raise error
    assert caught.value.fault is fault


CUDA = [
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: operation not permitted when stream is capturing",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
]
NO_MEMORY = [
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA driver error: out of memory",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
]


@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
@pytest.mark.parametrize("text", CUDA)
def test_an_error_of_cuda_is_about_the_process(kind, text):
    with pytest.raises(BrokenDeviceError, match="run the same command again"), failures():
        raise kind(text)


@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
@pytest.mark.parametrize("text", NO_MEMORY)
def test_memory_that_cuda_lacks_is_about_the_network(kind, text):
    with pytest.raises(Failed) as caught, failures():
        raise kind(text)
    assert caught.value.fault is Fault.OUT_OF_MEMORY


def test_memory_that_others_hold_is_not_about_the_network(two_gpus):
    with pytest.raises(Failed), failures(device="cuda"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    two_gpus.free = 10
    with pytest.raises(CrowdedDeviceError, match="other processes hold 60%"), failures(device="cuda"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_capture_that_fails_for_memory_is_about_the_process():
    with pytest.raises(BrokenDeviceError), failures():
        raise BrokenDeviceError("the network cannot be captured: CUDA error: out of memory")


@pytest.mark.parametrize("asked", [None, False, True])
def test_the_recipe_says_whether_factors_are_rounded(monkeypatch, asked):
    """torch's own default is to round those of convolutions."""
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before, seen = [flag.allow_tf32 for flag in flags], []

    def look(*_arguments, **_options):
        seen.extend(flag.allow_tf32 for flag in flags)
        return Scores(miou=50.0, pixel_accuracy=60.0, class_iou={})

    monkeypatch.setattr(session, "train", look)
    arch = make_arch("regseg", width=0.25, dilations="(1,1)")
    with working("cpu", 1) as guard:
        assert [flag.allow_tf32 for flag in flags] == [False, False]
        train_network(arch, DATA, Recipe(tf32=asked), seed=0, guard=guard)
    assert seen == [bool(asked)] * 2
    assert [flag.allow_tf32 for flag in flags] == before
    assert Recipe(tf32=None).hash == Recipe().hash != Recipe(tf32=True).hash


def test_a_signal_is_heeded_where_a_step_ends_and_leaves_the_lock_to_what_must_be_done():
    done = []
    with working("cpu", 1) as guard:

        def step():
            with guard():
                signal.raise_signal(signal.SIGTERM)
                done.append("step")

        with pytest.raises(KeyboardInterrupt):
            step()
        with guard():
            done.append("checkpoint")
    assert done == ["step", "checkpoint"]


@pytest.mark.parametrize("error", [UserError("no data"), OSError("full"), RuntimeError("a fault"), KeyboardInterrupt()])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, failures():
        raise error
    assert caught.value is error
