"""Users' own figures: call them, report which failed and where, and try each before an expensive search."""

import inspect
import random
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasseg.errors import UserError
from nasseg.families import arch_of
from nasseg.families.arch import Arch
from nasseg.figures import Figure, custom_entry, load_function
from nasseg.measure.cost import measure_cost
from nasseg.measure.environment import environment
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.gpu import on_gpu
from nasseg.records import Accuracy, Latency, Measurement
from nasseg.study.context import Context
from nasseg.study.study_file import Study
from nasseg.train.session import broken_device

PHASES = ("cost", "latency", "trained")
SAMPLES = 5  # networks of a space; figures are tried on the smallest


def add_own(
    figures: Iterable[Figure], model: nn.Module | None, measurement: Measurement, folder: Path
) -> tuple[Measurement, str]:
    """Return a measurement with users' figures, and the faults of those that failed, which it lacks."""
    custom, faults = dict(measurement.custom), []
    for figure in figures:
        function, source_hash = load_function(figure.source, folder)
        where = f"figure {figure.name} ({figure.source}, line {{line}})"
        try:
            value = function(model, measurement)
        except Exception as error:  # show the user whatever the function raises
            if broken_device(error):
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            faults.append(f"{where.format(line=_line(function, error))} raised {reason}")
            continue
        try:
            entry = custom_entry(figure, value, source_hash)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several elements
            entry = None
        if entry is None or isnan(entry["value"]):
            faults.append(f"{where.format(line=_line(function))} gave {str(value)[:100]}, which is not a number")
        else:
            custom[figure.name] = entry
    return replace(measurement, custom=custom), "; ".join(faults)


def _line(function: Callable[..., Any], error: Exception | None = None) -> int | str:
    """Return the last line of the user's file in an error's traceback, or else the function's first line."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return "unknown"
    frames = traceback.extract_tb(error.__traceback__) if error else []
    own = [frame.lineno for frame in frames if frame.filename == code.co_filename and frame.lineno]
    return own[-1] if own else int(code.co_firstlineno)


def try_figures(study: Study, context: Context) -> None:
    """Call each of a study's own figures once, on the smallest of a few networks of its space.

    The network is not timed or trained: its latency is given as 1 ms, its accuracy as 50 %.

    Raises:
        UserError: a figure raises, or gives no number.
    """
    if context.figures:
        try_on(_smallest(study, context), context, context.data.load().classes, study.space.name)


def try_on(arch: Arch, context: Context, classes: Sequence[str], name: str) -> None:
    """Call own figures once on an untrained network of the space or study `name`, with data of these classes.

    Raises:
        UserError: a figure raises, or gives no number.
    """
    measurement = Measurement(
        arch_id=arch.id, cost=measure_cost(arch, context.cost.input_size, context.cost.num_classes)
    )
    model, faults = arch.build_meta(context.cost.num_classes), []
    for phase in PHASES:
        if phase == "latency":
            measurement = replace(measurement, latency=_latency(context))
        if phase == "trained":
            measurement = replace(measurement, accuracy=_accuracy(context, classes))
        figures = [figure for figure in context.figures if figure.phase == phase]
        with _turn(context, phase):
            if figures and phase != "cost":
                torch.manual_seed(0)
                model = arch.build(context.cost.num_classes).eval()
            measurement, fault = add_own(figures, model, measurement, context.folder)
        faults += [fault] if fault else []
    if faults:
        where = f"tried on an untrained network of {name}"
        raise UserError(f"{'; '.join(faults)}, {where}; fix this and run the same command again")


@contextmanager
def _turn(context: Context, phase: str) -> Iterator[None]:
    """Take a turn on the study's device, as a job of this phase does; on the CPU if jobs run on nodes."""
    here = not on_gpu(context.device) or torch.cuda.is_available()
    lock = DeviceLock(context.device if here else "cpu")
    try:
        with lock.measuring() if phase == "latency" else lock.computing():
            yield
    finally:
        lock.close()


def _smallest(study: Study, context: Context) -> Arch:
    found, protocol = [], context.cost
    for seed in range(SAMPLES):
        with suppress(Exception):  # a search records which networks cannot be built, and why
            arch = arch_of(study.space.settings(study.space.sample(random.Random(seed))))
            found.append((measure_cost(arch, protocol.input_size, protocol.num_classes).macs, seed, arch))
    if not found:
        raise UserError(f"none of {SAMPLES} networks of {study.space.name} can be built: no figure can be tried")
    return min(found)[2]


def _latency(context: Context) -> Latency:
    return Latency(
        protocol=context.latency, environment=environment(), p50_ms=1.0, p90_ms=1.0, p99_ms=1.0, iqr_ms=0.0, n=1
    )


def _accuracy(context: Context, classes: Sequence[str]) -> Accuracy:
    return Accuracy(
        protocol=context.accuracy,
        environment=environment(),
        miou=50.0,
        pixel_accuracy=50.0,
        class_iou=dict.fromkeys(classes, 50.0),
        train_seconds=1.0,
    )
