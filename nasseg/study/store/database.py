"""Optuna's storages, opened by `open_storage`.

A database writes related data in one transaction and does not read again what it knows; a journal repairs its last
line. Data are stored as by Optuna's own storages, and its tools can read them.
"""

import copy
import json
import os
import time
from collections import defaultdict
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState
from pydantic_core import from_json
from sqlalchemy import Connection, bindparam, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from nasseg.processes.collection import no_collection
from nasseg.processes.file_lock import clock, told_while_waiting
from nasseg.study.store.read_sql import SCHEMA, bulk_trials
from nasseg.study.store.storage import quiet_optuna
from nasseg.study.store.trial_attributes import LEASE

TABLE_ATTEMPTS = 25
AT_ONCE = 500  # trials per statement

_TRIAL: Any = models.TrialModel.__table__
_USER: Any = models.TrialUserAttributeModel.__table__
_SYSTEM: Any = models.TrialSystemAttributeModel.__table__
_VALUE: Any = models.TrialValueModel.__table__
_PARAM: Any = models.TrialParamModel.__table__
_STEP: Any = models.TrialIntermediateValueModel.__table__


class Database(RDBStorage):
    """A database that reads a trial again only if its state has changed.

    Of a running trial, `get_all_trials` reads only the lease: other processes see what else is written only when it has
    ended. `get_trial` reads it as it is now.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        super().__init__(url, engine_kwargs=options)
        self._distributions: dict[tuple[int, str], BaseDistribution] = {}  # a parameter's first distribution, by study
        self._known: dict[int, FrozenTrial] = {}  # by id: unfinished trials, and finished ones until they are read

    # Writing

    def write(
        self,
        trial_id: int,
        owner: str | None,
        attributes: Mapping[str, Any],
        state: TrialState | None = None,
        values: Sequence[float] | None = None,
    ) -> bool:
        """Set attributes of a running trial, and end it if a state is given, in one transaction.

        owner: who must hold its lease; None: anybody. Return False and write nothing if the trial is not running or
        belongs to somebody else.
        """
        end = {} if state is None else {"datetime_complete": datetime.now()}
        running = update(_TRIAL).where(_TRIAL.c.trial_id == trial_id, _TRIAL.c.state == TrialState.RUNNING)
        with self.engine.connect() as connection:
            # The first statement is a write: it locks the trial, or in SQLite the file.
            if not connection.execute(running.values(state=state or TrialState.RUNNING, **end)).rowcount:
                return False
            stored = self._attributes(connection, trial_id, [LEASE, *attributes])
            if owner is not None and json.loads(stored.get(LEASE, '""')).rpartition(":")[0] != owner:
                return False
            self._set_attributes(connection, trial_id, stored, attributes)
            if values is not None:
                connection.execute(insert(_VALUE), [{"trial_id": trial_id, **row} for row in _value_rows(values)])
            connection.commit()
        if state is None:
            self._note(trial_id, attributes)
        else:
            self._known[trial_id] = self._read([trial_id])[0]
        return True

    def _attributes(self, connection: Connection, trial_id: int, names: list[str]) -> dict[str, str]:
        wanted = _USER.c.trial_id == trial_id, _USER.c.key.in_(names)
        rows = connection.execute(select(_USER.c.key, _USER.c.value_json).where(*wanted))
        return {row.key: row.value_json for row in rows}

    def _set_attributes(
        self, connection: Connection, trial_id: int, stored: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> None:
        new, changed = [], []
        for row in _as_rows(attributes):
            if row["key"] not in stored:
                new.append({"trial_id": trial_id, **row})
            elif stored[row["key"]] != row["value_json"]:
                changed.append({"of": trial_id, "name": row["key"], "text": row["value_json"]})
        if new:
            connection.execute(insert(_USER), new)
        if changed:
            place = update(_USER).where(_USER.c.trial_id == bindparam("of"), _USER.c.key == bindparam("name"))
            connection.execute(place.values(value_json=bindparam("text")), changed)

    def _note(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        if trial_id in self._known:
            known = self._known[trial_id] = copy.copy(self._known[trial_id])
            known.user_attrs = {**known.user_attrs, **json.loads(json.dumps(dict(attributes)))}

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        trial = super()._create_new_trial(study_id, template_trial)
        trial.user_attrs = json.loads(json.dumps(trial.user_attrs))  # as it will be read
        self._known[trial._trial_id] = trial
        return trial

    def create(self, study_id: int, trial: FrozenTrial) -> FrozenTrial:
        """Store a trial; return it with its number."""
        return self._create_new_trial(study_id, trial)

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        if template_trial is None or template_trial.intermediate_values:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        new = template_trial
        trial = models.TrialModel(
            study_id=study_id,
            number=None,
            state=new.state,
            datetime_start=new.datetime_start,
            datetime_complete=new.datetime_complete,
        )
        session.add(trial)
        session.flush()  # gives it its id
        for name, distribution in new.distributions.items():
            check_distribution_compatibility(self._first(study_id, name, distribution, session), distribution)
        rows: dict[Any, list[dict[str, Any]]] = {
            _VALUE: _value_rows(new.values or ()),
            _PARAM: [
                {
                    "param_name": name,
                    "param_value": new.distributions[name].to_internal_repr(value),
                    "distribution_json": distribution_to_json(new.distributions[name]),
                }
                for name, value in new.params.items()
            ],
            _USER: _as_rows(new.user_attrs),
            _SYSTEM: _as_rows(new.system_attrs),
        }
        for table, of_table in rows.items():
            if of_table:
                session.execute(insert(table), [{"trial_id": trial.trial_id, **row} for row in of_table])
        trial.number = trial.count_past_trials(session)
        return trial

    def _first(self, study_id: int, name: str, new: BaseDistribution, session: Any) -> BaseDistribution:
        """Return a parameter's first distribution in a study, which later ones must match; `new` if there is none."""
        found = self._distributions.get((study_id, name))
        if found is None:
            stored = (
                session.query(models.TrialParamModel.distribution_json)
                .join(models.TrialModel)
                .filter(models.TrialModel.study_id == study_id, models.TrialParamModel.param_name == name)
                .first()
            )
            found = json_to_distribution(stored[0]) if stored else new
            if stored:  # uncommitted ones may never be stored
                self._distributions[study_id, name] = found
        return found

    # Reading

    def get_trial(self, trial_id: int) -> FrozenTrial:
        known = self._known.get(trial_id)
        if known is not None and known.state.is_finished():
            return known
        found = self._read([trial_id])
        return found[0] if found else super().get_trial(trial_id)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Return the trials with these ids and those above, as Optuna's cache requests them."""
        asked = or_(_TRIAL.c.trial_id > trial_id_greater_than, _TRIAL.c.trial_id.in_(included_trial_ids))
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(_TRIAL.c.trial_id, _TRIAL.c.state).where(_TRIAL.c.study_id == study_id, asked)
            ).all()
        same = {number for number, state in rows if number in self._known and self._known[number].state == state}
        changed = [number for number, _state in rows if number not in same]
        if states is not None or len(rows) > AT_ONCE:
            whole = bulk_trials(self, study_id) if states is None and trial_id_greater_than < 0 else None
            return whole or super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        self._read_leases([number for number in same if self._known[number].state == TrialState.RUNNING])
        self._known.update((trial._trial_id, trial) for trial in self._read(changed))
        found = [self._known[number] for number, _state in sorted(rows)]
        for trial in found:
            if trial.state.is_finished():  # Optuna's cache keeps it
                del self._known[trial._trial_id]
        return found

    def _read_leases(self, running: list[int]) -> None:
        if not running:
            return
        leases = select(_USER.c.trial_id, _USER.c.value_json).where(_USER.c.key == LEASE, _USER.c.trial_id.in_(running))
        with self.engine.connect() as connection:
            for trial_id, text in connection.execute(leases):
                if self._known[trial_id].user_attrs.get(LEASE) != json.loads(text):
                    self._note(trial_id, {LEASE: json.loads(text)})

    def _read(self, trial_ids: Sequence[int]) -> list[FrozenTrial]:
        """Return trials as they are stored."""
        if not trial_ids:
            return []
        with self.engine.connect() as connection:
            rows = connection.execute(select(_TRIAL).where(_TRIAL.c.trial_id.in_(trial_ids))).all()
            parts = [self._rows_of(connection, table, trial_ids) for table in (_VALUE, _PARAM, _USER, _SYSTEM, _STEP)]
        return [_as_trial(row, *(part[row.trial_id] for part in parts)) for row in rows]

    def _rows_of(self, connection: Connection, table: Any, trial_ids: Sequence[int]) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = defaultdict(list)
        order = next(iter(table.primary_key))
        for row in connection.execute(select(table).where(table.c.trial_id.in_(trial_ids)).order_by(order)):
            found[row.trial_id].append(row)
        return found


