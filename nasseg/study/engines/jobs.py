"""A worker's work: one job of one architecture. Jobs and results are plain data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn

from nasseg.data.dataset import DataSet
from nasseg.errors import BrokenDeviceError, CrowdedDeviceError, Fault, MisfitError, UserError
from nasseg.families import Arch, arch_of
from nasseg.figures import Figure, Phase
from nasseg.measure.cost import measure_cost
from nasseg.measure.latency.attempts import measure_latency, patience_seconds
from nasseg.measure.latency.backends import Buildable
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.gpu import free_memory, on_gpu
from nasseg.measure.latency.in_turns import latency_by_part
from nasseg.measure.latency.reference import ReferenceArch
from nasseg.measure.latency.target import TargetUnreachable
from nasseg.own_code import only
from nasseg.records import Latency, Measurement, digest
from nasseg.redaction import redact
from nasseg.study.context import Context
from nasseg.study.own_figures import add_own
from nasseg.study.predictions import example_numbers, write_predictions
from nasseg.study.store.trial_attributes import DEVIATIONS, INIT, WEIGHTS_ERROR, WEIGHTS_SHA256
from nasseg.study.store.weight_store import CHECKPOINT, LAST, PREDICTIONS, WeightStore
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.session import Failed, about_the_network, failures, train_network
from nasseg.train.weights import save_weights

MAX_ATTEMPTS = 3  # attempts at a job whose worker dies
PART_ROUNDS = 5
Kind = Literal["cost", "latency", "train", "reference"]
TIMES: tuple[Kind, ...] = ("latency", "reference")  # jobs that have the device alone


@dataclass(frozen=True)
class Job:
    """A job on one candidate. `settings`: family and fields; `measurement`: everything known so far.

    A job of kind "reference" has no candidate: it times the reference network. `reference_ms`: that time, for other
    jobs. `until`: the step at which training stops, default: the recipe's last; training resumes from the checkpoint of
    the same key, if there is one. `recipe`: settings that replace those of the study's recipe.
    """

    candidate: int
    kind: Kind
    settings: dict[str, Any]
    measurement: Measurement | None = None
    key: str = ""  # eval_key, the folder of the weights
    seed: int = 0
    until: int | None = None
    reference_ms: float | None = None
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The end of a job: a measurement with one more part, or a fault with its reason in one line.

    With both, the measurement is kept nevertheless: weights could not be written, or a user's own figure failed. notes:
    sentences for the user.
    """

    candidate: int
    kind: Kind
    measurement: Measurement | None = None
    fault: Fault | None = None
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Workshop:
    """Do a worker's jobs, one at a time, in the worker's own process."""

    def __init__(
        self,
        context: Context,
        on_step: Callable[[int, int, float], None] = lambda _c, _s, _l: None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.context, self.on_step, self.tell = context, on_step, tell
        self.patience = patience_seconds()  # halved after each failed attempt
        self.lock = DeviceLock(context.device, tell)
        target = context.latency.command and f"target-{digest(context.latency.command)}"
        self.latency_lock = DeviceLock(target, tell) if target else self.lock

    @cached_property
    def data(self) -> DataSet:
        """The study's data, read now and compared with those that the study was begun with."""
        loaded, protocol = self.context.data.load(), self.context.accuracy
        loaded.require(protocol.data_fingerprint, self.context.data_files)
        loaded.read()
        return loaded

    def run(self, job: Job) -> Result:
        """Do a job. A failure of one candidate is its result, and never ends this process.

        A UserError is about something other than the candidate (data, files, code); a MisfitError is about this
        candidate. After the fault DEVICE this process must end. GPU memory is freed after each job.
        """
        result = self._result(job)
        if on_gpu(self.context.device) and result.fault is not Fault.DEVICE:
            try:
                with failures(), self.lock.computing():
                    free_memory(self.context.device)
            except (Failed, BrokenDeviceError) as error:
                return _fault(job, Fault.DEVICE, str(error))
        return result

    def _result(self, job: Job) -> Result:
        try:
            with failures(device=self.context.device), only(self.context.code):
                return getattr(self, f"_{job.kind}")(job)
        except Failed as error:
            return _fault(job, error.fault, str(error))
        except BrokenDeviceError as error:
            return _fault(job, Fault.DEVICE, str(error))
        except CrowdedDeviceError as error:
            return _fault(job, Fault.CROWDED, str(error))
        except MisfitError as error:
            return _fault(job, Fault.NETWORK, " ".join(str(error).split())[:300])
        except UserError as error:
            return _fault(job, Fault.SURROUNDINGS, str(error))
        except Exception as error:  # a candidate's failure is a result: it is recorded, and the search goes on
            return _fault(job, Fault.NETWORK, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _cost(self, job: Job) -> Result:
        protocol = self.context.cost
        with self.lock.computing(), about_the_network():
            arch = arch_of(job.settings)
            self.context.recipe.replaced(job.recipe)  # what it refuses is known before more is spent on the network
            cost = measure_cost(arch, protocol.input_size, protocol.num_classes)
            measurement = Measurement(arch_id=arch.id, cost=cost)
            model = arch.build_meta(protocol.num_classes) if self._own("cost") else None
            return self._done(job, measurement, "cost", model)

    def _latency(self, job: Job) -> Result:
        arch, before = _arch(job), _known(job)
        protocol = self.context.latency
        try:
            latency = self._time(arch, job.reference_ms, self.context.energy)
            if protocol.backend == "eager":
                parts = latency_by_part(arch, protocol, self.latency_lock.measuring, rounds=PART_ROUNDS)
                latency = replace(latency, parts_ms={name: ms / latency.drift for name, ms in parts.items()})
        except TargetUnreachable as error:
            return _fault(job, Fault.SURROUNDINGS, str(error))
        measurement = replace(before, latency=latency)
        if not self._own("latency"):
            return self._done(job, measurement, "latency", None)
        with self._alone():
            torch.manual_seed(job.seed)  # for the initial weights, which users' own figures see
            model = arch.build(self.context.latency.num_classes).eval()
            return self._done(job, measurement, "latency", model)

    def _reference(self, job: Job) -> Result:
        latency = self._time(ReferenceArch(), None, False)
        return Result(job.candidate, job.kind, Measurement(arch_id="reference", latency=latency))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the timed device alone; if the study's is another one, compute on it."""
        with self.latency_lock.measuring():
            if self.latency_lock is self.lock:
                yield
            else:
                with self.lock.computing():
                    yield

    def _time(self, arch: Buildable, reference_ms: float | None, energy: bool) -> Latency:
        exclusive, patience = self.latency_lock.measuring, self.patience
        found = measure_latency(
            arch,
            self.context.latency,
            exclusive,
            reference_ms=reference_ms,
            patience=patience,
            tell=self.tell,
            energy=energy,
        )
        self.patience = patience / 2 if found.disturbed else patience_seconds()
        return found

    def _train(self, job: Job) -> Result:
        context, before = self.context, _known(job)
        with self.lock.computing():
            data = self.data
        store, steps = WeightStore(context.weights), job.until or context.recipe.steps
        said: list[str] = []
        arch = _arch(job)
        with about_the_network():
            recipe = context.recipe.replaced(job.recipe)
        try:
            folder = store.folder(job.key)
            path, identity = folder / CHECKPOINT, {"eval_key": job.key}
            checkpoints = Checkpoints(path, identity, on_written=store.written, on_damaged=said.append)
            trained = train_network(
                arch,
                data,
                recipe,
                seed=job.seed,
                guard=self.lock.computing,
                device=context.device,
                on_step=lambda step, loss: self.on_step(job.candidate, step, loss),
                checkpoints=checkpoints,
                until=job.until,
                predict=() if job.until else example_numbers(len(data.val)),
                init_sha256=context.accuracy.init,
            )
        except OSError as error:
            what = f"cannot use {error.filename or context.weights}: {error.strerror or error}"
            return _fault(job, Fault.SURROUNDINGS, f"{what}; the last checkpoint is kept")
        deviations = recipe.deviations_on(context.cost.input_size, arch.input_scale)
        notes: dict[str, Any] = {DEVIATIONS: list(deviations)} if deviations else {}
        if trained.loaded:
            notes[INIT] = trained.loaded[:1]
        model = trained.model.eval()
        accuracy = trained.accuracy(replace(context.protocol_of(job.recipe, job.seed), steps=steps))
        with self.lock.computing():
            result = self._done(job, replace(before, accuracy=accuracy), "trained", model)
            model.to("cpu")  # weights are written from there
        result = replace(result, notes=tuple(said))
        if job.until:
            return replace(result, extra=notes)
        try:
            notes[WEIGHTS_SHA256] = save_weights(model, folder / LAST)
            store.written(folder / LAST)
            with self.lock.computing():
                write_predictions(folder / PREDICTIONS, data, trained.result.predicted)
            store.written(folder / PREDICTIONS)
            checkpoints.remove()
            store.remove(job.key, CHECKPOINT)
        except OSError as error:  # the measurement is kept
            why = redact(error.strerror or str(error))
            reason = redact(f"cannot keep weights in {context.weights}: {why}")
            return replace(result, fault=Fault.SURROUNDINGS, reason=reason, extra={**notes, WEIGHTS_ERROR: why})
        return replace(result, extra=notes)

    def _own(self, phase: Phase) -> list[Figure]:
        return [figure for figure in self.context.figures if figure.phase == phase]

    def _done(self, job: Job, measurement: Measurement, phase: Phase, model: nn.Module | None) -> Result:
        """Return the measurement with users' own figures of this phase."""
        known, why = add_own(self._own(phase), model, measurement, self.context.folder)
        return Result(job.candidate, job.kind, known, Fault.FIGURE if why else None, why)


def _arch(job: Job) -> Arch:
    with about_the_network():
        return arch_of(job.settings)


def _fault(job: Job, fault: Fault, reason: str) -> Result:
    return Result(job.candidate, job.kind, fault=fault, reason=redact(reason))


def _known(job: Job) -> Measurement:
    assert job.measurement is not None, "cost comes first"
    return job.measurement
