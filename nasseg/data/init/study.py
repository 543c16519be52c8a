"""Write a study that fits the data and the machine: size, batch, steps, trials, limits and hours."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasseg.data.init.machine import Machine, measure_machine, median
from nasseg.data.init.plan import flow
from nasseg.errors import UserError
from nasseg.records import Size
from nasseg.words import duration

HOURS = 2.0  # default
_SMALL = 200  # pixels; images with a shorter side than this get networks that keep more resolution
_SMALLEST, _LARGEST = 64, 2_048  # sides of what networks see
_EPOCHS, _FEWEST, _MOST = 60, 200, 4_000  # a full training: its epochs, and the bounds of its steps
_EXTRA = 1.3  # times the steps' time, for evaluation, latency and costs, too
_TRIALS = 36
_FIRST, _SHARE = 8, 0.42  # networks all trained to the end, and the share that each later one takes with hedged halving


@dataclass(frozen=True)
class Wishes:
    """A user's wishes for a study. latency_ms: the budget of one image; hours: of the whole search."""

    latency_ms: float | None = None
    hours: float | None = None


def read_latency(text: str) -> float:
    """Return milliseconds, as in `12ms`, `12` or `0.5s`.

    Raises:
        UserError: it is no time above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)?\s*", text)
    value = float(found.group(1)) * (1_000 if found.group(2) == "s" else 1) if found else 0.0
    if value <= 0:
        raise UserError(f"a latency budget is a time such as 12ms, got {text!r}")
    return value


@dataclass(frozen=True)
class _Training:
    """Steps of a full training, the number of trials, and the hours they take."""

    steps: int
    trials: int
    hours: float


def study_text(
    name: str, data: dict[str, Any], sizes: Sequence[Size], counts: Mapping[str, int], num_classes: int, wishes: Wishes
) -> tuple[str, list[str]]:
    """Return a study file, and the measurements and assumptions behind it in words.

    counts: images of each split.
    """
    shown = _middle(sizes)
    space = "quickstart" if min(shown) < _SMALL else "camvid-quick"
    batch = max(1, min(8, counts["train"] // 2))
    many = len(set(sizes)) > 1
    measured = _sides(shown, min(1.0, _LARGEST / max(shown))) if many or max(shown) > _LARGEST else shown
    machine = measure_machine(space, measured, _crop(measured), batch, num_classes)
    lines = [_measured(machine, measured)]
    size, said = _within(measured, machine, wishes.latency_ms)
    lines += said
    step = machine.step_seconds * math.prod(_crop(size)) / math.prod(_crop(measured))
    training = _training(step, counts["train"], batch, machine.workers, wishes.hours or HOURS)
    lines.append(
        f"{training.trials} trials of up to {training.steps} steps of {batch} images, {machine.workers} at a time: "
        f"about {duration(3600 * training.hours)}; the search ends after {wishes.hours or HOURS:g} hours (--hours)"
    )
    if many or size != shown:
        data = {**data, "size": list(size)}
        lines.append(f"networks see images at {size[1]} x {size[0]}, keeping their ratio")
    return _text(name, data, space, size, batch, training, machine, wishes), lines


def _middle(sizes: Sequence[Size]) -> Size:
    height, width = (sorted(side)[len(sizes) // 2] for side in zip(*sizes, strict=True))
    return height, width


def _sides(size: Size, scale: float) -> Size:
    height, width = (max(_SMALLEST, round(side * scale / 32) * 32) for side in size)
    return height, width


def _crop(size: Size) -> Size:
    return min(size[0], 256), min(size[1], 512)


def _measured(machine: Machine, size: Size) -> str:
    low, high = machine.latencies_ms[0], machine.latencies_ms[-1]
    what = "one thread of this machine" if machine.device == "cpu" else "this machine's GPU"
    return (
        f"measured on {what}: networks of the space take {low:.3g} to {high:.3g} ms for an image of {size[1]} x "
        f"{size[0]}, a training step {machine.step_seconds:.2g} s"
        + (" (beside other work: doubtful)" if machine.disturbed else "")
    )


def _within(size: Size, machine: Machine, budget: float | None) -> tuple[Size, list[str]]:
    """Return the size at which the middle network keeps the budget, and what follows in words."""
    if budget is None:
        return size, ["no latency budget is given, so no network is rejected for its latency: --latency 12ms sets one"]
    middle = median(machine.latencies_ms)
    if middle <= budget:
        return size, [f"limit: {budget:g} ms for an image; half of the networks keep it at {size[1]} x {size[0]}"]
    smaller = _sides(size, math.sqrt(budget / middle))
    expected = middle * math.prod(smaller) / math.prod(size)
    line = f"limit: {budget:g} ms for an image; at {size[1]} x {size[0]} a middle network takes {middle:.3g} ms, "
    if expected <= 1.5 * budget:
        return smaller, [f"{line}so images are seen at {smaller[1]} x {smaller[0]}"]
    return smaller, [
        f"{line}and at {smaller[1]} x {smaller[0]}, the smallest size, still about {expected:.2g} ms: give "
        f"--latency {expected:.2g}ms or more, or another device"
    ]


def _training(step: float, images: int, batch: int, workers: int, hours: float) -> _Training:
    """Return the longest training that the hours allow, up to _EPOCHS; if that is too short, fewer trials."""
    wanted = min(_MOST, max(_FEWEST, round(_EPOCHS * images / batch)))
    for trials in (_TRIALS, _TRIALS // 2, _TRIALS // 4):
        whole = _FIRST + (trials - _FIRST) * _SHARE  # trainings to the end that cost as much
        affordable = hours * 3600 * workers / (whole * step * _EXTRA)
        if affordable >= _FEWEST or trials == _TRIALS // 4:
            break
    steps = max(90, min(wanted, round(affordable, -1)))
    return _Training(int(steps), trials, whole * steps * step * _EXTRA / workers / 3600)


def _text(
    name: str,
    data: dict[str, Any],
    space: str,
    size: Size,
    batch: int,
    training: _Training,
    machine: Machine,
    wishes: Wishes,
) -> str:
    steps, budget = training.steps, wishes.latency_ms
    limits = "# limits: {latency_ms: {max: 12}}  # none was given: set what an image may take on this machine\n"
    if budget is not None:
        limits = f"limits: {{latency_ms: {{max: {budget:g}}}}}\n"
    return (
        "# Written by nasseg init from the data and a few seconds of measuring this machine; make it your own.\n"
        f"question: Which small network gives the most accuracy on {name} for its multiply-adds and latency?\n"
        f"expected: about {duration(3600 * training.hours)}  # and which accuracy? write it down before you search\n"
        f"space: {space}\n"
        f"data: {flow(data)}\n"
        f"objectives: [miou, macs, latency_ms]\n{limits}"
        f"recipe: {{steps: {steps}, batch_size: {batch}, crop_size: {list(_crop(size))}, scale_range: [0.75, 1.5],\n"
        f"         jitter: 0.2, warmup_steps: {steps // 10}, ema_decay: 0.98}}\n"
        "sampler: ehvi  # looks at the networks' graphs, see reports/replay\n"
        "# Rungs in steps; the best third of each goes on. Half of the compute trains networks to the end whatever\n"
        "# their rungs say; all of it, if rungs rank badly.\n"
        f"halving: {{rungs: [{steps // 9}, {steps // 3}], factor: 3, straight: 0.5}}\n"
        f"latency: {{device: {machine.device}, threads: 1}}\n"
        f"trials: {training.trials}\n"
        f"hours: {wishes.hours or HOURS:g}\n"
        f"workers: {machine.workers}\n"
    )