def database_of(storage: BaseStorage) -> Database | None:
    """Return the database behind a storage; None for another kind of storage."""
    behind = getattr(storage, "_backend", storage)  # Optuna wraps databases in a cache
    return behind if isinstance(behind, Database) else None


def _as_trial(
    row: Any, values: list[Any], params: list[Any], user: list[Any], system: list[Any], steps: list[Any]
) -> FrozenTrial:
    distributions = {one.param_name: json_to_distribution(one.distribution_json) for one in params}
    to_value, to_step = models.TrialValueModel.stored_repr_to_value, models.TrialIntermediateValueModel
    ordered = sorted(values, key=lambda one: one.objective)
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=[to_value(one.value, one.value_type) for one in ordered] or None,
        datetime_start=row.datetime_start,
        datetime_complete=row.datetime_complete,
        params={one.param_name: distributions[one.param_name].to_external_repr(one.param_value) for one in params},
        distributions=distributions,
        user_attrs={one.key: json.loads(one.value_json) for one in user},
        system_attrs={one.key: json.loads(one.value_json) for one in system},
        intermediate_values={
            one.step: to_step.stored_repr_to_intermediate_value(one.intermediate_value, one.intermediate_value_type)
            for one in steps
        },
        trial_id=row.trial_id,
    )


