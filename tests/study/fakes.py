"""A study whose jobs take no time: the driver and the record are real, what workers would measure is made up."""

from dataclasses import replace
from pathlib import Path

from nasseg.errors import Fault
from nasseg.files import parse_yaml
from nasseg.measure.environment import environment
from nasseg.records import (
    Accuracy,
    AccuracyProtocol,
    Cost,
    CostProtocol,
    Latency,
    LatencyProtocol,
    Measurement,
    digest,
)
from nasseg.study.context import Context, identity
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.driver import Driver
from nasseg.study.engines.jobs import TIMES, Result, Workshop
from nasseg.study.propose.ehvi_proposer import make_proposer
from nasseg.study.propose.graph_features import SpacePoints
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.store.record import Record
from nasseg.study.store.storage import open_storage
from nasseg.study.study_file import study_from

STUDY = """
question: Does the driver do its job?
expected: no time
space: {space}
data: {{name: scenes, size: [64, 128]}}
objectives: [miou, macs]
limits: {{macs: {{max: {max_macs}}}, latency_ms: {{max: 50}}}}
recipe: {{steps: 10}}
trials: 6
"""

COST = CostProtocol(input_size=(64, 128), num_classes=3)
LATENCY = LatencyProtocol(device="cpu", input_size=(64, 128), num_classes=3)
ACCURACY = AccuracyProtocol(data="scenes", data_fingerprint="f", recipe="r", recipe_hash="h", steps=10, seed=0)


def make_study(space="quickstart", max_macs="1.0e+12", name="fake", **replacements):
    text = STUDY.format(space=space, max_macs=max_macs)
    for key, value in replacements.items():
        text = "".join(line for line in text.splitlines(True) if not line.startswith(f"{key}:")) + f"{key}: {value}\n"
    return study_from(parse_yaml(text, Path("fake.yaml")), name)


def make_context(study):
    return Context(
        rungs=study.file.halving.steps(study.file.recipe, 10) if study.file.halving else (),
        data=study.file.data,
        recipe=study.file.recipe,
        latency=LATENCY,
        cost=COST,
        accuracy=ACCURACY,
        figures=(),
        folder=Path(),
        weights=Path(),
        device="cpu",
    )


class FakeEngine:
    """Jobs are done at once, in order. `spoil(job)` may return an error, or a fault and its reason, or raise as
    a killed driver would.

    Jobs for which `hang(job)` holds never end.
    """

    def __init__(self, workers=2, spoil=lambda job: None, hang=lambda job: False, macs=None, arch_id=None, miou=None):
        self.workers, self.spoil, self.hang, self.jobs, self.done = workers, spoil, hang, [], []
        self.miou = miou or (lambda job, macs: 100 * macs / (macs + 1e7))
        self.macs = macs or (lambda settings: 1_000 + int(digest(settings, 6), 16))
        self.arch_id = arch_id or (lambda settings: digest(settings))

    @property
    def idle(self):
        return self.workers - len(self.jobs)

    def submit(self, job):
        assert self.idle > 0
        self.jobs.append(job)

    def cancel(self, candidate):
        self.jobs = [job for job in self.jobs if job.candidate != candidate]

    def wait(self, timeout):
        job = next((job for job in self.jobs if not self.hang(job)), None)
        if job is None:
            return []
        self.jobs.remove(job)
        self.done.append(job)
        spoilt = self.spoil(job)
        if spoilt:
            fault, reason = (Fault.NETWORK, spoilt) if isinstance(spoilt, str) else spoilt
            return [Result(job.candidate, job.kind, fault=fault, reason=reason)]
        return [Result(job.candidate, job.kind, self.measure(job))]

    def measure(self, job):
        here, macs = environment(), self.macs(job.settings)
        if job.kind == "cost":
            cost = Cost(
                protocol=COST,
                environment=here,
                params=macs // 10,
                macs=macs,
                fvcore_flops=macs,
                activations=1,
                field_of_view=63,
            )
            return Measurement(arch_id=self.arch_id(job.settings), cost=cost)
        if job.kind in TIMES:
            ms = macs / 1e6
            latency = Latency(protocol=LATENCY, environment=here, p50_ms=ms, p90_ms=ms, p99_ms=ms, iqr_ms=0, n=9)
            if job.kind == "reference":
                return Measurement(arch_id="reference", latency=latency)
            return replace(job.measurement, latency=latency)
        accuracy = Accuracy(
            protocol=replace(ACCURACY, seed=job.seed, steps=job.until or 10),
            environment=here,
            miou=self.miou(job, macs),
            pixel_accuracy=50,
            class_iou={"road": 1.0, "car": None},
            train_seconds=0.1,
        )
        return replace(job.measurement, accuracy=accuracy)

    def waiting(self, candidate):
        return False

    def close(self):
        pass

    def trained(self):
        return [job for job in self.done if job.kind == "train"]


class InlineEngine(FakeEngine):
    """Jobs are really done, one after another in this process."""

    def __init__(self, context, workers, *_):
        super().__init__(workers)
        self.workshop = Workshop(context)

    def wait(self, timeout):
        job = self.jobs.pop(0)
        self.done.append(job)
        return [self.workshop.run(job)]


def search_here(patch, tmp_path):
    """Let searches work in this process, in a folder; without published networks and a last session, for time."""
    patch.chdir(tmp_path)
    patch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    patch.setattr("nasseg.study.engines.local_engine.LocalEngine", InlineEngine)
    search = "nasseg.study.search.run_study"
    patch.setattr(f"{search}.keep_published", lambda _study, record, *_: record.set_attributes({"published": []}))
    patch.setattr(f"{search}.time_front_again", lambda *_: None)


def make_driver(
    url,
    study=None,
    engine=None,
    trials=6,
    sampler="random",
    seed=0,
    learners=(),
    screen=None,
    reference_ms=None,
    **budget,
):
    study = study or make_study()
    context = make_context(study)
    record = Record.create(
        open_storage(url, create=True),
        study.name,
        {f.name: f.direction for f in study.objectives},
        identity(study, context),
    )
    points = SpacePoints(study.space, study.objectives, study.limits, COST)
    made = make_sampler(sampler, {}, seed, points)
    proposer = make_proposer(study.space, study.objectives, made, seed, 1 + len(context.rungs))
    return Driver(
        study,
        record,
        engine or FakeEngine(),
        context,
        proposer,
        Budget(record, trials, **budget),
        seed,
        screen=screen,
        reference_ms=reference_ms,
        learners=learners,
    )
