"""Run a study: set it up in its storage, start workers, let the driver work, and hand back the record."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from nasseg.errors import UserError
from nasseg.families import make_arch, variants
from nasseg.figures import find_figure, load_function
from nasseg.files import load_attribute
from nasseg.measure.environment import environment
from nasseg.measure.latency.backends import check_protocol
from nasseg.records import AccuracyProtocol, CostProtocol, StudyRecord, digest
from nasseg.study.check_space import check_space
from nasseg.study.data_file import DataFile
from nasseg.study.engines.jobs import Context, Engine
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
from nasseg.study.store.storage import default_url, open_storage, redact, runs_folder
from nasseg.study.store.weight_store import Keeper, WeightStore, weights_place
from nasseg.study.study_file import Study, sampler_name
from nasseg.train.weights import weights_hash


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
    with closing(opened_engine.engine), _storage_faults(url):
        try:
            with _sigterm_as_interrupt():
                if any(figure.phase == "latency" for figure in study.figures.values()):
                    keep_latency_device(record, opened_engine.latency_device)
                if {point["name"] for point in stored.get("published", [])} != _wanted(study):
                    record.set_attributes({"published": _published(study, opened_engine.engine)})
        except KeyboardInterrupt:
            return Ended(record_of(record), "stopped", interrupted=True)
        budget = Budget(record, trials or study.file.trials, hours or study.file.hours, study.file.max_trial_minutes)
        driver = Driver(study, record, opened_engine.engine, context, proposer, budget, seed, found)
        driver.heard.add(Keeper(store, study.file.keep, [f.direction for f in study.objectives]).learn)
        if study.file.screen:
            driver.screen = Screen(study.limits, context.latency, study.file.screen.after)
            driver.heard.add(driver.screen.learn)
        watch = ProgressWatch(driver, steps)
        driver.on_change = lambda: on_progress(watch.look())
        try:
            with _stops_between_turns() as driver.on_turn:
                driver.on_change()
                reason = driver.run()
            return Ended(record_of(record), reason)
        except KeyboardInterrupt:
            requeued = driver.stop("the search was stopped")
            return Ended(record_of(record), "stopped", interrupted=True, requeued=requeued)
        except UserError as error:
            requeued = driver.stop(str(error))
            return Ended(record_of(record), "stopped", requeued=requeued, fault=str(error))


@contextmanager
def _storage_faults(url: str) -> Iterator[None]:
    """Raises:
    UserError: the storage failed.
    """
    try:
        yield
    except BrokenPipeError:  # of who reads our output
        raise
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        reason = redact(str(error.__cause__ or error).splitlines()[0])
        raise UserError(
            f"storage {redact(url)} failed: {reason}; what it holds is kept: mend it and run the same command again"
        ) from None


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


def make_context(study: Study, data: DataFile, elsewhere: bool = False) -> Context:
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
    if not elsewhere:
        check_protocol(latency)
    return Context(
        data=data,
        recipe=recipe,
        latency=latency,
        cost=CostProtocol(input_size=size, num_classes=loaded.num_classes),
        rungs=study.file.halving.steps(recipe, len(loaded.train)) if study.file.halving else (),
        accuracy=AccuracyProtocol(
            data=loaded.name, data_fingerprint=loaded.fingerprint, recipe=recipe.name or study.name,
            recipe_hash=recipe.hash,
            steps=recipe.steps, seed=0, init=weights_hash(recipe.init) if recipe.init else "",
        ),
        figures=tuple(figure for figure in study.figures.values() if figure.source),
        folder=study.folder.resolve(),
        weights=runs_folder(study.name).resolve(),
        device=study.file.latency.device,
    )  # fmt: skip


def identity(study: Study, context: Context) -> dict[str, Any]:
    """What may not change under a study's name. Limit values, comments and run settings may."""
    space = study.space
    code = {f.name: load_function(f.source, study.folder)[1] for f in study.figures.values() if f.source}
    parts = (space.parameters[name].values for name in ("family", "encoder", "decoder") if name in space.parameters)
    code |= {str(part): load_attribute(str(part))[1] for values in parts for part in values if ":" in str(part)}
    return {
        "space": f"{space.name} {digest([repr(space.parameters), repr(space.templates), repr(space.forbid)])}",
        "objectives": [[figure.name, figure.direction] for figure in study.objectives],
        "limits": sorted(study.limits),
        "cost protocol": _plain(context.cost),
        "latency protocol": _plain(context.latency),
        "accuracy protocol": _plain(replace(context.accuracy, recipe="", seed=0)),
        "recipe": study.file.recipe.model_dump(mode="json"),
        "own code": code,
        **({"rungs": list(context.rungs)} if context.rungs else {}),
    }


def _plain(value: Any) -> dict[str, Any]:
    return {name: list(item) if isinstance(item, tuple) else item for name, item in vars(value).items()}


def _wanted(study: Study) -> set[str]:
    """The published networks to show beside a study's own."""
    return {*study.space.families, *study.file.published} & {*variants()}


def _published(study: Study, engine: Engine) -> list[dict[str, Any]]:
    """Those networks under the study's protocols, kept with the study, so that reading it needs no torch.

    What cannot be measured is left out, and tried again when the search is called again.
    """
    chosen = [variant for variant in variants().values() if variant.name in _wanted(study)]
    archs = [make_arch(variant.name) for variant in chosen]
    points = []
    for variant, found in zip(chosen, timed(engine, ({"family": a.family, **a.params()} for a in archs)), strict=True):
        if found is None or found.cost is None or found.latency is None:
            continue
        figures = {name: getattr(found.cost, name) for name in ("params", "macs", "fvcore_flops", "field_of_view")}
        figures["latency_ms"] = found.latency.p50_ms
        points.append({"name": variant.name, "citation": variant.citation, "family": variant.family,
                       "params": variant.params, "figures": figures})  # fmt: skip
    return points


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


@contextmanager
def _stops_between_turns() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt where the driver calls what is given here; a second one at once.

    In the midst of a transaction an interrupt can leave a connection behind that keeps a database locked.
    """
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def look() -> None:
        if asked:
            raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as of what a shell runs in the background
                before[number] = signal.signal(number, ask)
    except ValueError:  # no main thread: signals are the caller's
        pass
    try:
        yield look
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
