"""Measure tables: time and train their rows, the smallest first, or estimate how long it would take."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasseg.data.dataset import PSEUDO, DataSet, load_data
from nasseg.errors import unknown
from nasseg.families.layers import train_mode
from nasseg.measure.latency.backends import example, numerics, prepare
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.tables.compute import cost_figure
from nasseg.tables.fitted_recipe import Training
from nasseg.tables.table_file import Table
from nasseg.tables.table_store import known_trainings
from nasseg.tables.time_rows import (
    ROUNDS,
    Part,
    latency_columns,
    networks,
    protocol_of,
    stored_session,
    time_table,
)
from nasseg.tables.train_rows import Planned, TableTraining, trained_column
from nasseg.train.run import RunProgress, Tell
from nasseg.train.session import check_device, working
from nasseg.train.views.network_input import past_resize
from nasseg.words import duration

SCENES = {"size": (256, 512), "train": 400, "val": 100, "test": 100}
TIMED_MACS = 4e9  # multiply-adds of the forward pass that an estimate times, unless two images take more
# Called with a line, and a value that changes when the line should be printed.
Progress = Callable[[str, tuple[str, str, int, int]], None]


def table_data(name: str | Path, options: Mapping[str, Any] | None = None) -> DataSet:
    """Load the data that tables are trained on. Procedural scenes are as large as an ablation needs.

    Raises:
        UserError: there is no data set of that name, or an option is wrong.
    """
    return load_data(name, **{**(SCENES if str(name) == "scenes" else {}), **(options or {})})


def given_data(
    tables: Sequence[Table], data: str | Path, options: Mapping[str, Any] | None, extra: Mapping[str, str]
) -> dict[str, Any]:
    """Return a training's data: those for all rows, and others by their name in the tables.

    extra: a name in the tables -> data to pre-train on (a folder or a name), or a folder that `nasseg label` wrote.

    Raises:
        UserError: there are no such data, or no row needs a name.
    """
    rows = [row for table in tables for row in table.file.rows if row.variant]
    before, pseudo = {n for row in rows for n in row.pretraining}, {n for row in rows for n in row.self_training}
    for name in extra:
        if name not in before | pseudo:
            raise unknown("data that rows need (--extra)", name, sorted(before | pseudo))
    labelled = {name: {**(options or {}), PSEUDO: path} for name, path in extra.items() if name in pseudo}
    return {
        "data": table_data(data, options),
        "pretraining": {name: table_data(path) for name, path in extra.items() if name in before},
        "self_training": {name: table_data(data, more) for name, more in labelled.items()},
    }


def time_tables(
    tables: Iterable[Table],
    device: str,
    *,
    storage: str | None = None,
    command: str = "",
    tell: Tell = lambda _line: None,
) -> None:
    """Time the latency columns of tables, keeping the device free meanwhile.

    Raises:
        UserError: the device is not available, or a study cannot be written.
    """
    check_device(device)
    lock = DeviceLock(device)
    for table in tables:
        time_table(table, device, lock.measuring, storage=storage, command=command, tell=tell)


def train_tables(
    tables: Iterable[Table],
    training: Training,
    *,
    storage: str | None = None,
    command: str = "",
    tell: Tell = lambda _line: None,
    on_progress: Progress = lambda _line, _mark: None,
) -> tuple[list[TableTraining], bool]:
    """Train the accuracy columns of tables, the cheapest table first.

    Return the tables, and whether it was interrupted.

    Each table has its study, and another call resumes. Ctrl-C and SIGTERM stop it at the end of a step, with a
    checkpoint.

    Raises:
        UserError: a recipe or the data cannot be used, or a study cannot be written; finished trainings are kept.
    """
    asked = _cheapest_first(tables, training, storage, command)
    known = known_trainings(storage)
    left = [part for one in asked for planned in one.runs if planned.key not in known for part in planned.parts]
    clock = _Clock(left, on_progress)
    try:
        with working(training.device, training.threads) as guard:
            for one in asked:
                tell(f"{one.table.name}: {one.record.name}")
                one.train(known, guard, tell, partial(clock.tick, one.table.name))
    except KeyboardInterrupt:
        return asked, True
    return asked, False


def _cheapest_first(
    tables: Iterable[Table], training: Training, storage: str | None, command: str = ""
) -> list[TableTraining]:
    check_device(training.device)
    asked = [TableTraining(table, training, storage, command) for table in tables if trained_column(table)]
    for one in asked:
        one.check()
    return sorted((one for one in asked if one.runs), key=lambda one: one.work)


class _Clock:
    """The time left for all trainings, estimated from the speed of those in this call."""

    def __init__(self, planned: Sequence[Planned], on_progress: Progress) -> None:
        self.left = {one.key: one.work for one in planned}
        self.on_progress, self.begun = on_progress, time.monotonic()
        self.first: dict[str, int] = {}
        self.done: dict[str, float] = {}

    def tick(self, table: str, planned: Planned, progress: RunProgress) -> None:
        first = self.first.setdefault(planned.key, progress.step - 1)
        self.done[planned.key] = planned.work * (progress.step - first) / progress.steps
        self.left[planned.key] = planned.work * (1 - progress.step / progress.steps)
        line = f"{table}, {planned.row.name}, {progress.line()}"
        if progress.seconds_left is not None:  # the first step is slow, and says little
            seconds = (time.monotonic() - self.begun) / max(sum(self.done.values()), 1.0) * sum(self.left.values())
            line += f"; about {duration(seconds)} left in total"
        tenth = 10 * progress.step // progress.steps
        self.on_progress(line, (table, planned.row.name, progress.seed, tenth))


# Estimates of the time it would take


@dataclass(frozen=True)
class TableHours:
    """The work left for a table. runs: requested trainings; left: those not done yet, nor by an earlier table."""

    name: str
    runs: int
    left: int
    training_seconds: float
    latency_seconds: float

    @property
    def hours(self) -> float:
        return (self.training_seconds + self.latency_seconds) / 3600


def table_hours(
    tables: Sequence[Table], training: Training | None, latency_device: str | None, storage: str | None = None
) -> list[TableHours]:
    """Estimate the hours that tables need, in the order in which they would be done. Stores nothing.

    It times a step and a forward pass of two networks of each family, the smallest and the middle one, and estimates
    the others by their multiply-adds. On a CPU the hours are those of cores that compute nothing else.
    """
    asked = {one.table.name: one for one in _cheapest_first(tables, training, storage)} if training else {}
    seen = set(known_trainings(storage)) if training else set()
    timed: dict[str, list[_Timed]] = {}
    found = []
    order = [*asked, *(table.name for table in tables if table.name not in asked)]
    by_name = {table.name: table for table in tables}
    for name in order:
        table, one = by_name[name], asked.get(name)
        left = [planned for planned in one.runs if planned.key not in seen] if one else []
        left = list({planned.key: planned for planned in left}.values())
        seen |= {planned.key for planned in left}
        seconds = 0.0
        if left and training:
            seconds = _training_seconds(left, training, timed)
        timing = _latency_seconds(table, latency_device, storage) if latency_device else 0.0
        if one or timing:
            found.append(TableHours(name, len(one.runs) if one else 0, len(left), seconds, timing))
    return found


@dataclass(frozen=True)
class _Timed:
    """Seconds of a training step and of a forward pass, per image. work: multiply-adds of a forward pass."""

    work: float
    step: float
    forward: float


def _training_seconds(left: list[Planned], training: Training, timed: dict[str, list[_Timed]]) -> float:
    """Estimate trainings from two networks of each family, which are timed unless they are in `timed`."""
    by_family: dict[str, list[Planned]] = {}
    for planned in sorted(left, key=_image_work):
        by_family.setdefault(planned.run.arch.family, []).append(planned)
    seconds = 0.0
    for family, own in by_family.items():
        if family not in timed:
            two = {_image_work(planned): planned for planned in (own[0], own[len(own) // 2])}
            timed[family] = [_time(planned, training) for planned in two.values()]
        parts = {part.key: part for planned in own for part in planned.parts}.values()
        for part in parts:
            step, forward = _times_of(_image_work(part), timed[family])
            images = part.run.recipe.steps * part.run.recipe.batch_size
            seconds += step * images + forward * part.evaluation / _image_work(part)
    return seconds


def _image_work(planned: Planned) -> float:
    """Return the multiply-adds of a forward pass for one image of a training."""
    return planned.work / (3 * planned.run.recipe.steps * planned.run.recipe.batch_size)


def _times_of(work: float, known: list[_Timed]) -> tuple[float, float]:
    """Return the seconds of a step and of a forward pass for an image that takes this many multiply-adds.

    They are on the line between the two known networks, and proportional to the multiply-adds outside. A line alone is
    not enough: small networks spend much of their time on starting each operator.
    """
    inside = min(max(work, known[0].work), known[-1].work)
    works = [one.work for one in known]
    step, forward = (
        float(np.interp(inside, works, times)) for times in ([k.step for k in known], [k.forward for k in known])
    )
    return step * work / inside, forward * work / inside


def _time(planned: Planned, training: Training) -> _Timed:
    """Time a step and a forward pass, with all images of a step if that is quick, else with fewer, at least two."""
    recipe, threads = planned.run.recipe, torch.get_num_threads()
    images = max(2, min(recipe.batch_size, int(TIMED_MACS / _image_work(planned))))
    size = recipe.on(training.size, planned.run.arch.input_scale).crop_size or training.size
    torch.set_num_threads(training.threads)
    try:
        with DeviceLock(training.device).computing():
            model = planned.run.arch.build(training.data.num_classes).to(training.device)
            image = torch.randn(images, 3, *size, device=training.device)
            with train_mode(model), past_resize(model, recipe):
                backward = _seconds(lambda: model(image).square().mean().backward(), training.device)
            with torch.inference_mode():
                forward = _seconds(lambda: model.eval()(image), training.device)
    finally:
        torch.set_num_threads(threads)
    return _Timed(_image_work(planned), backward / images, forward / images)


def _seconds(run: Callable[[], object], device: str) -> float:
    """Return the time of the second of two runs; on a CPU the process time, so that other programs do not count."""
    cuda = device.startswith("cuda")
    clock = time.monotonic if cuda else time.process_time
    begun = 0.0
    for _ in range(2):
        begun = clock()
        run()
        if cuda:
            torch.cuda.synchronize(device)
    return (clock() - begun) / (1 if cuda else torch.get_num_threads())


def _latency_seconds(table: Table, device: str, storage: str | None) -> float:
    """Estimate the time to time columns that no session covers, from one pass of the smallest network at each size."""
    total = 0.0
    for names in latency_columns(table).values():
        column = table.file.columns[names[0]]
        protocol = protocol_of(table, column, device)
        if stored_session(table, column, storage, protocol):
            continue
        archs = {one.arch if isinstance(one, Part) else one for one in networks(table, column).values()}
        macs = {arch: cost_figure(arch, "macs", column.size, column.classes) for arch in archs}
        if not macs:
            continue
        smallest = min(macs, key=lambda arch: macs[arch])
        with numerics(protocol), DeviceLock(device).measuring(), torch.inference_mode():
            model, image = prepare(smallest, protocol), example(protocol)
            one = _seconds(partial(model, image), device)
        for arch in macs:
            each = one * macs[arch] / macs[smallest]
            total += ROUNDS * each * (protocol.warmup + max(protocol.min_replicates, protocol.min_seconds / each))
    return total
