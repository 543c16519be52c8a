"""Known networks: results for a candidate that are already in the record, by eval_key.

If a space also sets fields of the recipe, latencies of networks are known by arch_id.
"""

from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nasseg.records import Measurement
from nasseg.study.limits import Rules
from nasseg.study.store.candidate import Candidate
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import (
    EVAL_KEY,
    MEASUREMENT,
    REASON,
    REUSED_FROM,
    RUNG,
    STOPPED,
    is_stopped,
    kept,
    measurement_of,
)


@dataclass(frozen=True)
class _Answer:
    """The end of a trial whose network was trained before. values: None if the trial is PRUNED."""

    known: Measurement
    values: list[float] | None
    constraints: dict[str, float]
    attributes: dict[str, Any]


class KnownNetworks:
    """The trials that were trained, to a rung or to the end, by eval_key.

    share_latencies: several trials may have the same network under different trainings.
    """

    def __init__(self, record: Record, rules: Rules, share_latencies: bool = False) -> None:
        self._record, self._rules, self._share = record, rules, share_latencies
        self._trained: dict[str, FrozenTrial] = {}
        self._timed: dict[str, Measurement] = {}  # by arch_id

    def share(self, measurement: Measurement) -> bool:
        """Keep a measured latency; return whether it is new. A doubtful one replaces none."""
        known, latency = self._timed.get(measurement.arch_id), measurement.latency
        if not self._share or latency is None or (known is not None and (latency.disturbed or not _doubtful(known))):
            return False
        self._timed[measurement.arch_id] = measurement
        return True

    def timed(self, measurement: Measurement) -> Measurement | None:
        """Return a measurement with the known latency of its network; None if there is none."""
        known = self._timed.get(measurement.arch_id)
        if known is None:
            return None
        own = {name: entry for name, entry in known.custom.items() if entry["phase"] == "latency"}
        return replace(measurement, latency=known.latency, custom={**own, **measurement.custom})

    def learn(self, trial: FrozenTrial) -> None:
        """Take in a trial that ended."""
        if self._share and (found := measurement_of(trial)):
            self.share(found)
        key = trial.user_attrs.get(EVAL_KEY)
        if not key or REUSED_FROM in trial.user_attrs or (key in self._trained and _is_whole(self._trained[key])):
            return
        if is_stopped(trial) or _is_whole(trial):
            self._trained[key] = trial

    def answer(self, candidate: Candidate, key: str) -> FrozenTrial | None:
        """Add a trial with the figures of an earlier one of its network; return it, or None if there is none."""
        found = self._answer(candidate.label, key)
        if found is None:
            return None
        figures = self._rules.figures(found.known)
        candidate = replace(candidate, measurement=found.known)
        return self._record.add_reused(candidate, found.values, found.constraints, figures, found.attributes)

    def copy(self, trial: FrozenTrial, label: str, key: str) -> bool:
        """End our running trial with the figures of an earlier one of its network, if there is one."""
        found = self._answer(label, key)
        if found is None:
            return False
        attributes = {**found.attributes, **self._rules.figures(found.known), **kept(found.known)}
        if found.values is None:
            self._record.prune(trial, attributes[REASON], attributes)
        else:
            self._record.complete(trial, found.values, attributes)
        return True

    def _answer(self, label: str, key: str) -> _Answer | None:
        """Answer by the current limits. Published networks are exempt, but need a training to the end."""
        twin = self._trained.get(key)
        if twin is None or (label and is_stopped(twin)):
            return None
        known = Measurement.from_json(twin.user_attrs[MEASUREMENT])
        constraints, attributes = self._rules.constraints(known), {EVAL_KEY: key, REUSED_FROM: twin.number}
        if is_stopped(twin):
            more = {name: twin.user_attrs[name] for name in (RUNG, REASON, STOPPED)}
            return _Answer(known, None, constraints, {**attributes, **more})
        limits = (self._rules.over_limit(known, phase) for phase in ("latency", "trained"))
        broken = None if label else next(filter(None, limits), None)
        if broken:
            return _Answer(known, None, constraints, {**attributes, REASON: broken})
        return _Answer(known, self._rules.objectives(known)[0], constraints, attributes)


def _doubtful(measurement: Measurement) -> bool:
    return measurement.latency is not None and measurement.latency.disturbed


def _is_whole(trial: FrozenTrial) -> bool:
    """Return whether a trial was trained to the end, even if it then broke a limit."""
    if trial.state != TrialState.PRUNED or is_stopped(trial) or MEASUREMENT not in trial.user_attrs:
        return trial.state == TrialState.COMPLETE
    return Measurement.from_json(trial.user_attrs[MEASUREMENT]).accuracy is not None
