"""Preview a search: the candidates it would draw, the share that keeps the limits, and the time it would take.

Stores nothing. It measures costs and latencies, and a few training steps of three networks.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from nasseg.analyse.early_figures import ENOUGH
from nasseg.families import Arch, arch_of, make_arch
from nasseg.records import Measurement, Size
from nasseg.study.context import Context
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.limits import Rules
from nasseg.study.search.reference_time import reference_ms
from nasseg.study.search.run_study import prepare
from nasseg.study.search.smaller_images import fitting_size
from nasseg.study.store.read_study import find_record
from nasseg.study.store.trial_attributes import PUBLISHED, counts
from nasseg.study.study_file import Study
from nasseg.train.loop import train
from nasseg.words import counted, duration

DRAWN, TIMED, TRAINED = 100, 6, 3
STEPS = (2, 8)


@dataclass(frozen=True)
class Sample:
    """A candidate that a search would draw; `verdict` is empty if it keeps the limits checked so far.

    recipe: the settings that replace those of the study's recipe.
    """

    settings: dict[str, Any]
    measurement: Measurement | None
    verdict: str
    seconds: float
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """A forecast of a search. Seconds of a trial are those of one worker with no other work.

    share: the average part of a full training that a network takes, if halving promotes as many as it may. keep: which
    networks' weights are kept.
    """

    samples: tuple[Sample, ...]
    timed: tuple[Sample, ...]  # the samples whose latency was measured
    trial_seconds: tuple[float, ...]  # latency and training of a few networks
    published_seconds: tuple[float, ...]  # the same for published networks that the study still lacks
    trials_left: int
    workers: int
    hours: float | None
    share: float
    keep: str
    latency_limit: float | None = None  # ms
    fits: tuple[Size, float] | None = None  # a smaller size at which the fastest network keeps the limit, and its ms

    @property
    def passing(self) -> int:
        return sum(not sample.verdict for sample in self.samples)

    @property
    def timed_passing(self) -> int:
        return sum(not sample.verdict for sample in self.timed)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share of candidates that keep the limits on cost."""
        found = binomtest(self.passing, len(self.samples)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    @property
    def seconds(self) -> float | None:
        """An estimate for all trials left; None if no drawn network would be trained."""
        if not self.trial_seconds or not self.timed_passing:
            return None
        share = self.timed_passing / len(self.timed)  # share of the timed ones that would be trained
        costing = sum(sample.seconds for sample in self.samples) / self.passing / share
        timing = sum(sample.seconds for sample in self.timed) / self.timed_passing
        training = self.share * sum(self.trial_seconds) / len(self.trial_seconds)
        return (self.trials_left * (costing + timing + training) + sum(self.published_seconds)) / self.workers

    def _disk(self) -> str:
        """Estimate the disk space of weights, 4 bytes each; a checkpoint takes three times that."""
        sizes = [4 * s.measurement.cost.params for s in self.samples if s.measurement and s.measurement.cost]
        mean = sum(sizes) / len(sizes) / 2**20
        waiting = f", {3 * mean * self.trials_left:,.0f} MiB of networks stopped at rungs" if self.share < 1 else ""
        whose = {"front": "at most, if all were on the front, ", "all": "", "none": "while they train, "}[self.keep]
        return f"weights on disk (keep: {self.keep}): {whose}{mean * self.trials_left:,.0f} MiB{waiting}"

    def _sizes(self) -> list[str]:
        """Describe the image size that would keep the limit on latency, if it was searched for."""
        if self.latency_limit is None:
            return []
        if self.fits is None:
            return [f"no size down to an eighth keeps {self.latency_limit:g} ms: narrow the space to smaller networks"]
        (height, width), ms = self.fits
        return [
            f"on images of {height} x {width} the fastest of them takes {ms:.3g} ms, within the limit of "
            f"{self.latency_limit:g} ms: set `size: [{height}, {width}]` under `data` in the study file"
        ]

    def lines(self) -> list[str]:
        """Return the findings as sentences."""
        low, high = self.interval
        found = [
            f"{self.passing} of {len(self.samples)} candidates keep the limits on cost "
            f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
        ]
        if self.timed:
            found.append(f"{self.timed_passing} of {len(self.timed)} timed ones keep those on latency")
        reasons = Counter(sample.verdict for sample in [*self.samples, *self.timed] if sample.verdict)
        found += [f"{count} x {reason}" for reason, count in reasons.most_common()]
        if self.seconds is None:
            found.append("no drawn candidate would be trained: loosen a limit, or narrow the space")
            found += self._sizes()
        else:
            published = f" and {n} published" if (n := len(self.published_seconds)) else ""
            fastest, slowest = duration(min(self.trial_seconds)), duration(max(self.trial_seconds))
            found.append(
                f"{self.trials_left} trials to go{published}: about {duration(self.seconds)} with "
                f"{counted(self.workers, 'worker')}, if each has its own core (training takes {fastest} to {slowest} "
                "per trial)"
            )
            found.append(self._disk())
            if self.hours is not None and self.seconds > self.hours * 3600:
                found.append(f"the budget of {self.hours:g} hours ends the search before that")
        return found


def preview(
    study: Study,
    *,
    storage: str | None = None,
    trials: int | None = None,
    hours: float | None = None,
    workers: int | None = None,
    data: Path | None = None,
    seed: int | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Preview:
    """Draw, cost and time candidates, and train a little. Defaults come from the study file.

    A study with a record continues from it, without changing it. If no timed network keeps the limit on latency,
    smaller images are tried with the fastest one. tell: called with each step.

    Raises:
        UserError: the study could not run here.
    """
    seed = study.file.seed if seed is None else seed
    context, proposer = prepare(study, data, seed, storage=storage)
    total = trials or study.file.trials
    record = find_record(study.name, storage)
    trials_there = record.trials() if record else []
    for trial in trials_there:
        proposer.learn(trial)
        total -= counts(trial)
    rules, workshop = Rules(study), Workshop(context, tell=tell)
    samples: list[Sample] = []
    tell(f"drawing and costing {DRAWN} candidates")
    while len(samples) < DRAWN and (proposal := proposer.propose()):
        recipe = study.space.recipe_settings(study.space.training_of(proposal.params))
        job = Job(0, "cost", study.space.settings(proposal.params), recipe=recipe)
        samples.append(_measured(job, workshop, rules))
    reference = reference_ms(record.attributes()) if record else None
    passing = sorted((s for s in samples if not s.verdict and s.measurement), key=_macs)
    timed: list[Sample] = []
    for s in (chosen := _spread(passing, TIMED)):
        tell(f"timing {len(timed) + 1} of {len(chosen)} that keep the limits on cost")
        job = Job(0, "latency", s.settings, s.measurement, seed=seed, reference_ms=reference, recipe=s.recipe)
        timed.append(_measured(job, workshop, rules))
    trained = _spread([sample for sample in timed if not sample.verdict], TRAINED) if total > 0 else []
    limit = study.limits.get("latency_ms", {}).get("max")
    unmet = limit is not None and bool(timed) and all(sample.verdict for sample in timed)
    fits = None
    if limit is not None and unmet:
        fits = fitting_size(arch_of(min(timed, key=_latency_ms).settings), limit, workshop, tell)
    missing = {*study.file.published} - {trial.user_attrs.get(PUBLISHED) for trial in trials_there}
    to_train = [(arch_of(one.settings), one.recipe) for one in trained]
    to_train += [(make_arch(name), {}) for name in sorted(missing)]
    seconds: list[float] = []
    for arch, settings in to_train:
        tell(f"training {len(seconds) + 1} of {len(to_train)} for a few steps")
        seconds.append(_training_seconds(arch, settings, workshop, seed))
    return Preview(
        samples=tuple(samples),
        timed=tuple(timed),
        trial_seconds=tuple(seconds[: len(trained)]),
        published_seconds=tuple(seconds[len(trained) :]),
        trials_left=max(0, total),
        workers=workers or study.file.workers,
        hours=hours or study.file.hours,
        share=training_share(study, context),
        keep=study.file.keep,
        latency_limit=limit if unmet else None,
        fits=fits,
    )


def training_share(study: Study, context: Context) -> float:
    """Return the average part of a full training that a network takes, if halving promotes as many as it may."""
    halving = study.file.halving
    if halving is None:
        return 1.0
    steps, factor = [0, *context.rungs, context.recipe.steps], halving.factor
    ranked = sum((b - a) / factor**rung for rung, (a, b) in enumerate(pairwise(steps))) / context.recipe.steps
    if not halving.straight:
        return ranked
    first = min(ENOUGH, study.file.trials)  # all are trained to the end until it is known how well rungs rank
    later = ranked / (1 - halving.straight + halving.straight * ranked)  # shares of compute, not of networks
    return (first + (study.file.trials - first) * later) / study.file.trials


def _measured(job: Job, workshop: Workshop, rules: Rules) -> Sample:
    begun = time.monotonic()
    result = workshop.run(job)
    seconds = time.monotonic() - begun
    if result.measurement is None:
        return Sample(job.settings, None, result.reason, seconds, job.recipe)
    settings = {"family": job.settings["family"], **arch_of(job.settings).params()}
    broken = rules.over_limit(result.measurement, "cost" if job.kind == "cost" else "latency")
    return Sample(settings, result.measurement, broken or "", seconds, job.recipe)


def _macs(sample: Sample) -> int:
    assert sample.measurement is not None
    assert sample.measurement.cost is not None
    return sample.measurement.cost.macs


def _latency_ms(sample: Sample) -> float:
    latency = sample.measurement.latency if sample.measurement else None
    return latency.p50_ms if latency else math.inf


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    """Return at most `count` samples, evenly over their order."""
    count = min(count, len(samples))
    return [samples[(2 * place + 1) * len(samples) // (2 * count)] for place in range(count)]


def _training_seconds(arch: Arch, settings: dict[str, Any], workshop: Workshop, seed: int) -> float:
    """Return the seconds to train and evaluate, extrapolated to the recipe's steps from two short trainings.

    Waits for other processes that measure on the device do not count: there is no telling how many a search will meet.
    settings: replace those of the study's recipe.
    """
    context, data, times, waited = workshop.context, workshop.data, list[float](), 0.0

    @contextmanager
    def computing() -> Iterator[None]:
        nonlocal waited
        asked = time.monotonic()
        with workshop.lock.computing():
            waited += time.monotonic() - asked
            yield

    data.read()  # before timing begins
    for steps in (1, *STEPS):  # the first run warms up
        model = arch.build(context.cost.num_classes)
        recipe = context.recipe.replaced(settings).model_copy(update={"steps": steps, "warmup_steps": 0})
        begun, waited = time.monotonic(), 0.0
        train(model, data, recipe, seed=seed, device=context.device, guard=computing)
        times.append(time.monotonic() - begun - waited)
    a_step = max(0.0, (times[2] - times[1]) / (STEPS[1] - STEPS[0]))
    return times[1] + a_step * (context.recipe.steps - STEPS[0])
