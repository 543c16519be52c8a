"""Read a study from its storage as plain data, for analysis and reports. It needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasseg.analyse.remeasured import PURPOSE, with_later_latencies
from nasseg.errors import UserError
from nasseg.records import Objective, PublishedPoint, StudyRecord, TrialRow
from nasseg.study.store.read_journal import JournalStudy, journal_studies
from nasseg.study.store.read_sql import Measurements, SqliteStudy, bulk_rows, make_row, sqlite_studies
from nasseg.study.store.storage import (
    default_url,
    disconnect,
    is_there,
    journal_path,
    open_storage,
    sqlite_path,
    storage_faults,
)
from nasseg.study.store.trial_attributes import PUBLISHED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nasseg.study.store.record import Record

_READER = Measurements()


def read_study(name: str | Path, storage: str | None = None) -> StudyRecord:
    """Read the record of a study by name, or by the path of its file, with the latest latencies of its networks.

    Raises:
        UserError: nothing is stored there, or it cannot be read.
    """
    label = _label(str(name))
    studies = _without_optuna(storage or default_url(label))
    found = _from_file(studies[label]) if label in studies else None
    if found is None:
        return _through_optuna(label, storage)
    again = studies.get(_again(label))
    if again is None or not _is_whole(again.attributes):
        return found
    later = _from_file(again)
    return _through_optuna(label, storage) if later is None else with_later_latencies(found, later)


def _through_optuna(label: str, storage: str | None) -> StudyRecord:
    with storage_faults(storage or default_url(label)):
        record = open_record(label, storage)
        try:
            return latest_of(record)
        finally:
            disconnect(record.storage)


def _without_optuna(url: str) -> Mapping[str, JournalStudy | SqliteStudy]:
    """Return the studies of a file by name; empty if Optuna, which is slow to import, must read them."""
    database, journal = sqlite_path(url), journal_path(url)
    return sqlite_studies(database) if database else journal_studies(journal) if journal else {}


def open_record(name: str, storage: str | None = None) -> "Record":
    from nasseg.study.store.record import Record

    label = _label(name)
    return Record.load(open_storage(storage or default_url(label), create=False), label)


def _label(name: str) -> str:
    return Path(name).stem if Path(name).suffix in (".yaml", ".yml") else name


def find_record(name: str, storage: str | None = None) -> "Record | None":
    """Return the study with this name; None if nothing is stored yet."""
    from nasseg.study.store.record import Record, study_names

    url = storage or default_url(name)
    if not is_there(url):
        return None
    opened = open_storage(url, create=False)
    return Record(opened, name) if name in study_names(opened) else None


def latest_of(record: "Record") -> StudyRecord:
    """Return the record of a study, with later latencies instead of the search's own."""
    from nasseg.study.store.record import Record, study_names

    found, name = record_of(record), _again(record.name)
    if name not in study_names(record.storage):
        return found
    again = Record(record.storage, name)
    return with_later_latencies(found, record_of(again)) if _is_whole(again.attributes()) else found


def _from_file(study: JournalStudy | SqliteStudy) -> StudyRecord | None:
    rows = study.rows(_objectives(study.name, study.attributes))
    return None if rows is None else _study_record(study.name, study.attributes, rows)


def _again(name: str) -> str:
    return f"{name}@{PURPOSE}"


def record_of(record: "Record") -> StudyRecord:
    attributes = record.attributes()
    names = _objectives(record.name, attributes)
    rows = bulk_rows(record, names) or tuple(row_of(trial, names) for trial in record.trials())
    return _study_record(record.name, attributes, rows)


def _is_whole(attributes: dict[str, Any]) -> bool:
    """Return whether everything that readers need is stored."""
    return {"objectives", "study_file", "created"} <= attributes.keys()  # the ones that a search writes first and last


def _objectives(name: str, attributes: dict[str, Any]) -> list[str]:
    if not _is_whole(attributes):
        raise UserError(
            f"study {name!r} in this storage is not nasseg's, or is just being created; try again, or name another"
        )
    return [name for name, _unit, _direction in attributes["objectives"]]


def _study_record(name: str, attributes: dict[str, Any], rows: tuple[TrialRow, ...]) -> StudyRecord:
    return StudyRecord(
        name=name,
        question=attributes["question"],
        objectives=tuple(Objective(name=n, unit=u, direction=d) for n, u, d in attributes["objectives"]),
        limits=attributes["limits"],
        trials=rows,
        published=tuple(PublishedPoint(**point) for point in _published(attributes.get("published", ()), rows)),
        identity=attributes["identity"],
        command=attributes["command"],
        created=attributes["created"],
        environment=attributes["environment"],
        study_file=attributes["study_file"],
        extra={
            "space_file": attributes["space_file"],
            "searched_seconds": attributes.get("searched_seconds", 0.0),
            "price_per_hour": attributes.get("price_per_hour"),
            "weights": attributes.get("weights"),
            **({"latency_reference": known} if (known := attributes.get("latency_reference")) else {}),
        },
    )


def row_of(trial: "FrozenTrial", objectives: Sequence[str]) -> TrialRow:
    """Return a trial as plain data; `objectives`: the names of its values."""
    return make_row(
        _READER,
        trial.number,
        trial.state.name,
        dict(trial.params),
        dict(trial.user_attrs),
        dict(zip(objectives, trial.values, strict=True)) if trial.state.name == "COMPLETE" else {},
        trial.datetime_start.isoformat() if trial.datetime_start else None,
        trial.datetime_complete.isoformat() if trial.datetime_complete else None,
    )


def _published(points: list[dict[str, Any]], rows: Sequence[TrialRow]) -> list[dict[str, Any]]:
    """Return published networks with their costs, and with the study's figures if they ran under its protocols."""
    run = {row.extra.get(PUBLISHED): row for row in rows if row.state == "COMPLETE"}
    found = ({**point["figures"], **(run[point["name"]].values if point["name"] in run else {})} for point in points)
    return [{**point, "figures": figures} for point, figures in zip(points, found, strict=True)]
