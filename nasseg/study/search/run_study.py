"""Run a study: set it up in its storage, start workers, let the driver work, and return the record."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.environment import environment
from nasseg.own_code import only
from nasseg.processes.interrupts import interrupts
from nasseg.records import StudyRecord
from nasseg.study.check_space import check_space
from nasseg.study.context import Context, identity, make_context
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.driver import Driver
from nasseg.study.driver.other_study import Reuse, front_points, reuse_of
from nasseg.study.engines.engine import OpenEngine, Setup
from nasseg.study.engines.open_engine import begin_engine
from nasseg.study.finish.remeasure import time_front_again
from nasseg.study.own_figures import try_figures
from nasseg.study.propose.ehvi_proposer import make_proposer
from nasseg.study.propose.graph_features import SpacePoints
from nasseg.study.propose.latency_screen import Screen
from nasseg.study.propose.proposer import Proposer
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.search.one_place import keep_latency_device, refuse_other_host
from nasseg.study.search.progress import Progress, ProgressWatch, Tally
from nasseg.study.search.published_points import keep_published
from nasseg.study.search.reference_time import keep_reference
from nasseg.study.search.settings import RunOptions, RunSettings, run_settings
from nasseg.study.store.read_study import latest_of, open_record, record_of
from nasseg.study.store.record import Record, now
from nasseg.study.store.storage import large, open_storage, storage_faults
from nasseg.study.store.weight_store import Keeper, WeightStore, weights_place
from nasseg.study.study_file import Study, sampler_name


@dataclass(frozen=True)
class Ended:
    """The end of a search. fault: the problem to fix before it can continue; empty if there is none."""

    record: StudyRecord
    reason: str
    interrupted: bool = False
    requeued: int = 0
    fault: str = ""


def run_study(
    study: Study,
    *,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    tell: Callable[[str], None] = lambda _line: None,
    **options: Unpack[RunOptions],
) -> Ended:
    """Run a study until its trials or hours are reached, resuming from its record.

    Ctrl-C, SIGTERM, and faults of the data or the disk stop it cleanly: running trials are re-queued. options: see
    nasseg.study.search.settings.RunOptions. tell: called with lines on what it waits for, on the session at the end, on
    checkpoints that are set aside, and on nodes that this study cannot use.

    Raises:
        UserError: the study cannot run here (data, device, sampler, storage), was begun with other settings, or its
            storage failed.
    """
    settings = run_settings(study, options)
    elsewhere = settings.engine == "ray"
    context, proposer = prepare(study, settings.data, settings.seed, elsewhere, settings.same_storage)
    if settings.runs is not None:
        context = replace(context, weights=weights_place(settings.runs, study.name))
    WeightStore(context.weights).check(elsewhere)
    reuse = _points_of_other_studies(study, settings, context, proposer)
    if size := large(settings.storage):
        tell(f"reading the record, {size / 1e6:.0f} MB")
    with storage_faults(settings.storage):
        record = _open(study, settings, context)
    steps: dict[int, int] = {}  # candidate -> training step
    setup = Setup(
        context=context,
        storage=settings.storage,
        workers=settings.workers,
        local_workers=study.file.workers,
        address=settings.address,
        resources=study.file.resources,
        on_step=lambda step: steps.update({step[0]: step[1]}),
        tell=tell,
        callbacks=settings.callbacks,
    )
    opened = begin_engine(settings.engine, setup)
    search = _Search(study, settings, context, proposer, reuse, record, opened, steps, on_progress, tell)
    with storage_faults(settings.storage), only(context.code), interrupts() as look:
        with closing(opened.engine):
            ended = search.run(look)
        if settings.time_again and settings.engine == "local" and not (ended.interrupted or ended.fault):
            try:
                time_front_again(record, look, tell)
            except KeyboardInterrupt:
                ended = replace(ended, interrupted=True)
        return replace(ended, record=latest_of(record))


def prepare(
    study: Study, data: Path | None, seed: int, elsewhere: bool = False, storage: str | None = None
) -> tuple[Context, Proposer]:
    """Return what a search needs, after all checks that are possible before it starts.

    elsewhere: jobs run on nodes, which check their devices themselves; this machine need not have the device. storage:
    of the study that starting weights may come from.

    Raises:
        UserError: the study cannot run here.
    """
    check_space(study.space)
    for name in study.file.published:
        make_arch(name)
    found = study.file.data if data is None else study.file.data.at(data)
    context = make_context(study, found, elsewhere, storage)
    try_figures(study, context)
    points = SpacePoints(study.space, study.objectives, study.limits, context.cost)
    sampler = make_sampler(*sampler_name(study.file.sampler), seed=seed, points=points)
    return context, make_proposer(study.space, study.objectives, sampler, seed, 1 + len(context.rungs))


def _points_of_other_studies(study: Study, settings: RunSettings, context: Context, proposer: Proposer) -> Reuse | None:
    """Queue the points of other studies to propose first; return the results that need no new training."""
    found = None
    if settings.reuse:
        found = reuse_of(open_record(settings.reuse, settings.same_storage), study.space, context)
        proposer.first.extend(found.points)
    if settings.start_from:
        proposer.first.extend(front_points(open_record(settings.start_from, settings.same_storage), study.space))
    return found


def _open(study: Study, settings: RunSettings, context: Context) -> Record:
    """Open or create the study in its storage, and write what its readers need."""
    storage = open_storage(settings.storage, create=True)
    objectives = {figure.name: figure.direction for figure in study.objectives}
    record = Record.create(storage, study.name, objectives, identity(study, context))
    refuse_other_host(record, settings.storage)
    record.set_attributes(
        {
            "study_file": study.text,
            "space_file": study.space.source,
            "question": study.file.question,
            "objectives": [[f.name, f.unit, f.direction] for f in study.objectives],
            "limits": study.limits,
            "command": settings.command,
            "environment": asdict(environment()),
            "price_per_hour": study.file.price_per_hour,
            **({"trained_on": list(context.trained_on)} if context.trained_on else {}),
            **({"weights": str(context.weights)} if settings.runs is not None else {}),
        }
    )
    if "created" not in record.attributes():
        record.set_attributes({"created": now()})
    return record


@dataclass(frozen=True)
class _Search:
    """A search with a running engine. steps: candidate -> training step, as reported by workers."""

    study: Study
    settings: RunSettings
    context: Context
    proposer: Proposer
    reuse: Reuse | None
    record: Record
    opened: OpenEngine
    steps: dict[int, int]
    on_progress: Callable[[Progress], None]
    tell: Callable[[str], None]

    def run(self, look: Callable[[], None]) -> Ended:
        """Search. look: raises KeyboardInterrupt once the user has asked to stop."""
        try:
            if any(figure.phase == "latency" for figure in self.study.figures.values()):
                keep_latency_device(self.record, self.opened.latency_device)
            reference_ms = keep_reference(self.record, self.context.latency, self.opened.engine, look, self.tell)
            keep_published(self.study, self.record, self.opened.engine, look, reference_ms)
        except KeyboardInterrupt:
            return Ended(record_of(self.record), "stopped", interrupted=True)
        tally = Tally([figure.name for figure in self.study.objectives], self.study.limits)
        driver = self._driver(tally, reference_ms)
        watch = ProgressWatch(driver, tally, self.steps)
        warnings: list[str] = []

        def show() -> None:
            progress = watch.look()
            self.on_progress(progress)
            if progress.doubts.most and not warnings:
                warnings.append(progress.doubts.line(self.study.name))
                self.tell(warnings[0])

        try:
            show()
            reason = driver.run(show, look)
            return Ended(record_of(self.record), reason)
        except KeyboardInterrupt:
            requeued = driver.stop("the search was stopped")
            return Ended(record_of(self.record), "stopped", interrupted=True, requeued=requeued)
        except UserError as error:
            requeued = driver.stop(str(error))
            return Ended(record_of(self.record), "stopped", requeued=requeued, fault=str(error))

    def _driver(self, tally: Tally, reference_ms: float | None) -> Driver:
        study, file = self.study, self.study.file
        budget = Budget(self.record, self.settings.trials, self.settings.hours, file.max_trial_minutes)
        directions: list[str] = [figure.direction for figure in study.objectives]
        keeper = Keeper(WeightStore(self.context.weights), file.keep, directions)
        screen = Screen(study.limits, self.context.latency, file.screen.after) if file.screen else None
        return Driver(
            study,
            self.record,
            self.opened.engine,
            self.context,
            self.proposer,
            budget,
            self.settings.seed,
            reuse=self.reuse,
            screen=screen,
            reference_ms=reference_ms,
            learners=[keeper.learn, tally.learn],
            say=self.tell,
        )