def _value_rows(values: Iterable[float]) -> list[dict[str, Any]]:
    stored = map(models.TrialValueModel.value_to_stored_repr, values)
    return [{"objective": place, "value": value, "value_type": kind} for place, (value, kind) in enumerate(stored)]


def _as_rows(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


class _JournalLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal, with a message to whoever waits for it.

    It is a link beside the journal and names no holder. A killed process leaves it behind; whoever waits for it removes
    it once the journal has not changed for half a minute.
    """

    def acquire(self) -> bool:
        with suppress(FileExistsError):
            os.symlink(self._lock_target_file, self._lock_file)
            return True
        with told_while_waiting(f"the journal {self._lock_target_file}", self._holder), quiet_optuna():
            return super().acquire()

    def release(self) -> None:
        with suppress(RuntimeError):  # we were paused, and another process that waited for long has removed it
            super().release()

    def _holder(self) -> str:
        try:
            since = clock(os.lstat(self._lock_file).st_mtime)
        except OSError:
            return "several processes write it in turns"
        left = f"it is removed when the journal has not changed for {self.grace_period} s"
        return f"its lock {self._lock_file} has existed since {since}; {left}"


class _Journal(JournalFileBackend):
    """A journal that never appends to a torn line, and reads on from where it stopped, so that a long one is fast.

    A full disk or a kill can cut off the last line. The next line would be appended to it, and both would be lost.

    Raises:
        ValueError: the file is no journal of Optuna's.
    """

    def __init__(self, path: Path) -> None:
        whole = str(path.resolve())  # with a relative path in a folder, a stale lock hangs
        super().__init__(whole, _JournalLock(whole))
        self._read = (0, 0)  # lines, and their bytes
        with path.open("rb") as file:
            first = file.readline()
        if first.endswith(b"\n") and "op_code" not in json.loads(first):
            raise ValueError("it is no journal of Optuna's")
        if not self._is_whole():  # a whole one needs no lock, which a reader may not have the right to write
            with get_lock_file(self._lock):
                self._drop_torn_line()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        left = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with get_lock_file(self._lock):
            self._drop_torn_line()  # of a process that was killed since
            try:
                with open(self._file_path, "ab", buffering=0) as file:
                    while left:
                        left = left[file.write(left) :]
                    os.fsync(file.fileno())
            except OSError:
                self._drop_torn_line()
                raise

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any]]:
        if log_number_from < self._read[0]:
            self._read = (0, 0)
        with open(self._file_path, "rb") as file:
            file.seek(self._read[1])
            for line in file:
                if not line.endswith(b"\n"):  # another process is writing it
                    return
                number, place = self._read
                log = _log_of(line, number + 1)
                self._read = (number + 1, place + len(line))
                if number >= log_number_from:
                    yield log

    def _drop_torn_line(self) -> None:
        """Remove a last line that has no end. The caller holds the lock."""
        if not self._is_whole():
            with open(self._file_path, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def _is_whole(self) -> bool:
        with open(self._file_path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            return file.read() in (b"", b"\n")


def _log_of(line: bytes, number: int) -> dict[str, Any]:
    for parse in (from_json, json.loads):  # the second is slower, but accepts names that are not valid Unicode
        with suppress(ValueError, TypeError):
            return dict(parse(line))
    raise StorageInternalError(f"line {number} of the journal is damaged")


def open_journal(path: Path) -> JournalStorage:
    """Open a journal.

    Raises:
        ValueError: the file is no journal of Optuna's.
    """
    with no_collection():
        return JournalStorage(_Journal(path))


def open_database(url: str, options: dict[str, Any]) -> RDBStorage:
    """Open a database. If another process is creating its tables at this moment, try again a little later."""
    for _ in range(TABLE_ATTEMPTS - 1):
        try:
            return _database(url, options)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.2)
    return _database(url, options)


def _database(url: str, options: dict[str, Any]) -> RDBStorage:
    return Database(url, options) if models.SCHEMA_VERSION == SCHEMA else RDBStorage(url, engine_kwargs=options)
