"""The same network again: what the record already knows of a candidate, by its eval_key."""

from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from nasseg.records import Measurement
from nasseg.study.record import Candidate, Record
from nasseg.study.rules import Rules
from nasseg.study.trials import is_stopped


class Twins:
    """Trials that ended, by eval_key."""

    def __init__(self, record: Record, rules: Rules) -> None:
        self._record, self._rules = record, rules
        self._ended: dict[str, FrozenTrial] = {}

    def learn(self, trial: FrozenTrial) -> None:
        """Hear of a trial that ended."""
        key = trial.user_attrs.get("eval_key")
        known = "reused_from" not in trial.user_attrs and (trial.state == TrialState.COMPLETE or is_stopped(trial))
        if key and known and not self.finished(key):
            self._ended[key] = trial

    def finished(self, key: str) -> FrozenTrial | None:
        """The trial that trained this network to the end."""
        twin = self._ended.get(key)
        return twin if twin is not None and twin.state == TrialState.COMPLETE else None

    def answer(self, candidate: Candidate, key: str) -> FrozenTrial | None:
        """A new trial with the figures of this network's earlier one; None if there is none."""
        twin = self._ended.get(key)
        if twin is None:
            return None
        known = Measurement.from_json(twin.user_attrs["measurement"])
        figures = self._rules.figures(known)
        return self._record.add_reused(replace(candidate, measurement=known), twin, dict(twin.constraints), figures)

    def copy(self, trial: FrozenTrial, key: str) -> bool:
        """End a running trial of ours with the figures of this network's earlier one, if there is one."""
        twin = self._ended.get(key)
        if twin is None:
            return False
        known = Measurement.from_json(twin.user_attrs["measurement"])
        figures = {
            "reused_from": twin.number, "measurement": twin.user_attrs["measurement"], **self._rules.figures(known),
        }  # fmt: skip
        if twin.state == TrialState.COMPLETE:
            self._record.complete(trial, twin.values, figures)
        else:
            self._record.prune(trial, twin.user_attrs["reason"], {**figures, "rung": twin.user_attrs["rung"]})
        return True
