"""The training loop: batches of views, a loss, an optimiser step each; then accuracy on the validation split."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isfinite
from time import perf_counter

import torch
from torch import Tensor, nn

from nasseg.errors import UserError
from nasseg.measure.accuracy import ConfusionMatrix
from nasseg.train.augment import Augment, normalise
from nasseg.train.data import DataSet, Split
from nasseg.train.heads import TrainingHeads
from nasseg.train.losses import segmentation_loss
from nasseg.train.optimizer import Average, make_optimizer
from nasseg.train.recipe import Recipe

Guard = Callable[[], AbstractContextManager[object]]
_CURVE_POINTS = 50
_EXPLODED = 1_000  # times the first loss
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(RuntimeError):  # noqa: N818  (an outcome of a trial rather than a fault)
    """The loss is no longer a finite number, or a thousand times what it was at first."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            f"training diverged: the loss of step {step} is {loss:.4g}; try a lower learning_rate or more warmup_steps"
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

    The seed decides batches, views, dropout and the recipe's heads; the weights are the caller's to initialise. On the
    CPU with one thread the same seed gives the same weights, bit by bit. The model is left in eval mode with the
    weights that were evaluated (the average ones, where the recipe has an ema_decay), without the heads.
    `on_step(step, loss)` is called after each step, the first being 1; an exception that it raises ends training.
    `guard()` is entered around each step and each batch of the evaluation.

    Raises:
        Diverged: the loss became infinite or NaN, or exploded.
        UserError: model, data and the recipe's heads do not fit each other.
    """
    guard = guard or nullcontext
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    with torch.random.fork_rng(devices=_cuda_devices(device)):
        torch.manual_seed(seed)
        heads = TrainingHeads(recipe, model, data.num_classes)
        for module in (model, heads):
            module.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        split = data.train.to(device)
        average = Average(model, recipe.ema_decay) if recipe.ema_decay else None
        started = perf_counter()
        with heads.reading(model):
            curve = _run_steps(model, heads, split, recipe, seed, average, data.num_classes, on_step, guard)
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
    heads: TrainingHeads,
    split: Split,
    recipe: Recipe,
    seed: int,
    average: Average | None,
    num_classes: int,
    on_step: Callable[[int, float], None] | None,
    guard: Guard,
) -> tuple[tuple[int, float], ...]:
    model.train()
    device, parts = split.images.device, recipe.accumulation
    generator = torch.Generator().manual_seed(seed)
    augment = Augment(recipe.for_input_scale(getattr(model, "input_scale", 1.0)))
    optimizer = make_optimizer(nn.ModuleList([model, heads]), recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    batches = _batches(len(split), recipe.batch_size, generator)
    every = -(-recipe.steps // _CURVE_POINTS)
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    limit = 0.0
    for step in range(1, recipe.steps + 1):
        with guard():
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step - 1)
            chosen = next(batches).to(device)
            images, labels = augment(split.images[chosen], split.labels[chosen], generator)
            optimizer.zero_grad()
            losses = []
            for part in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                loss = _loss(model, heads, *part, num_classes, recipe) / parts
                scaler.scale(loss).backward()
                losses.append(loss.detach())
            scaler.step(optimizer)
            scaler.update()
            if average:
                average.update(model, step)
            value = torch.stack(losses).sum().item()
        limit = limit or _EXPLODED * max(value, 1.0)
        if not isfinite(value) or value > limit:
            raise Diverged(step, value)
        recent.append(value)
        if step % every == 0 or step == recipe.steps:
            curve.append((step, sum(recent) / len(recent)))
            recent.clear()
        if on_step:
            on_step(step, value)
    return tuple(curve)


def _loss(
    model: nn.Module, heads: TrainingHeads, images: Tensor, labels: Tensor, num_classes: int, recipe: Recipe
) -> Tensor:
    """Of the network and the recipe's heads. The passes run in the recipe's precision, losses in fp32."""
    precision = _PRECISIONS[recipe.precision]
    with torch.autocast(images.device.type, precision, enabled=recipe.precision != "fp32"):
        logits = _logits(model, images, num_classes, recipe.channels_last)
    loss = segmentation_loss(logits.float(), labels, recipe.ohem)
    return sum(heads.losses(model, labels), loss)


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
