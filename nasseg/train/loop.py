"""The training loop: batches of views, a loss and an optimiser step for each; then accuracy on the validation split."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from nasseg.data.dataset import DataSet, Split
from nasseg.errors import UserError
from nasseg.families.layers import train_mode
from nasseg.measure.accuracy import ConfusionMatrix
from nasseg.train.checkpoint import Checkpoints, on_cpu
from nasseg.train.heads import TrainingHeads
from nasseg.train.losses import class_weights, segmentation_loss
from nasseg.train.optimizer import FACTOR, Average, make_optimizer
from nasseg.train.recipe import Recipe
from nasseg.train.views.ahead import Ahead, Source, Views, searched_algorithms
from nasseg.train.views.augment import Augment
from nasseg.train.views.batches import Batches
from nasseg.train.views.network_input import keep_classes, logits_of, map_back, past_resize, place

Guard = Callable[[], AbstractContextManager[object]]
_CURVE_POINTS = 50
_EXPLODED = 1_000  # times the first loss
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(RuntimeError):  # noqa: N818  (an outcome of a trial rather than a fault)
    """The loss is no longer a finite number, or a thousand times the first one."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            f"training diverged: the loss of step {step} is {loss:.4g}; try a lower learning_rate or more warmup_steps"
        )
        self.step, self.loss = step, loss


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracy on a split in percent. class_iou: None for a class that does not occur.

    unpredicted: labelled pixels with a NaN logit; they count as wrong.
    """

    miou: float
    pixel_accuracy: float
    class_iou: dict[str, float | None]
    unpredicted: int = 0


@dataclass(frozen=True, kw_only=True)
class Best(Scores):
    """The evaluated weights with the highest mIoU (among equals the latest), and their step."""

    step: int
    weights: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainResult(Scores):
    """Scores of the last weights on the validation split.

    train_seconds: wall time of the steps, including waits in `guard`, excluding evaluation.
    curve: (step, mean training loss since the point before), at most 50 points.
    evaluated: (step, mIoU). best: None unless `evaluate_every` was given. predicted: classes [H, W] by image.
    """

    train_seconds: float
    curve: tuple[tuple[int, float], ...]
    evaluated: tuple[tuple[int, float], ...] = ()
    best: Best | None = None
    predicted: dict[int, Tensor] = field(default_factory=dict)


class TrainOptions(TypedDict, total=False):
    """The options of `train` besides its model, data, recipe, seed and guard."""

    device: torch.device | str
    on_step: Callable[[int, float], None] | None
    evaluate_every: int | None
    on_evaluated: Callable[[int, float], None] | None
    checkpoints: Checkpoints | None
    until: int | None
    kind: "type[Training]"
    predict: Sequence[int]


def train(
    model: nn.Module,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, float], None] | None = None,
    guard: Guard | None = None,
    evaluate_every: int | None = None,
    on_evaluated: Callable[[int, float], None] | None = None,
    checkpoints: Checkpoints | None = None,
    until: int | None = None,
    kind: "type[Training] | None" = None,
    predict: Sequence[int] = (),
) -> TrainResult:
    """Train `model`, [B, 3, H, W] -> logits [B, classes, H, W], in place, and evaluate it.

    The seed decides batches, views, dropout and the recipe's heads; the caller initialises the weights. On the CPU with
    one thread, the same seed gives the same weights, bit for bit. The model is left in eval mode with the evaluated
    weights (the averaged ones, if the recipe has an ema_decay), without the heads. `on_step(step, loss)` is called
    after each step, counted from 1; an exception in it ends training. `guard()` is entered around each step and each
    batch of the evaluation.

    evaluate_every: steps between evaluations; they change no weights. `on_evaluated(step, miou)` is called after each.
    checkpoints: training resumes from the existing one, to the same weights as without a break. More are written when
    due, after the last step, and at an interruption (KeyboardInterrupt) between two steps. until: a step after which
    this call ends; the schedule stays that of the recipe's steps, and a later checkpoint is not used. kind: what is
    learnt; default: the class of each pixel. predict: validation images whose predicted classes are kept.

    Raises:
        Diverged: the loss became infinite or NaN, or exploded.
        UserError: model, data and the recipe's heads do not fit each other, or a checkpoint belongs to another
            training.
        OSError: a checkpoint cannot be written; the previous one is still there.
    """
    guard, end = guard or nullcontext, min(until or recipe.steps, recipe.steps)
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        saved = checkpoints.read() if checkpoints else None
        with guard():
            training = (kind or Training)(model, data, recipe, seed, device)
            training.predicted = dict.fromkeys(predict, torch.empty(0))
            if saved is not None and checkpoints and (checkpoints.step or 0) <= end:
                training.load(saved)

        def keep(kept: Checkpoints) -> None:
            with guard():
                state = on_cpu(training.state())
            kept.write(training.step, state)

        def score() -> Scores:
            scores = training.evaluate(guard, keep_best=evaluate_every is not None)
            if on_evaluated:
                on_evaluated(training.step, scores.miou)
            return scores

        try:
            while training.step < end:
                if evaluate_every and training.waits_for_evaluation(evaluate_every):
                    score()
                with (
                    training.heads.reading(model),
                    train_mode(model, training.heads),
                    past_resize(model, recipe),
                    searched_algorithms(training.device),
                ):
                    for loss in training.steps(end, evaluate_every, guard):
                        if checkpoints and checkpoints.due(training.step):
                            keep(checkpoints)
                        if on_step:
                            on_step(training.step, loss)
            if checkpoints and checkpoints.step != training.step:
                keep(checkpoints)
            scores = score()
        except KeyboardInterrupt:
            if checkpoints and training.whole:
                keep(checkpoints)
            raise
    if training.average:
        with guard():
            model.load_state_dict(training.average.state)
    return TrainResult(
        **vars(scores),
        train_seconds=training.seconds,
        curve=tuple(training.curve),
        evaluated=tuple(training.evaluated),
        best=training.best,
        predicted=training.predicted,
    )


class Training:
    """A training between two steps: the state that the next step needs, and the history.

    `prepare`, `views`, `loss` and `score` define what is learnt: here the class of each pixel.
    """

    def __init__(self, model: nn.Module, data: DataSet, recipe: Recipe, seed: int, device: torch.device | str) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model, self.data, self.recipe = model, data, recipe
        self.heads = TrainingHeads(recipe, model, data.num_classes)
        for module in (model, self.heads):
            module.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.device = torch.device(device)
        self.average = Average(model, recipe.ema_decay) if recipe.ema_decay else None
        self.generator = torch.Generator().manual_seed(seed)
        self.prepare()
        self.ahead = Ahead(self.views, self._drawn_from, self.device)
        self.optimizer = make_optimizer(model, recipe, self.heads)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.step, self.seconds, self.limit, self.whole = 0, 0.0, 0.0, True
        self.curve: list[tuple[int, float]] = []
        self.recent: list[float] = []
        self.evaluated: list[tuple[int, float]] = []
        self.best: Best | None = None
        self.predicted: dict[int, Tensor] = {}

    def prepare(self) -> None:
        """Make the source of batches, and what else views and losses need."""
        data, recipe, size = self.data, self.recipe, self.data.train.size
        if recipe.label_smoothing is not None:
            raise UserError("label_smoothing is only for whole images (`nasseg pretrain`): leave it out of this recipe")
        self.batches: Source = Batches(data, recipe, self.generator, self.device)
        self.augment = Augment(recipe.on(size, getattr(self.model, "input_scale", 1.0)), size)
        weights = class_weights(recipe, data)
        self.class_weights = None if weights is None else weights.to(self.device)

    def views(self) -> Views:
        """Return the images [B, 3, h, w] and labels of a step."""
        (chosen, targets), places = self.batches.next()
        return self.augment(chosen, targets, self.generator, places)

    def steps(self, end: int, evaluate_every: int | None, guard: Guard) -> Iterator[float]:
        """Yield the losses of the steps up to the next evaluation, or to the end."""
        while self.step < end:
            started = perf_counter()
            with guard():
                self.whole = False
                loss = self._step(more=self.step + 1 < end)
                self.limit = self.limit or _EXPLODED * max(loss, 1.0)
                if not isfinite(loss) or loss > self.limit:
                    raise Diverged(self.step + 1, loss)
                self._advance(loss)
                self.seconds += perf_counter() - started
                self.whole = True
            yield loss
            if evaluate_every and self.waits_for_evaluation(evaluate_every):
                return

    def _step(self, *, more: bool = False) -> float:
        """Make a step. more: another step follows; its views may be made ahead."""
        recipe, parts = self.recipe, self.recipe.accumulation
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(self.step) * group.get(FACTOR, 1.0)
        images, labels = self.ahead.take()
        self.optimizer.zero_grad()
        losses = []
        for part in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            loss = self.loss(*part) / parts
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.step + 1)
        return self.ahead.read(torch.stack(losses).sum(), more)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the network and the heads. Passes run in the recipe's precision, losses in fp32."""
        recipe, weights = self.recipe, self.class_weights
        precision = PRECISIONS[recipe.precision]
        with torch.autocast(images.device.type, precision, enabled=recipe.precision != "fp32"):
            logits = logits_of(self.model, images, self.data.num_classes, recipe.channels_last)
        loss = segmentation_loss(logits.float(), labels, recipe.ohem, weights)
        return sum(self.heads.losses(self.model, labels, weights), loss)

    def _advance(self, loss: float) -> None:
        self.step += 1
        self.recent.append(loss)
        if self.step % -(-self.recipe.steps // _CURVE_POINTS) == 0 or self.step == self.recipe.steps:
            self.curve.append((self.step, sum(self.recent) / len(self.recent)))
            self.recent.clear()

    def waits_for_evaluation(self, every: int) -> bool:
        return self.step % every == 0 and (self.evaluated[-1][0] if self.evaluated else 0) < self.step

    def evaluate(self, guard: Guard, *, keep_best: bool) -> Scores:
        """Evaluate the averaged weights if there are any, else the weights."""
        with self._average_weights(guard):
            scores = self.score(guard)
            if keep_best and (self.best is None or scores.miou >= self.best.miou):
                with guard():
                    weights = {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()}
                self.best = Best(**vars(scores), step=self.step, weights=weights)
        self.evaluated = [item for item in self.evaluated if item[0] < self.step] + [(self.step, scores.miou)]
        return scores

    def score(self, guard: Guard) -> Scores:
        """Return the scores of the network as it is on the validation split. The best have the highest mIoU."""
        data, size, kept = self.data, self.recipe.eval_batch_size, self.predicted
        matrix = evaluate(
            self.model, data.val, data.num_classes, device=self.device, batch_size=size, guard=guard, predicted=kept
        )
        return scores_of(matrix, data.classes)

    @contextmanager
    def _average_weights(self, guard: Guard) -> Iterator[None]:
        current: dict[str, Tensor] = {}
        try:
            if self.average:
                with guard():
                    self.whole = False  # until its own weights are restored
                    current = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
                    self.model.load_state_dict(self.average.state)
            yield
        finally:
            if current:
                with guard():
                    self.model.load_state_dict(current)
                    self.whole = True

    def state(self) -> dict[str, Any]:
        """Return tensors and plain data. The tensors are in use: write them before the next step."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        drawn_from = self.ahead.state()
        generator = drawn_from.pop("generator")
        return {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state if self.average else None,
            **drawn_from,
            "generators": {"batches": generator, "cpu": torch.get_rng_state(), "cuda": cuda},
            "plain": {name: getattr(self, name) for name in _PLAIN},
            "best": vars(self.best) if self.best else None,
        }

    def _drawn_from(self) -> dict[str, Any]:
        """Return the state from which the next views are drawn."""
        return {**self.batches.state(), "generator": self.generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that `state` returned, read from a file."""
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.average:
            for name, tensor in self.average.state.items():
                tensor.copy_(state["average"][name])
        self.batches.load(state)
        generators = state["generators"]
        self.generator.set_state(generators["batches"])
        torch.set_rng_state(generators["cpu"])
        if self.device.type == "cuda" and generators["cuda"] is not None:
            torch.cuda.set_rng_state(generators["cuda"], self.device)
        for name in _PLAIN:
            setattr(self, name, state["plain"][name])
        self.best = Best(**state["best"]) if state["best"] else None


_PLAIN = ("step", "seconds", "limit", "curve", "recent", "evaluated")


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    num_classes: int,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    guard: Guard | None = None,
    predicted: dict[int, Tensor] | None = None,
) -> ConfusionMatrix:
    """Return a model's confusion matrix on whole images, at the labels' size. It leaves the model in eval mode.

    predicted: its keys are images; their predicted classes, uint8 [H, W], become its values.
    """
    guard, kept = guard or nullcontext, predicted or {}
    model.eval()
    matrix, batches = ConfusionMatrix(num_classes), enumerate(split.batches(batch_size, device))
    while True:
        with guard():
            if (found := next(batches, None)) is None:  # this copies a batch to the device
                matrix.counts = matrix.counts.cpu()
                return matrix
            index, (images, labels) = found
            logits = logits_of(model, place(images, split.size), num_classes, True)
            keep_classes(kept, index * batch_size, logits, images, labels)
            if isinstance(images, Tensor) and isinstance(labels, Tensor):
                matrix.update(logits, labels)
                continue
            for image, label, one in zip(images, labels, logits.split(1), strict=True):
                for top, part in map_back(one, image.shape, (label.shape[0], label.shape[1])):
                    matrix.update(part, label[None, top : top + part.shape[2]])


def scores_of(matrix: ConfusionMatrix, classes: Sequence[str]) -> Scores:
    return Scores(
        miou=matrix.miou,
        pixel_accuracy=matrix.pixel_accuracy,
        class_iou=dict(zip(classes, matrix.class_iou, strict=True)),
        unpredicted=matrix.unpredicted,
    )
