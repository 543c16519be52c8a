"""The record: one Optuna study is the only source of truth of a search.

One trial is one (architecture, seed, rung segment). People sort and filter by a trial's plain user attributes; the JSON
`measurement` holds every figure with its protocol and environment. Finished trials are never amended.
`optuna-dashboard` opens every study.
"""

import json
import time
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasseg.errors import Fault, UserError, unknown
from nasseg.redaction import redact, redact_all
from nasseg.study.store.candidate import Candidate
from nasseg.study.store.database import database_of
from nasseg.study.store.lease import LeaseWatch, new_owner
from nasseg.study.store.storage import quiet_optuna
from nasseg.study.store.trial_attributes import EVAL_KEY, FAULT, LEASE, REASON, RETRY_OF
from nasseg.words import differences

IDENTITY_ATTEMPTS = 10


class Record:
    """One study in a storage."""

    def __init__(self, storage: BaseStorage, name: str) -> None:
        self.storage, self.name = optuna.storages.get_storage(storage), name
        self._database = database_of(self.storage)
        self.study_id = self.storage.get_study_id_from_name(name)
        self._study = optuna.load_study(study_name=name, storage=self.storage)
        self.owner = new_owner()
        self._ticks = 0

    # The study

    @classmethod
    def create(
        cls, storage: BaseStorage, name: str, objectives: Mapping[str, str], identity: dict[str, Any]
    ) -> "Record":
        """Open the study with this name, or create it. objectives: direction by name.

        Raises:
            UserError: the stored study has another identity; the message says what differs.
        """
        storage = optuna.storages.get_storage(storage)
        try:
            with quiet_optuna():
                study_id = storage.create_new_study(
                    [StudyDirection[direction.upper()] for direction in objectives.values()], name
                )
            storage.set_study_user_attr(study_id, "identity", identity)
        except DuplicatedStudyError:
            pass
        record = cls(storage, name)
        record._check_identity(identity)
        if record._study.metric_names is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                record._study.set_metric_names(list(objectives))  # shown by Optuna's own tools
        return record

    @classmethod
    def load(cls, storage: BaseStorage, name: str) -> "Record":
        """Open an existing study.

        Raises:
            UserError: it does not exist; the message offers the nearest name.
        """
        names = study_names(storage)
        if name not in names:
            raise unknown("study in this storage", name, names)
        return cls(storage, name)

    def _check_identity(self, identity: dict[str, Any]) -> None:
        stored = None
        for _ in range(IDENTITY_ATTEMPTS):  # another process may have created the study a moment ago
            stored = self.attributes().get("identity")
            if stored is not None:
                break
            time.sleep(0.2)
        if stored is None:
            raise UserError(f"the study {self.name!r} in this storage is not nasseg's; use another name or --storage")
        found = differences(stored, json.loads(json.dumps(identity)))
        if found:
            raise UserError(
                f"study {self.name!r} was begun with other settings ({found}), so figures would not be "
                "comparable. Give the study file another name, or use another --storage"
            )

    def attributes(self) -> dict[str, Any]:
        return self.storage.get_study_user_attrs(self.study_id)

    def set_attributes(self, values: Mapping[str, Any]) -> None:
        """Set attributes of the study, without passwords."""
        for key, value in values.items():
            self.storage.set_study_user_attr(self.study_id, key, redact_all(value))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

    # Trials that end at once: one transaction each

    def add_rejected(
        self, candidate: Candidate, reason: str, constraints: dict[str, float], figures: Mapping[str, float | None]
    ) -> FrozenTrial:
        """Add a candidate over a limit: PRUNED, infeasible to samplers, never trained."""
        return self._add(candidate, TrialState.PRUNED, None, constraints, figures, {REASON: redact(reason)})

    def add_failed(self, candidate: Candidate, reason: str, fault: Fault) -> FrozenTrial:
        """Add a candidate that could not even be costed."""
        return self._add(candidate, TrialState.FAIL, None, {}, {}, {REASON: redact(reason), FAULT: fault})

    def add_reused(
        self,
        candidate: Candidate,
        values: list[float] | None,
        constraints: dict[str, float],
        figures: Mapping[str, float | None],
        attributes: dict[str, Any],
    ) -> FrozenTrial:
        """Add a trial whose network was trained before: COMPLETE with its values, or PRUNED if there are none."""
        state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        return self._add(candidate, state, values, constraints, figures, attributes)

    def _add(
        self,
        candidate: Candidate,
        state: TrialState,
        values: list[float] | None,
        constraints: dict[str, float],
        figures: Mapping[str, float | None],
        more: dict[str, Any],
    ) -> FrozenTrial:
        trial = create_trial(
            state=state,
            values=values,
            constraints=constraints,
            params=candidate.proposal.sampled,
            distributions=candidate.proposal.distributions,
            user_attrs={**candidate.attributes(figures), **more},
        )
        if self._database is not None:
            return self._database.create(self.study_id, trial)
        return self.storage.get_trial(self.storage.create_new_trial(self.study_id, template_trial=trial))

    # Trials that run

    def claim(
        self, candidate: Candidate, eval_key: str, constraints: dict[str, float], figures: Mapping[str, float | None]
    ) -> FrozenTrial:
        """Add a RUNNING trial with our lease on it."""
        more = {EVAL_KEY: eval_key, LEASE: self._lease()}
        return self._add(candidate, TrialState.RUNNING, None, constraints, figures, more)

    def take_waiting(self, among: Iterable[FrozenTrial] | None = None) -> FrozenTrial | None:
        """Make a waiting trial RUNNING, with our lease, and return it; None if none waits.

        among: trials read a moment ago; None reads them now. One that another process has since taken is skipped.
        """
        for trial in self.trials(TrialState.WAITING) if among is None else among:
            if trial.state == TrialState.WAITING and self.storage.set_trial_state_values(
                trial._trial_id, TrialState.RUNNING
            ):
                self.storage.set_trial_user_attr(trial._trial_id, LEASE, self._lease())
                return self.storage.get_trial(trial._trial_id)
        return None

    def renew(self, trial: FrozenTrial) -> bool:
        """Renew our lease on a running trial; return False if it is no longer ours."""
        return self._write(trial, {LEASE: self._lease()})

    def update(self, trial: FrozenTrial, values: Mapping[str, Any]) -> bool:
        """Set attributes of our running trial; return False if it is no longer ours."""
        return self._write(trial, values)

    def constrain(self, trial: FrozenTrial, constraints: Mapping[str, float]) -> None:
        """Tell samplers how much a running trial breaks its limits. Constraints set at the claim stay."""
        running = optuna.Trial(self._study, trial._trial_id)
        for key, value in constraints.items():
            if key not in trial.constraints:
                running.set_constraint(key, value)

    def reread(self, trial: FrozenTrial) -> FrozenTrial:
        return self.storage.get_trial(trial._trial_id)

    def complete(self, trial: FrozenTrial, values: list[float], attributes: Mapping[str, Any]) -> bool:
        """Make our trial COMPLETE with its figures; return False if it is no longer ours."""
        return self._write(trial, attributes, TrialState.COMPLETE, values)

    def prune(self, trial: FrozenTrial, reason: str, attributes: Mapping[str, Any]) -> bool:
        return self._write(trial, {**attributes, REASON: redact(reason)}, TrialState.PRUNED)

    def fail(self, trial: FrozenTrial, reason: str, fault: Fault = Fault.NETWORK) -> bool:
        return self._write(trial, {REASON: redact(reason), FAULT: fault}, TrialState.FAIL)

    def requeue(self, trial: FrozenTrial, reason: str) -> bool:
        """End an interrupted trial as FAIL and enqueue a copy with its measurements.

        The trial is ours, or its lease is stale. Return False if it has already ended, so that it is enqueued only
        once.
        """
        trial = self.storage.get_trial(trial._trial_id)  # the copy keeps what was measured since the claim
        ending = {REASON: redact(f"interrupted: {reason}"), FAULT: Fault.INTERRUPTED}
        if not self._write(trial, ending, TrialState.FAIL, anybodys=True):
            return False
        kept = {k: v for k, v in trial.user_attrs.items() if k not in (LEASE, REASON, FAULT)}
        waiting = create_trial(
            state=TrialState.WAITING,
            user_attrs={**kept, RETRY_OF: trial.number},
            params=trial.params,
            distributions=trial.distributions,
            constraints=dict(trial.constraints),
        )
        self.storage.create_new_trial(self.study_id, template_trial=waiting)
        return True

    def take_back(self, watch: LeaseWatch, running: Iterable[FrozenTrial]) -> None:
        """Requeue the running trials whose lease is stale: their process is gone."""
        for trial in running:
            if watch.is_stale(trial.number, trial.user_attrs.get(LEASE)):
                self.requeue(trial, "its process is gone")

    def _lease(self) -> str:
        self._ticks += 1
        return f"{self.owner}:{self._ticks}"

    def _write(
        self,
        trial: FrozenTrial,
        attributes: Mapping[str, Any],
        state: TrialState | None = None,
        values: list[float] | None = None,
        *,
        anybodys: bool = False,
    ) -> bool:
        """Set attributes of a running trial, and end it if a state is given; return False if it is not ours."""
        owner = None if anybodys else self.owner
        if self._database is not None:
            return self._database.write(trial._trial_id, owner, attributes, state, values)
        current = self.storage.get_trial(trial._trial_id)
        holder = str(current.user_attrs.get(LEASE, "")).rpartition(":")[0]
        if current.state != TrialState.RUNNING or owner not in (None, holder):
            return False
        try:
            for key, value in attributes.items():
                if current.user_attrs.get(key) != value:
                    self.storage.set_trial_user_attr(trial._trial_id, key, value)
            return state is None or self.storage.set_trial_state_values(trial._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False


def study_names(storage: BaseStorage) -> list[str]:
    return [storage.get_study_name_from_id(frozen._study_id) for frozen in storage.get_all_studies()]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
