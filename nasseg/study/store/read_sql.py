"""Read a large study fast: its tables in plain SQL, not trial by trial.

The results equal those of nasseg.study.store.read_study and of Optuna. Storages that are no database, and databases
with unknown tables, are read through Optuna.
"""

import gc
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json  # twice as fast as the standard library's

from nasseg.errors import UserError
from nasseg.processes.collection import no_collection
from nasseg.processes.sqlite_lock import PatientConnection
from nasseg.records import (
    Accuracy,
    AccuracyProtocol,
    Block,
    Cost,
    CostProtocol,
    Environment,
    Latency,
    LatencyProtocol,
    Measurement,
    Stage,
    TrialRow,
)
from nasseg.study.store.trial_attributes import ARCH, MEASUREMENT, REASON, REUSED_FROM, RUNG, SEED, TRAINING
from nasseg.words import LocalTime

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from nasseg.study.store.record import Record

SCHEMA = 12  # the version of Optuna's tables that are read here
MANY = 20_000
_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}


def bulk_rows(record: "Record", objectives: list[str]) -> tuple[TrialRow, ...] | None:
    """Return all trials of a study as rows; None if they must be read through Optuna."""
    from optuna.storages import RDBStorage

    storage = getattr(record.storage, "_backend", None)
    if not isinstance(storage, RDBStorage):
        return None
    with _tables(storage) as cursor:
        rows = None if cursor is None else _rows(cursor, int(record.study_id), objectives)
        return None if rows is None else keep(rows)


@dataclass
class SqliteStudy:
    """A study in an SQLite file, read without Optuna. `rows` builds its trials."""

    path: Path
    study: int
    name: str
    attributes: dict[str, Any]

    def rows(self, objectives: list[str]) -> tuple[TrialRow, ...] | None:
        """Return the trials; None if they must be read through Optuna. objectives: the names of their values."""
        try:
            with closing(PatientConnection(self.path)) as base, no_collection():
                rows = _rows(base.cursor(), self.study, objectives)
                return None if rows is None else keep(rows)
        except sqlite3.Error:  # Optuna then reads it, and reports the error
            return None


def sqlite_studies(path: Path) -> dict[str, SqliteStudy]:
    """Return the studies of an SQLite file by name; empty if they must be read through Optuna."""
    if not path.is_file():
        return {}
    try:
        with closing(PatientConnection(path)) as base:
            if base.execute("SELECT schema_version FROM version_info").fetchone()[0] != SCHEMA:
                return {}
            names = base.execute("SELECT study_id, study_name FROM studies").fetchall()
            texts = base.execute("SELECT study_id, key, value_json FROM study_user_attributes").fetchall()
    except (sqlite3.Error, TypeError):  # no storage of Optuna's
        return {}
    kept: dict[int, dict[str, Any]] = {study: {} for study, _name in names}
    for study, key, text in texts:
        kept[study][key] = json.loads(text)
    return {name: SqliteStudy(path, study, name, kept[study]) for study, name in names}


def bulk_trials(storage: "RDBStorage", study: int) -> "list[FrozenTrial] | None":
    """Return all trials of a study, as Optuna does; None if Optuna must read them."""
    with _tables(storage) as cursor:
        return None if cursor is None else _frozen(cursor, int(study))


@contextmanager
def _tables(storage: "RDBStorage") -> Iterator[Any]:
    """Give a cursor on Optuna's tables; None if they have another version."""
    connection: Any = storage.engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT schema_version FROM version_info")
        with no_collection():
            yield cursor if cursor.fetchone()[0] == SCHEMA else None
    except storage.engine.dialect.loaded_dbapi.Error as error:  # the driver's own, bypassing SQLAlchemy
        from optuna.exceptions import StorageInternalError

        raise StorageInternalError(str(error)) from error
    finally:
        connection.close()


def keep(rows: tuple[TrialRow, ...]) -> tuple[TrialRow, ...]:
    """Return the same rows. If there are many, the garbage collector ignores them from now on."""
    if len(rows) > MANY:
        gc.freeze()
    return rows


def _trials(cursor: Any, study: int) -> tuple[list[Any], list[int], str]:
    """Return the trials of a study, their ids, and a fast condition that selects them."""
    cursor.execute(
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials "
        f"WHERE study_id = {study} ORDER BY number"
    )
    trials = cursor.fetchall()
    ids = [trial[0] for trial in trials]
    # Trials of other studies may be in between. Reading a range is faster than a join, and a whole table faster than a
    # range.
    cursor.execute("SELECT COUNT(*) FROM trials")
    alone = cursor.fetchone()[0] == len(ids)
    return trials, ids, "" if alone or not ids else f"WHERE trial_id BETWEEN {min(ids)} AND {max(ids)}"


