"""Run a study: set it up in its storage, start workers, let the driver work, and hand back the record."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.front import hypervolume, pareto_front, reference_box
from nasseg.families import make_arch, variants
from nasseg.measure.cost import measure_cost
from nasseg.measure.device_lock import DeviceLock
from nasseg.measure.environment import environment
from nasseg.measure.latency import check_protocol, measure_latency
from nasseg.records import AccuracyProtocol, CostProtocol, StudyRecord, digest
from nasseg.study.data import DataFile
from nasseg.study.driver import Driver
from nasseg.study.figures import find_figure, load_function
from nasseg.study.file import Study, sampler_name
from nasseg.study.jobs import Context
from nasseg.study.local import LocalEngine, Step
from nasseg.study.published import check_space
from nasseg.study.read import record_of
from nasseg.study.record import Record, now
from nasseg.study.sampler import Proposer, make_sampler
from nasseg.study.storage import default_url, open_storage, redact, runs_folder


@dataclass(frozen=True)
class Ended:
    """How a search ended."""

    record: StudyRecord
    reason: str
    interrupted: bool = False
    requeued: int = 0


@dataclass(frozen=True)
class Progress:
    """A search as it goes."""

    done: int
    trials: int
    rejected: int
    failed: int
    front: int
    hypervolume: float
    running: tuple[tuple[str, int], ...]  # family, step
    steps: int
    seconds_left: float | None

    def line(self) -> str:
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        running = ", ".join(f"{family} {step}/{self.steps}" for family, step in self.running)
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.done} of {self.trials} trained, {self.rejected} over a limit{failed}; front {self.front}, "
            f"hypervolume {self.hypervolume:.3f}{left}" + (f" ({running})" if running else "")
        )


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def run_study(
    study: Study,
    *,
    storage: str | None = None,
    trials: int | None = None,
    workers: int | None = None,
    data: Path | None = None,
    seed: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    command: str = "",
) -> Ended:
    """Take a study to its number of trained trials, going on where it stands.

    Ctrl-C and SIGTERM end it cleanly: what runs is re-queued. What is not given is taken from the study file.

    Raises:
        UserError: the study cannot run here (data, device, sampler, storage), or was begun with other settings.
    """
    check_space(study.space)
    seed = study.file.seed if seed is None else seed
    sampler = make_sampler(*sampler_name(study.file.sampler), seed=seed)
    proposer = Proposer(study.space, study.objectives, sampler, seed)
    for name in study.file.published:
        make_arch(name)
    context = make_context(study, study.file.data if data is None else study.file.data.at(data))
    url = storage or default_url(study.name)
    opened = open_storage(url, create=True)
    record = Record.create(opened, study.name, [f.direction for f in study.objectives], identity(study, context))
    record.set_attributes(
        {
            "study_file": study.text,
            "space_file": study.space.source,
            "question": study.file.question,
            "objectives": [[f.name, f.unit, f.direction] for f in study.objectives],
            "limits": study.limits,
            "command": redact(command) or f"nasseg search {study.name}",
            "environment": vars(environment()),
        }
    )
    if "published" not in record.attributes():
        record.set_attributes({"published": _published(study, context), "created": now()})
    begun, done_before = time.monotonic(), -1
    steps: dict[int, int] = {}

    def on_step(step: Step) -> None:
        steps[step[0]] = step[1]

    engine = LocalEngine(context, workers or study.file.workers, on_step)
    driver = Driver(study, record, engine, context, proposer, trials or study.file.trials, seed)

    def tell() -> None:
        nonlocal done_before
        complete = _trained(record)
        done_before = len(complete) if done_before < 0 else done_before
        on_progress(_progress(study, record, driver, steps, complete, time.monotonic() - begun, done_before))

    driver.on_change = tell
    try:
        with _sigterm_as_interrupt():
            tell()
            reason = driver.run()
        return Ended(record_of(record), reason)
    except KeyboardInterrupt:
        requeued = driver.stop("the search was stopped")
        return Ended(record_of(record), "stopped", interrupted=True, requeued=requeued)
    finally:
        engine.close()


def make_context(study: Study, data: DataFile) -> Context:
    """Protocols of a study on its data. The input size is the camera's: that of the images.

    Raises:
        UserError: the data or the device are not to be had, or a figure names a class that does not exist.
    """
    loaded = data.load()
    for name in study.figures:
        if name.startswith("iou."):
            find_figure(name, loaded.classes)
    size, recipe = loaded.val.size, study.file.recipe
    latency = study.file.latency.protocol(size, loaded.num_classes)
    check_protocol(latency)
    return Context(
        data=data,
        recipe=recipe,
        latency=latency,
        cost=CostProtocol(input_size=size, num_classes=loaded.num_classes),
        accuracy=AccuracyProtocol(
            data=loaded.name, data_fingerprint=loaded.fingerprint, recipe=study.name, recipe_hash=recipe.hash,
            steps=recipe.steps, seed=0,
        ),
        figures=tuple(figure for figure in study.figures.values() if figure.source),
        folder=study.folder.resolve(),
        weights=runs_folder(study.name).resolve(),
        device=study.file.latency.device,
    )  # fmt: skip


def identity(study: Study, context: Context) -> dict[str, Any]:
    """What may not change under a study's name. Limit values, comments and run settings may."""
    space = study.space
    sources = {f.name: load_function(f.source, study.folder)[1] for f in study.figures.values() if f.source}
    return {
        "space": f"{space.name} {digest([repr(space.parameters), repr(space.templates), repr(space.forbid)])}",
        "objectives": [[figure.name, figure.direction] for figure in study.objectives],
        "limits": sorted(study.limits),
        "cost protocol": _plain(context.cost),
        "latency protocol": _plain(context.latency),
        "accuracy protocol": _plain(replace(context.accuracy, recipe="", seed=0)),
        "recipe": study.file.recipe.model_dump(mode="json"),
        "own figures": sources,
    }


