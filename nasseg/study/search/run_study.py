"""Run a study: set it up in its storage, start workers, let the driver work, and hand back the record."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasseg.errors import UserError
from nasseg.families import make_arch, variants
from nasseg.measure.environment import environment
from nasseg.records import StudyRecord
from nasseg.signals import interrupts
from nasseg.study.check_space import check_space
from nasseg.study.context import Context, identity, make_context
from nasseg.study.engines.jobs import Engine
from nasseg.study.engines.open_engine import EngineName, begin_engine, timed
from nasseg.study.propose.latency_screen import Screen
from nasseg.study.propose.proposer import Proposer
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.search.budget import Budget
from nasseg.study.search.driver import Driver
from nasseg.study.search.one_place import keep_latency_device, refuse_other_host
from nasseg.study.search.other_study import front_points, reuse_of
from nasseg.study.search.progress import Progress, ProgressWatch
from nasseg.study.store.read_study import open_record, record_of
from nasseg.study.store.record import Record, now
from nasseg.study.store.storage import default_url, open_storage, redact, storage_faults
from nasseg.study.store.weight_store import Keeper, WeightStore, weights_place
from nasseg.study.study_file import Study, sampler_name


@dataclass(frozen=True)
class Ended:
    """How a search ended."""

    record: StudyRecord
    reason: str
    interrupted: bool = False
    requeued: int = 0
    fault: str = ""  # what must be mended before the search can go on


def run_study(
    study: Study,
    *,
    storage: str | None = None,
    trials: int | None = None,
    hours: float | None = None,
    workers: int | None = None,
    data: Path | None = None,
    seed: int | None = None,
    runs: str | None = None,
    reuse: str | None = None,
    start_from: str | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    tell: Callable[[str], None] = lambda _line: None,
    command: str = "",
) -> Ended:
    """Take a study to its number of trained trials, or of hours, going on where it stands.

    Ctrl-C and SIGTERM end it cleanly: what runs is re-queued; so does a fault of the data or the disk. What is not
    given is taken from the study file. reuse: another study, whose trained networks are tried first and not trained
    again where the accuracy protocol is equal. start_from: another study, whatever its protocols, whose front is tried
    first. engine, address: where jobs run, and of which Ray cluster (none: one is begun here); callbacks: Ray Tune's,
    of yours. runs: a path or an fsspec URL for the weights, below it by study; default: runs/STUDY here. tell: hears of
    nodes of a cluster that are of no use to this study.

    Raises:
        UserError: the study cannot run here (data, device, sampler, storage), was begun with other settings, or its
            storage failed.
    """
    seed = study.file.seed if seed is None else seed
    context, proposer = prepare(study, data, seed, elsewhere=engine == "ray")
    if runs is not None:
        context = replace(context, weights=weights_place(runs, study.name))
    store = WeightStore(context.weights)
    store.check()
    found = reuse_of(open_record(reuse, storage), study.space, context.accuracy) if reuse else None
    proposer.first.extend(found.points if found else ())
    if start_from:
        proposer.first.extend(front_points(open_record(start_from, storage), study.space))
    url = storage or default_url(study.name)
    opened = open_storage(url, create=True)
    record = Record.create(opened, study.name, [f.direction for f in study.objectives], identity(study, context))
    refuse_other_host(record, url)
    record.set_attributes(
        {
            "study_file": study.text,
            "space_file": study.space.source,
            "question": study.file.question,
            "objectives": [[f.name, f.unit, f.direction] for f in study.objectives],
            "limits": study.limits,
            "command": redact(command) or f"nasseg search {study.name}",
            "environment": vars(environment()),
            "price_per_hour": study.file.price_per_hour,
            **({"weights": str(context.weights)} if runs is not None else {}),
        }
    )
    stored = record.attributes()
    if "created" not in stored:
        record.set_attributes({"created": now()})

    steps: dict[int, int] = {}  # candidate -> training step
    opened_engine = begin_engine(
        engine, context, storage=url, workers=workers, local_workers=study.file.workers, address=address,
        resources=study.file.resources, on_step=lambda step: steps.update({step[0]: step[1]}), tell=tell,
        callbacks=callbacks,
    )  # fmt: skip
    with closing(opened_engine.engine), storage_faults(url), interrupts() as look:
        try:
            if any(figure.phase == "latency" for figure in study.figures.values()):
                keep_latency_device(record, opened_engine.latency_device)
            if {point["name"] for point in stored.get("published", [])} != _wanted(study):
                record.set_attributes({"published": _published(study, opened_engine.engine, look)})
        except KeyboardInterrupt:
            return Ended(record_of(record), "stopped", interrupted=True)
        budget = Budget(record, trials or study.file.trials, hours or study.file.hours, study.file.max_trial_minutes)
        driver = Driver(study, record, opened_engine.engine, context, proposer, budget, seed, found)
        driver.heard.add(Keeper(store, study.file.keep, [f.direction for f in study.objectives]).learn)
        if study.file.screen:
            driver.screen = Screen(study.limits, context.latency, study.file.screen.after)
            driver.heard.add(driver.screen.learn)
        watch = ProgressWatch(driver, steps)
        driver.on_change, driver.on_turn = lambda: on_progress(watch.look()), look
        try:
            driver.on_change()
            reason = driver.run()
            return Ended(record_of(record), reason)
        except KeyboardInterrupt:
            requeued = driver.stop("the search was stopped")
            return Ended(record_of(record), "stopped", interrupted=True, requeued=requeued)
        except UserError as error:
            requeued = driver.stop(str(error))
            return Ended(record_of(record), "stopped", requeued=requeued, fault=str(error))


def prepare(study: Study, data: Path | None, seed: int, elsewhere: bool = False) -> tuple[Context, Proposer]:
    """What a search works with, everything checked that can be before it starts.

    elsewhere: jobs run on nodes, which check whether they have the device; this machine need not have it.

    Raises:
        UserError: the study cannot run here.
    """
    check_space(study.space)
    sampler = make_sampler(*sampler_name(study.file.sampler), seed=seed)
    halving = study.file.halving
    proposer = Proposer(study.space, study.objectives, sampler, seed, 1 + len(halving.rungs) if halving else 1)
    for name in study.file.published:
        make_arch(name)
    return make_context(study, study.file.data if data is None else study.file.data.at(data), elsewhere), proposer


def _wanted(study: Study) -> set[str]:
    """The published networks to show beside a study's own."""
    return {*study.space.families, *study.file.published} & {*variants()}


def _published(study: Study, engine: Engine, look: Callable[[], None]) -> list[dict[str, Any]]:
    """Those networks under the study's protocols, kept with the study, so that reading it needs no torch.

    What cannot be measured is left out, and tried again when the search is called again.
    """
    chosen = [variant for variant in variants().values() if variant.name in _wanted(study)]
    archs = [make_arch(variant.name) for variant in chosen]
    points = []
    measured = timed(engine, ({"family": arch.family, **arch.params()} for arch in archs), look)
    for variant, found in zip(chosen, measured, strict=True):
        if found is None or found.cost is None or found.latency is None:
            continue
        figures = {name: getattr(found.cost, name) for name in ("params", "macs", "fvcore_flops", "field_of_view")}
        figures["latency_ms"] = found.latency.p50_ms
        points.append({"name": variant.name, "citation": variant.citation, "family": variant.family,
                       "params": variant.params, "figures": figures})  # fmt: skip
    return points
