"""The steps of finishing: time networks again, then train and test them seed by seed, as trials of a sibling study."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.trials import outcome
from nasseg.data.dataset import DataSet
from nasseg.errors import Fault, UserError
from nasseg.families import arch_of
from nasseg.figures import USUAL, Figure, Phase, load_function, value_of
from nasseg.files import find_file
from nasseg.measure.latency.in_turns import Row
from nasseg.own_code import of_record
from nasseg.records import Accuracy, Latency, Measurement, StudyRecord, TrialRow, eval_key
from nasseg.study.context import Context
from nasseg.study.data_file import DataFile
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.finish.remeasure import keep_session
from nasseg.study.limits import in_doubt, over_limit
from nasseg.study.own_figures import add_own, try_on
from nasseg.study.recipe_parameters import settings_of
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.claims import Claims, Lost
from nasseg.study.store.read_study import record_of
from nasseg.study.store.record import Record
from nasseg.study.store.storage import runs_folder
from nasseg.study.store.trial_attributes import (
    ARCH_ID,
    BEST,
    BEST_SHA256,
    EVAL_KEY,
    HELD_OUT,
    MEASUREMENT,
    OF_TRIAL,
    PUBLISHED,
    REASON,
    SEED,
    WEIGHTS_SHA256,
    is_interrupted,
)
from nasseg.study.store.weight_store import WeightStore
from nasseg.train.loop import Guard
from nasseg.train.recipe import Recipe
from nasseg.train.run import HeldOut, Run, RunProgress, RunResult, Tell, train_one
from nasseg.train.session import Failed
from nasseg.words import counted


@dataclass
class Retraining:
    """Networks of a search (`members`), by default its front, and how each is finished.

    `run` may be called again: nothing is trained twice, but everything is timed again. It also trains networks of the
    front that an earlier call left half done.
    """

    searched: StudyRecord
    record: Record
    members: list[TrialRow]
    front: list[TrialRow]
    data: DataSet
    held_out: HeldOut | None
    recipe: Recipe
    device: str
    guard: Guard
    tell: Tell
    on_progress: Callable[[str, RunProgress], None]
    in_doubt: list[str] = field(default_factory=list)  # notes
    timed: dict[str, Latency] = field(default_factory=dict)  # by this call, by arch_id

    def run(self, seeds: int) -> list[str]:
        """Time all, then train what is not trained yet; return notes on what was not trained."""
        with of_record(self.searched.own_code):
            return self._work(seeds)

    def _work(self, seeds: int) -> list[str]:
        self._try_figures()
        timed = {member.number: self._time(member) for member in self.members}
        self._keep_later()
        if kept := sum(measurement is not None for measurement in timed.values()):
            self.tell(
                f"{counted(kept, 'network')} x {counted(seeds, 'seed')}: {counted(kept * seeds, 'training')} of "
                f"{self.recipe.steps:,} steps, less those that are done"
            )
        for waiting in self.claims.waiting():
            self._train(waiting)
        for seed in range(seeds):
            for member in self.members:
                measurement = timed[member.number]
                if measurement is not None:
                    self._begin(member, measurement, seed)
        for waiting in self.claims.left_behind(self.tell):
            self._train(waiting)
        return self._notes()

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.record)

    def _try_figures(self) -> None:
        """Try the search's own figures on the smallest network before any expensive work."""
        context = self.workshop.context
        if context.figures:
            costs = {value_of("macs", one.measurement): one for one in self.members if one.measurement}
            smallest = costs[min(macs for macs in costs if macs is not None)]
            try_on(arch_of(smallest.arch or {}), context, self.data.classes, self.searched.name)

    def _time(self, member: TrialRow) -> Measurement | None:
        """Time a network; return None if it is now over a limit, or may be."""
        assert member.measurement is not None
        assert member.arch is not None
        before = replace(member.measurement, accuracy=None)
        if before.latency is None:
            return before
        done = self.workshop.run(Job(0, "latency", member.arch, before, reference_ms=before.latency.reference_ms))
        if done.measurement is None or done.fault:
            raise UserError(f"cannot time trial {member.number} again: {done.reason}")
        latency, broken = done.measurement.latency, over_limit(self.searched.limits, done.measurement)
        assert latency is not None
        self.tell(f"trial {member.number}: {latency.p50_ms:.3g} ms, was {before.latency.p50_ms:.3g} ms in the search")
        self.timed[before.arch_id] = latency
        if in_doubt(self.searched.limits, done.measurement):
            known = self._known(before.arch_id)
            if known is None:
                self.in_doubt.append(
                    f"trial {member.number} was not trained: {broken}, but it was timed beside other work; run the "
                    "same command again when the machine is quiet"
                )
            return known
        if broken and not any(trial.user_attrs.get(ARCH_ID) == before.arch_id for trial in self.record.trials()):
            candidate = self._candidate(member, done.measurement, 0)
            self.record.add_rejected(candidate, f"{broken}, timed again", {}, self._figures(done.measurement))
        return None if broken else done.measurement

    def _known(self, arch_id: str) -> Measurement | None:
        """Return an earlier call's undisturbed measurement of a network within the limits."""
        for trial in self.record.trials():
            if trial.user_attrs.get(ARCH_ID) == arch_id and MEASUREMENT in trial.user_attrs:
                known = replace(Measurement.from_json(trial.user_attrs[MEASUREMENT]), accuracy=None)
                if not over_limit(self.searched.limits, known):
                    return known
        return None

    def _keep_later(self) -> None:
        """Keep the new latencies of networks trained by an earlier call, so that readers of this study find them."""
        finished = record_of(self.record)
        done = {
            trial.measurement.arch_id: trial
            for trial in finished.trials
            if outcome(trial) == "finished" and trial.measurement and trial.measurement.arch_id in self.timed
        }
        if done:
            rows = [Row(arch_id, (self.timed[arch_id],), (1.0,)) for arch_id in done]
            everywhere = {trial.number for trial in done.values()}
            command = f"nasseg finish {self.searched.name}"
            keep_session(self.record, finished, list(done.values()), rows, everywhere, command)

    @cached_property
    def workshop(self) -> Workshop:
        first = self.members[0].measurement
        assert first is not None
        assert first.latency is not None
        assert first.cost is not None
        assert first.accuracy is not None
        context = Context(
            data=DataFile(name=self.data.name),
            recipe=self.recipe,
            latency=first.latency.protocol,
            cost=first.cost.protocol,
            accuracy=first.accuracy.protocol,
            figures=self._own_figures(first),
            folder=self.folder,
            weights=runs_folder(self.record.name),
            device=self.device,
            code=self.searched.own_code,
        )
        return Workshop(context, tell=self.tell)

    def _begin(self, member: TrialRow, measurement: Measurement, seed: int) -> None:
        """Claim and train a network with a seed, unless this is done, under way, or known to diverge."""
        key = self._key(member, seed)
        claimed = self.claims.claim(
            self._candidate(member, measurement, seed),
            key,
            self._figures(measurement),
            lambda trial: trial.user_attrs.get(EVAL_KEY) == key,
        )
        if claimed is not None:
            self.record.update(claimed, {OF_TRIAL: member.number})
            self._train(self.record.reread(claimed))

    def _train(self, trial: FrozenTrial) -> None:
        """Train, test and record our trial."""
        attributes = trial.user_attrs
        member = next((m for m in [*self.members, *self.front] if m.number == attributes.get(OF_TRIAL)), None)
        if member is None:
            self.record.fail(trial, "its network is no longer on the front")
            return
        name = f"trial {member.number} of {self.searched.name} ({(member.arch or {}).get('family')})"
        folder = WeightStore(runs_folder(self.record.name)).folder(attributes[EVAL_KEY])
        run = self._run(member, attributes[SEED], folder)
        self.tell(f"{name}, seed {run.seed}: {run.folder}")
        try:
            result = train_one(
                run,
                guard=self.claims.guard(trial, self.guard),
                tell=self.tell,
                on_progress=lambda progress: self.on_progress(name, progress),
            )
            self._complete(trial, run, result, Measurement.from_json(attributes[MEASUREMENT]))
        except Lost:
            self.tell(f"{name}, seed {run.seed}: another process took it over")
        except Failed as error:
            self.record.fail(trial, str(error), error.fault)
        except (KeyboardInterrupt, UserError) as error:  # the same fault would stop the others, too
            self.record.requeue(trial, str(error) or "finishing was stopped")
            raise

    def _run(self, member: TrialRow, seed: int, folder: Path) -> Run:
        assert member.arch is not None
        return Run(
            arch=arch_of(member.arch),
            data=self.data,
            recipe=recipe_of_trial(self.searched, member, self.recipe),
            seed=seed,
            folder=folder,
            family=str(member.arch["family"]),
            code=self.searched.own_code,
            label=self.recipe.name or self.record.name,
            held_out=self.held_out,
            device=self.device,
        )

    def _key(self, member: TrialRow, seed: int) -> str:
        """Return the key of a network and seed. It also names the weights' folder, beside those of the search."""
        assert member.measurement is not None
        protocol = self._run(member, seed, Path()).protocol
        return f"{self.record.name.partition('@')[2]}-{eval_key(member.measurement.arch_id, protocol)}"

    def _complete(self, trial: FrozenTrial, run: Run, result: RunResult, before: Measurement) -> None:
        measurement, why = replace(before, accuracy=result.last), ""
        if own := self._own_figures(measurement, "trained"):
            model = run.arch.build(self.data.num_classes).eval()
            model.load_state_dict(torch.load(run.folder / "last.pt", map_location="cpu", weights_only=True))
            with self.guard():
                measurement, why = add_own(own, model, measurement, self.folder)
        values = [value_of(objective.name, measurement) for objective in self.searched.objectives]
        known = [value for value in values if value is not None and math.isfinite(value)]
        attributes = {
            **self._figures(measurement),
            MEASUREMENT: measurement.to_json(),
            WEIGHTS_SHA256: result.weights["last.pt"],
            BEST_SHA256: result.weights["best.pt"],
            **_flat(BEST, result.best),
            "best_step": result.best.protocol.steps,
            **(_flat(HELD_OUT, result.held_out) if result.held_out else {}),
        }
        if why or len(known) < len(values):
            self.record.update(trial, attributes)
            self.record.fail(trial, why or "an objective is not a number", Fault.FIGURE if why else Fault.NETWORK)
            return
        self.record.complete(trial, known, attributes)

    def _notes(self) -> list[str]:
        found, trials = list(self.in_doubt), self.record.trials()
        trained = {trial.user_attrs.get(ARCH_ID) for trial in trials if trial.state == TrialState.COMPLETE}
        for trial in trials:
            of, seed = trial.user_attrs.get(OF_TRIAL), trial.user_attrs.get(SEED)
            reason = str(trial.user_attrs.get(REASON, ""))
            if trial.state == TrialState.PRUNED and trial.user_attrs.get(ARCH_ID) not in trained:
                found.append(f"a network was not trained: {reason}")
            elif trial.state == TrialState.FAIL and not is_interrupted(trial):
                found.append(f"trial {of}, seed {seed}, failed: {reason}")
            elif trial.state == TrialState.RUNNING:
                found.append(f"trial {of}, seed {seed}, is being trained by another process")
        return found

    # The attributes of a network

    def _candidate(self, member: TrialRow, measurement: Measurement, seed: int) -> Candidate:
        assert member.arch is not None
        label = str(member.extra.get(PUBLISHED, ""))
        proposal, training = Proposal({}, {}, {}), dict(member.training)
        return Candidate(proposal, dict(member.arch), measurement, seed, label, training=training)

    def _figures(self, measurement: Measurement) -> dict[str, float]:
        names = {*USUAL, *(objective.name for objective in self.searched.objectives), *self.searched.limits}
        found = {name: value_of(name, measurement) for name in sorted(names)}
        return {name: value for name, value in found.items() if value is not None}

    def _own_figures(self, measurement: Measurement, phase: Phase | None = None) -> tuple[Figure, ...]:
        """Return users' own figures recorded by the search; their code must be unchanged.

        Raises:
            UserError: it was changed.
        """
        found = []
        for name, entry in measurement.custom.items():
            if phase is None or entry["phase"] == phase:
                load_function(entry["source"], self.folder)
                found.append(Figure(name, entry["unit"], "minimize", entry["phase"], entry["source"]))
        return tuple(found)

    @cached_property
    def folder(self) -> Path:
        """The base folder of users' code: the study file's, if it still exists."""
        try:
            return find_file("studies", self.searched.name).parent.resolve()
        except UserError:
            return Path.cwd()


def recipe_of_trial(searched: StudyRecord, member: TrialRow, recipe: Recipe) -> Recipe:
    """Return a recipe with the settings in which a trial's training differed.

    Raises:
        UserError: the recipe refuses them.
    """
    try:
        return recipe.replaced(settings_of(searched.extra["space_file"], member.training))
    except UserError as error:
        raise UserError(f"trial {member.number} of {searched.name}: {error}") from None


def _flat(name: str, accuracy: Accuracy) -> dict[str, str | float]:
    """Return an accuracy as attributes: all of it as JSON, and its mIoU to sort by (`test_miou` for `held_out`)."""
    short = "test" if name == HELD_OUT else name
    return {name: json.dumps(asdict(accuracy)), f"{short}_miou": accuracy.miou}
