"""The training loop: batches of views, cross entropy, an optimiser step each; then accuracy on the validation split."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import UserError
from nasseg.measure.accuracy import IGNORE, ConfusionMatrix
from nasseg.train.augment import Augment, normalise
from nasseg.train.data import DataSet, Split
from nasseg.train.recipe import Recipe

Guard = Callable[[], AbstractContextManager[object]]
_CURVE_POINTS = 50


class Diverged(RuntimeError):  # noqa: N818  (an outcome of a trial rather than a fault)
    """The loss is no longer a finite number."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            f"training diverged: the loss of step {step} is {loss}; try a lower learning_rate or more warmup_steps"
        )
        self.step, self.loss = step, loss


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Accuracy on the validation split in percent. class_iou: None where a class does not occur.

    train_seconds: wall time of the steps, waiting in `guard` included, evaluation not.
    curve: (step, mean training loss since the point before), at most 50 points.
    """

    miou: float
    pixel_accuracy: float
    class_iou: dict[str, float | None]
    train_seconds: float
    curve: tuple[tuple[int, float], ...]


def train(
    model: nn.Module,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, float], None] | None = None,
    guard: Guard | None = None,
) -> TrainResult:
    """Trains `model`, [B, 3, H, W] -> logits [B, classes, H, W], in place and evaluates it.

    The seed decides batches, views and dropout; the weights are the caller's to initialise. On the CPU with one thread
    the same seed gives the same weights, bit by bit. The model is left in eval mode with the weights that were
    evaluated (the average ones, where the recipe has an ema_decay). `on_step(step, loss)` is called after each step,
    the first being 1; an exception that it raises ends training. `guard()` is entered around each step and each
    batch of the evaluation.

    Raises:
        Diverged: the loss became infinite or NaN.
        UserError: model and data do not fit each other.
    """
    guard = guard or nullcontext
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    split = data.train.to(device)
    average = _Average(model, recipe.ema_decay) if recipe.ema_decay else None
    with torch.random.fork_rng(devices=_cuda_devices(device)):
        torch.manual_seed(seed)
        started = perf_counter()
        curve = _run_steps(model, split, recipe, seed, average, data.num_classes, on_step, guard)
        train_seconds = perf_counter() - started
    if average:
        model.load_state_dict(average.state)
    matrix = evaluate(model, data.val, data.num_classes, device=device, batch_size=recipe.eval_batch_size, guard=guard)
    return TrainResult(
        miou=matrix.miou,
        pixel_accuracy=matrix.pixel_accuracy,
        class_iou=dict(zip(data.classes, matrix.class_iou, strict=True)),
        train_seconds=train_seconds,
        curve=curve,
    )


def _run_steps(
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    seed: int,
    average: "_Average | None",
    num_classes: int,
    on_step: Callable[[int, float], None] | None,
    guard: Guard,
) -> tuple[tuple[int, float], ...]:
    model.train()
    generator = torch.Generator().manual_seed(seed)
    augment, optimizer = Augment(recipe), make_optimizer(model, recipe)
    batches = _batches(len(split), recipe.batch_size, generator)
    every = -(-recipe.steps // _CURVE_POINTS)
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    for step in range(1, recipe.steps + 1):
        with guard():
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step - 1)
            chosen = next(batches).to(split.images.device)
            images, labels = augment(split.images[chosen], split.labels[chosen], generator)
            loss = cross_entropy(_logits(model, images, num_classes, recipe.channels_last), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if average:
                average.update(model, step)
            value = loss.item()
        if not isfinite(value):
            raise Diverged(step, value)
        recent.append(value)
        if step % every == 0 or step == recipe.steps:
            curve.append((step, sum(recent) / len(recent)))
            recent.clear()
        if on_step:
            on_step(step, value)
    return tuple(curve)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    num_classes: int,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    guard: Guard | None = None,
) -> ConfusionMatrix:
    """The confusion matrix of a model on whole images; leaves the model in eval mode."""
    guard = guard or nullcontext
    model.eval()
    matrix = ConfusionMatrix(num_classes)
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        with guard():
            matrix.update(_logits(model, normalise(images.to(device)), num_classes, True), labels.to(device))
    return matrix


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled pixels; zero where there are none."""
    # Twice as fast on the CPU in planes as in channels_last.
    total = F.cross_entropy(logits.contiguous(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; vectors (biases, BatchNorm, PReLU) go without weight decay."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


class _Average:
    """An exponential moving average of a model's weights and statistics; its first steps weigh more."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = deepcopy(model.state_dict())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, step / (step + 9))
        current = model.state_dict()
        moving = [name for name, tensor in current.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in moving], [current[name] for name in moving], 1 - decay)
        for name, tensor in current.items():
            if not tensor.is_floating_point():
                self.state[name].copy_(tensor)


def _logits(model: nn.Module, images: Tensor, num_classes: int, channels_last: bool) -> Tensor:
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    logits: Tensor = model(images)
    if logits.shape != (len(images), num_classes, *images.shape[2:]):
        raise UserError(
            f"logits must be [{len(images)}, {num_classes}, {images.shape[2]}, {images.shape[3]}] for this data set, "
            f"got {list(logits.shape)}: build the model for {num_classes} classes"
        )
    return logits


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices without end: every sample once, in random order, then again; batches run on across these rounds."""
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:size]
        order = order[size:]


def _cuda_devices(device: torch.device | str) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type == "cuda" else []
