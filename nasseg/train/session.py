"""The parts that all trainings share: recipe, device, turns on the device, start, and failures."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Any, Protocol, Unpack

import torch
from torch import nn

from nasseg.data.dataset import DataSet
from nasseg.errors import BrokenDeviceError, CrowdedDeviceError, Fault, MisfitError, UserError
from nasseg.files import read_yaml
from nasseg.measure.environment import environment
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.gpu import held_by_others, on_gpu
from nasseg.own_code import CodeError
from nasseg.processes.interrupts import interrupts
from nasseg.records import Accuracy, AccuracyProtocol
from nasseg.train.loop import Diverged, Guard, Scores, TrainOptions, TrainResult, train
from nasseg.train.recipe import Recipe, load_recipe
from nasseg.train.weights import load_weights

CROWDED_SHARE = 1 / 8  # share of a GPU's memory; contexts of other processes alone do not take it
# The messages of torch's CPU allocator, and of oneDNN when a convolution gets no scratch memory. Under 37 limits on
# memory from 380 MB to 1.1 GB, BiSeNetV2's training step met the second one once.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "could not create a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA driver error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",  # cuDNN 9
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
_BROKEN_DEVICE = ("CUDA error", "CUDA driver error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS")


class Failed(RuntimeError):  # noqa: N818  (an outcome rather than a fault)
    """A network cannot be trained: it diverged, or does not fit into memory. `fault` says which."""

    def __init__(self, reason: str, fault: Fault) -> None:
        super().__init__(reason)
        self.fault = fault


@contextmanager
def failures(advice: str = "", device: str = "cpu") -> Iterator[None]:
    """Raise `Failed` if training diverges or memory runs out, and let everything else through.

    advice: the end of the message when memory runs out. device: the one in use.

    Raises:
        CrowdedDeviceError: memory ran out on a GPU that other processes use, too.
        BrokenDeviceError: CUDA failed otherwise.
    """
    try:
        yield
    except Diverged as error:
        raise Failed(f"diverged: {error}", Fault.DIVERGED) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if not _out_of_memory(error):
            if not broken_device(error):
                raise
            raise BrokenDeviceError(f"the device failed: {reason}; run the same command again to resume") from error
        others = held_by_others(device) if on_gpu(device) else 0.0
        if others > CROWDED_SHARE:
            raise CrowdedDeviceError(
                f"out of memory on {device}, of which other processes hold {others:.0%}: {reason}; use fewer "
                "workers, or wait for the others, and run the same command again"
            ) from error
        raise Failed(f"out of memory: {reason}{advice}", Fault.OUT_OF_MEMORY) from error


def _out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out, by its type or by the messages of torch and oneDNN."""
    if isinstance(error, BrokenDeviceError):  # even if its capture failed for lack of memory, the process is broken
        return False
    named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return named or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def broken_device(error: Exception) -> bool:
    """Return whether an error of CUDA makes every later call of this process fail: any does, but out of memory."""
    named = isinstance(error, torch.AcceleratorError)
    return not _out_of_memory(error) and (named or any(sign in str(error) for sign in _BROKEN_DEVICE))


@dataclass(frozen=True)
class TrainedNetwork:
    """A network after its last step. loaded: lines on which of the recipe's starting weights were loaded."""

    model: nn.Module
    result: TrainResult
    loaded: list[str]

    def accuracy(self, protocol: AccuracyProtocol, scores: Scores | None = None) -> Accuracy:
        """Return scores in the record's form: by default those of the last weights on the validation split."""
        scores = scores or self.result
        return Accuracy(
            protocol=protocol,
            environment=environment(),
            miou=scores.miou,
            pixel_accuracy=scores.pixel_accuracy,
            class_iou=scores.class_iou,
            train_seconds=self.result.train_seconds,
            curve=self.result.curve,
            unpredicted=scores.unpredicted,
        )


class Builder(Protocol):
    """An Arch, or anything else that builds a network."""

    def build(self, num_classes: int) -> nn.Module: ...