def _frozen(cursor: Any, study: int) -> "list[FrozenTrial] | None":
    from optuna.distributions import json_to_distribution
    from optuna.trial import FrozenTrial, TrialState

    cursor.execute("SELECT COUNT(*) FROM trial_intermediate_values")
    if cursor.fetchone()[0]:  # not ours
        return None
    trials, ids, among = _trials(cursor, study)
    known = _distributions(cursor, study, among)
    if known is None:
        return None
    distributions = {name: json_to_distribution(text) for name, text in known.items()}
    params = _params(cursor, known, among, ids)
    attributes = _attributes(cursor, "trial_user_attributes", among, ids)
    system = _attributes(cursor, "trial_system_attributes", among, ids)
    values, local = _values(cursor, among, ids), LocalTime()
    return [
        FrozenTrial(
            number=number,
            state=TrialState[state],
            value=None,
            values=list(values[trial_id].values()) or None,
            datetime_start=local.at(started),
            datetime_complete=local.at(finished),
            params=params[trial_id],
            distributions={name: distributions[name] for name in params[trial_id]},
            user_attrs=attributes[trial_id],
            system_attrs=system[trial_id],
            intermediate_values={},
            trial_id=trial_id,
        )
        for trial_id, number, state, started, finished in trials
    ]


def _rows(cursor: Any, study: int, objectives: list[str]) -> tuple[TrialRow, ...] | None:
    trials, ids, among = _trials(cursor, study)
    known = _distributions(cursor, study, among)
    if known is None:
        return None
    attributes, params = _attributes(cursor, "trial_user_attributes", among, ids), _params(cursor, known, among, ids)
    values = _values(cursor, among, ids)
    reader, local = Measurements(), LocalTime()
    return tuple(
        [
            make_row(
                reader,
                number,
                state,
                params[trial_id],
                attributes[trial_id],
                {objectives[at]: value for at, value in values[trial_id].items()} if state == "COMPLETE" else {},
                local(started),
                local(finished),
            )
            for trial_id, number, state, started, finished in trials
        ]
    )


def make_row(
    reader: "Measurements",
    number: int,
    state: str,
    params: dict[str, Any],
    attributes: dict[str, Any],
    values: dict[str, float],
    started: str | None,
    finished: str | None,
) -> TrialRow:
    """Return the row of a stored trial. attributes: those without a field of their own stay there."""
    made = object.__new__(_Row)
    made.__dict__.update(
        number=number,
        state=state,
        params=params,
        values=values,
        started=started,
        finished=finished,
        _reader=reader,
        _arch=attributes.pop(ARCH, None),
        _measurement=attributes.pop(MEASUREMENT, None),
        reason=attributes.pop(REASON, None),
        rung=attributes.pop(RUNG, 0),
        seed=attributes.pop(SEED, None),
        training=from_json(attributes.pop(TRAINING, "{}")),
        reused_from=attributes.pop(REUSED_FROM, None),
        extra=attributes,
    )
    return made


