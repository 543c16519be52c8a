"""From what was trained and timed for a table to its cells and to the answer to its question."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import fmean, median, stdev

from optuna.trial import TrialState

from nasseg.analyse.answer import Answer, answer
from nasseg.analyse.published import Comparison, number
from nasseg.records import Size
from nasseg.study.figures import find_figure
from nasseg.study.record import Record
from nasseg.study.reproduce import Measured, cost_figure, reproduce
from nasseg.study.reproduce_latency import latency_columns, stored_session, words
from nasseg.study.reproduce_store import accuracy_records, trained
from nasseg.study.reproduce_train import NOT_TRAINED, rows_trained
from nasseg.study.table import Table, TableColumn
from nasseg.study.trials import is_interrupted

Runs = dict[str, dict[int, float]]  # row -> seed or round -> value


@dataclass
class Found:
    """What fills a table: cells, why others are empty, answers."""

    results: dict[tuple[str, str], Measured] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)


def measured(table: Table, storage: str | None = None, record: Record | None = None) -> Comparison:
    """A table beside ours with what was trained and timed for it.

    record: of the accuracy protocol to show; the latest one's unless given.
    """
    found = Found()
    records = [record] if record else accuracy_records(table.name, storage)[:1]
    for each in records:
        _accuracy(table, each, found)
    _latency(table, storage, found)
    return reproduce(table, found.results, reasons=found.reasons, answers=found.answers)


def _accuracy(table: Table, record: Record, found: Found) -> None:
    identity = record.attributes()["identity"]["rows"]
    columns = {n: c for n, c in table.file.columns.items() if c.accuracy and c.accuracy not in NOT_TRAINED}
    rows = {row.name: row for row in rows_trained(table) if row.name in identity}
    for name, row in list(rows.items()):
        arch = row.arch(next(iter(columns.values())))
        if arch is None or arch.id != identity[name][0]:
            del rows[name]  # the table was changed since
    runs: dict[str, Runs] = {name: {} for name in columns}
    absent: dict[str, str] = {}
    seen: Size | None = None
    for row_name, seed, measurement, tested in trained(record):
        seen = measurement.cost.protocol.input_size if measurement.cost else seen
        for name, column in columns.items():
            accuracy = tested if column.split == "test" else measurement.accuracy
            if accuracy is None:
                absent[name] = "needs a labelled test split"
                continue
            value = find_figure(str(column.accuracy)).of(replace(measurement, accuracy=accuracy))
            if value is None:
                absent[name] = f"needs data with the class {str(column.accuracy).removeprefix('iou.')}"
            elif row_name in rows:
                runs[name].setdefault(row_name, {})[seed] = value
    protocol = record.attributes()["protocol"]
    for name, column in columns.items():
        for row_name, values in runs[name].items():
            seeds = f"{len(values)} seed{'s' if len(values) != 1 else ''}"
            found.results[row_name, name] = _cell(list(values.values()), fmean, f"{protocol}, {seeds}")
        for row_name in rows:
            found.reasons[row_name, name] = absent.get(name) or _why(record, row_name)
        if runs[name]:
            found.answers.append(_answer_of_accuracy(table, name, column, runs[name], seen))


def _cell(values: list[float], centre: Callable[[list[float]], float], protocol: str) -> Measured:
    return Measured(centre(values), protocol, stdev(values) if len(values) > 1 else None)


def _why(record: Record, row: str) -> str:
    """Why a row of a study has no value."""
    for trial in record.trials(TrialState.FAIL):
        if trial.params.get("row") == row and not is_interrupted(trial):
            return f"failed: {trial.user_attrs['reason']}"
    if any(trial.params.get("row") == row for trial in record.trials(TrialState.RUNNING)):
        return "is being trained"
    return "needs its training to go on"


def _answer_of_accuracy(table: Table, name: str, column: TableColumn, runs: Runs, seen: Size | None) -> Answer:
    rows = {row.name: row for row in rows_trained(table)}
    printed = {row: float(value) for row in rows if (value := number(rows[row].printed.get(name))) is not None}
    caveats = [reason] if seen and (reason := _too_small(table, column, list(printed), seen)) else []
    if any(row.run is not None for row in rows.values()):
        here = [value for values in runs.values() for value in values.values()]
        told = [f"{stdev(v):.2f} {w}" for v, w in ((printed.values(), "in print"), (here, "here")) if len(v) > 1]
        caveats, printed = [f"its rows are one network (standard deviation {', '.join(told)})"], {}
    return answer(
        column.label, printed, runs, column.best or table.file.base, unit=column.unit, best=column.best, caveats=caveats
    )


def _too_small(table: Table, column: TableColumn, rows: list[str], seen: Size) -> str | None:
    """Whether networks are compared for fields of view that are alike on images of this size.

    A field that is twice as wide as the image, less a pixel, holds all of it, wherever its centre is.
    """
    fields: dict[int, set[int]] = {}
    for row in table.file.rows:
        arch = row.arch(column) if row.name in rows else None
        if arch is not None:
            field_of_view = cost_figure(arch, "field_of_view", column.size, column.classes)
            fields.setdefault(min(field_of_view, 2 * max(seen) - 1), set()).add(
                min(field_of_view, 2 * max(column.size) - 1)
            )
    widest = max((max(alike) for alike in fields.values() if len(alike) > 1), default=None)
    if widest is None:
        return None
    return (
        f"fields of view of up to {widest:,} px are compared, and on images of {seen[0]} x {seen[1]} all above "
        f"{2 * max(seen) - 1:,} px are alike"
    )


def _latency(table: Table, storage: str | None, found: Found) -> None:
    for names in latency_columns(table).values():
        session = stored_session(table, table.file.columns[names[0]], storage)
        for name in names:
            column, runs = table.file.columns[name], Runs()
            for row, (latency, rounds) in session.items():
                batch = latency.protocol.batch
                values = rounds if column.unit == "ms" else [1e3 * batch / ms for ms in rounds]
                runs[row] = dict(enumerate(values))
                found.results[row, name] = _cell(values, median, words(table, latency))
            known = {row.name: number(row.printed.get(name)) for row in table.file.rows if row.name in runs}
            printed = {row: float(value) for row, value in known.items() if value is not None}
            if printed:
                found.answers.append(
                    answer(
                        column.label, printed, runs, table.file.base, unit=column.unit, kind="ratio", repeated="round"
                    )
                )