def _plain(value: Any) -> dict[str, Any]:
    return {name: list(item) if isinstance(item, tuple) else item for name, item in vars(value).items()}


def _published(study: Study, context: Context) -> list[dict[str, Any]]:
    """The networks that the space's families are named after, and those the study runs, under its protocols.

    Kept with the study, so that reading it needs no torch.
    """
    points = []
    for variant in variants().values():
        if variant.name in (*study.space.families, *study.file.published):
            arch = make_arch(variant.name)
            cost = measure_cost(arch, context.cost.input_size, context.cost.num_classes)
            figures = {name: getattr(cost, name) for name in ("params", "macs", "fvcore_flops", "field_of_view")}
            figures["latency_ms"] = measure_latency(arch, context.latency, DeviceLock(context.device).measuring).p50_ms
            points.append({"name": variant.name, "citation": variant.citation, "family": variant.family,
                           "params": variant.params, "figures": figures})  # fmt: skip
    return points


def _trained(record: Record) -> list[FrozenTrial]:
    complete = record.trials(TrialState.COMPLETE)
    return [t for t in complete if "reused_from" not in t.user_attrs]


def _progress(
    study: Study,
    record: Record,
    driver: Driver,
    steps: dict[int, int],
    complete: list[FrozenTrial],
    elapsed: float,
    before: int,
) -> Progress:
    directions = [figure.direction for figure in study.objectives]
    values = np.array([trial.values for trial in complete]).reshape(-1, len(directions))
    volume = 0.0
    if len(values):
        # Published networks may be far over the limits: they do not stretch the box.
        own = np.array([t.values for t in complete if "published" not in t.user_attrs]).reshape(-1, len(directions))
        box = reference_box(own if len(own) else values, directions)
        volume = hypervolume(values, box.reference, directions) / box.volume
    counted = [trial for trial in complete if "published" not in trial.user_attrs]
    new = len(complete) - before
    left = elapsed / new * max(0, driver.trials - len(counted)) if new else None
    running = tuple(
        (str(item.candidate.settings["family"]), steps.get(number, 0))
        for number, item in driver.active.items()
        if item.trial
    )
    return Progress(
        done=len(counted),
        trials=driver.trials,
        rejected=len(record.trials(TrialState.PRUNED)),
        failed=len(
            [t for t in record.trials(TrialState.FAIL) if not str(t.user_attrs.get("reason")).startswith("interr")]
        ),
        front=int(pareto_front(values, directions).sum()),
        hypervolume=volume,
        running=running,
        steps=study.file.recipe.steps,
        seconds_left=left,
    )


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a search as Ctrl-C does (in the main thread; elsewhere signals are the caller's)."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