def train_network(
    arch: Builder,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    guard: Guard,
    tell: Callable[[str], None] = lambda _line: None,
    init_sha256: str = "",
    **options: Unpack[TrainOptions],
) -> TrainedNetwork:
    """Build a network, load the recipe's starting weights, train and evaluate it. All trainings come through here.

    The seed decides the initial weights, and what `nasseg.train.loop.train` draws from it; torch's own generator is
    left seeded. tell: called with lines on the starting weights that were loaded. init_sha256: the expected hash of
    their file; empty: any. options: as for `train`.

    Raises:
        Diverged, OSError: see `train`.
        UserError: see `train`; or the starting weights cannot be used, or have changed.
        MisfitError: the network cannot be built, or a setting does not fit it.
    """
    with guard():
        torch.manual_seed(seed)
        with about_the_network():
            model: nn.Module = arch.build(data.num_classes)
        loaded = load_weights(model, recipe.init, recipe.init_map) if recipe.init else None
    if loaded and init_sha256 and loaded.sha256 != init_sha256:
        raise UserError(
            f"{recipe.init} is not the file that this was begun with (SHA-256 differs): restore it, or begin "
            "under another name"
        )
    lines = loaded.lines() if loaded else []
    for line in lines:
        tell(line)
    with tf32(recipe.tf32):
        return TrainedNetwork(model, train(model, data, recipe, seed=seed, guard=guard, **options), lines)


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """Let a GPU round the factors of fp32 products to ten bits, or not, and restore the setting afterwards.

    torch's default silently rounds in convolutions.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = bool(allowed)
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@contextmanager
def about_the_network() -> Iterator[None]:
    """Turn a UserError into one about the current network, unless it is about the file of its code."""
    try:
        yield
    except CodeError:
        raise
    except UserError as error:
        raise MisfitError(str(error)) from error


def recipe_of(
    recipe: Recipe | str | Path | Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    epochs: float | None,
    data: DataSet,
) -> Recipe:
    """Return a recipe with some settings, or its length, replaced. With fewer steps, the warm-up keeps its share.

    Raises:
        UserError: there is no such recipe, or a setting is refused.
    """
    if isinstance(recipe, str | Path) and Path(recipe).suffix in (".yaml", ".yml"):
        recipe = read_yaml(Path(recipe)).data
    chosen = load_recipe(str(recipe) if isinstance(recipe, Path) else recipe)
    replaced = dict(settings or {})
    if epochs is not None:
        if not 0 < epochs < inf:
            raise UserError(f"epochs must be finite and above 0, got {epochs:g}")
        steps = ceil(epochs * len(data.train) / int(replaced.get("batch_size", chosen.batch_size)))
        replaced["steps"] = steps
        if steps < chosen.steps:  # otherwise a short run would be mostly warm-up
            replaced.setdefault("warmup_steps", chosen.warmup_steps * steps // chosen.steps)
    if not replaced:
        return chosen
    try:
        return load_recipe({**chosen.model_dump(), **replaced})
    except UserError as error:
        raise UserError(f"{error} (with {', '.join(f'{key}={value}' for key, value in replaced.items())})") from None


def check_device(device: str) -> None:
    """Check that networks can be trained on a device.

    Raises:
        UserError: they cannot.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (number.isdecimal() and len(number) < 4)):
        raise UserError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {device} is not available: torch sees {torch.cuda.device_count()} here; use cpu")


@contextmanager
def working(device: str, threads: int) -> Iterator[Callable[[], Any]]:
    """Give the guard of steps: it separates them from latency measurements, and lets Ctrl-C and SIGTERM act between.

    Signals act at the end of a step, so that the final work can take the lock undisturbed. Products are in full fp32,
    except in trainings, where the recipe decides.
    """
    lock, before = DeviceLock(device), torch.get_num_threads()

    with ExitStack() as stack:
        stack.callback(lock.close)
        stack.callback(torch.set_num_threads, before)
        torch.set_num_threads(threads)
        stack.enter_context(tf32(False))
        look = stack.enter_context(interrupts())

        @contextmanager
        def guard() -> Iterator[None]:
            with lock.computing():
                yield
            look()

        yield guard