class _Row(TrialRow):
    """A trial whose long attributes are parsed on first use. Most are never used."""

    _arch: str | None
    _measurement: str | None
    _reader: "Measurements"

    def __eq__(self, other: object) -> bool:
        names = [field.name for field in fields(TrialRow)]
        return isinstance(other, TrialRow) and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    @cached_property
    def arch(self) -> dict[str, Any] | None:
        found = None if self._arch is None else self._parsed("architecture", from_json, self._arch)
        del self.__dict__["_arch"]  # the texts take half of a row's memory and are needed only once
        return found

    @cached_property
    def measurement(self) -> Measurement | None:
        text = self._measurement
        found = self._parsed("measurement", self._reader.read, text) if text else None
        del self.__dict__["_measurement"]
        return found

    @property
    def accuracy(self) -> Accuracy | None:
        text = self.__dict__.get("_measurement")  # dataclasses.replace makes rows without it
        return None if text and '"accuracy":null' in text else super().accuracy

    def _parsed(self, what: str, parse: Callable[[str], Any], text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            first, *_ = str(error).splitlines() or [type(error).__name__]
            raise UserError(
                f"the {what} of trial {self.number} is damaged ({first}): the record was changed by hand, or its file "
                "is broken; restore it from a copy"
            ) from None


def _attributes(cursor: Any, table: str, among: str, ids: list[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
    parsed: dict[str, Any] = {}  # short texts repeat
    names = f"trial_id, {table}.key, value_json"  # `key` alone is a word of MySQL's
    cursor.execute(f"SELECT {names} FROM {table} {among} ORDER BY {table.removesuffix('s')}_id")
    for trial_id, key, text in cursor:
        if trial_id in found:
            if text in parsed:
                found[trial_id][key] = parsed[text]
            elif len(text) > 30:
                found[trial_id][key] = _parsed(text)
            else:
                found[trial_id][key] = parsed[text] = _parsed(text)
    return found


def _parsed(text: str) -> Any:
    """Parse JSON, several times faster if it is a string whose only escapes are quotes, as in JSON inside JSON."""
    if text[0] == '"' and text.count("\\") == text.count('\\"'):
        return text[1:-1].replace('\\"', '"')
    return json.loads(text)


def _distributions(cursor: Any, study: int, among: str) -> dict[str, str] | None:
    """Return each parameter's distribution in a study, as stored; None if one has several, as after a changed range."""
    own = f"JOIN trials ON trials.trial_id = trial_params.trial_id WHERE study_id = {study}" if among else ""
    cursor.execute(f"SELECT DISTINCT param_name, distribution_json FROM trial_params {own}")
    pairs = cursor.fetchall()
    known = dict(pairs)
    return known if len(known) == len(pairs) else None


def external(distribution: str) -> Callable[[float], Any]:
    """Return a function from a stored number to the value of a parameter with this distribution, as in Optuna."""
    stored = from_json(distribution)
    if stored["name"] == "CategoricalDistribution":
        choices = stored["attributes"]["choices"]
        return lambda place: choices[int(place)]
    return int if stored["name"].startswith("Int") else float


def _params(cursor: Any, distributions: dict[str, str], among: str, ids: list[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
    convert = {name: external(text) for name, text in distributions.items()}
    known: dict[tuple[str, float], Any] = {}
    cursor.execute(f"SELECT trial_id, param_name, param_value FROM trial_params {among} ORDER BY param_id")
    for trial_id, name, value in cursor:
        if trial_id in found:
            if (name, value) not in known:
                known[name, value] = convert[name](value)
            found[trial_id][name] = known[name, value]
    return found


def _values(cursor: Any, among: str, ids: list[int]) -> dict[int, dict[int, float]]:
    """Return each trial's values by the index of the objective, in this order."""
    found: dict[int, dict[int, float]] = {trial_id: {} for trial_id in ids}
    cursor.execute(f"SELECT trial_id, objective, value, value_type FROM trial_values {among} ORDER BY objective")
    for trial_id, objective, value, kind in cursor:
        if trial_id in found:
            found[trial_id][objective] = _INFINITE.get(kind, value)
    return found


class Measurements:
    """A reader of our own measurements: without checks, and equal parts are built once."""

    def __init__(self) -> None:
        self._shared: dict[Any, Any] = {}

    def read(self, text: str) -> Measurement:
        try:
            return self._measurement(from_json(text))
        except (KeyError, TypeError):  # written by another version
            return Measurement.from_json(text)

    def _measurement(self, data: dict[str, Any]) -> Measurement:
        cost, latency, accuracy = data["cost"], data["latency"], data["accuracy"]
        if cost is not None:
            self._share(cost, CostProtocol)
            cost["stages"] = tuple([_made(Stage, stage) for stage in cost["stages"]])
            blocks = cost.get("blocks", ())
            cost["blocks"] = tuple([_made(Block, {**block, "inputs": tuple(block["inputs"])}) for block in blocks])
            data["cost"] = _made(Cost, cost)
        if latency is not None:
            self._share(latency, LatencyProtocol)
            clocks = latency.get("clocks_mhz")
            latency["clocks_mhz"] = None if clocks is None else tuple(clocks)
            data["latency"] = _made(Latency, latency)
        if accuracy is not None:
            self._share(accuracy, AccuracyProtocol)
            accuracy["curve"] = tuple(map(tuple, accuracy["curve"]))
            data["accuracy"] = _made(Accuracy, accuracy)
        return _made(Measurement, data)

    def _share(self, part: dict[str, Any], protocol: type[Any]) -> None:
        settings = part["protocol"]
        if "input_size" in settings:
            settings["input_size"] = tuple(settings["input_size"])
        for name, kind in (("protocol", protocol), ("environment", Environment)):
            values = part[name]
            key = (kind, *values.values())
            if key not in self._shared:
                self._shared[key] = kind(**values)
            part[name] = self._shared[key]


def _made(kind: type[Any], data: dict[str, Any]) -> Any:
    """Return kind(**data), without a frozen dataclass's slow constructor if every field is given."""
    if len(data) != len(kind.__dataclass_fields__) or not data.keys() <= kind.__dataclass_fields__.keys():
        return kind(**data)
    made = object.__new__(kind)
    made.__dict__.update(data)
    return made
