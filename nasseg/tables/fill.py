"""Fill a table's cells and answer its question from trained and timed networks."""

from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from optuna.trial import TrialState

from nasseg.analyse.paper_table import Comparison, number
from nasseg.analyse.paper_verdict import Answer, Early, answer
from nasseg.figures import find_figure
from nasseg.records import Accuracy, Measurement, Size
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import REASON, is_interrupted
from nasseg.tables.compute import Measured, cost_figure, reproduce
from nasseg.tables.table_file import Table, TableColumn
from nasseg.tables.table_store import accuracy_records, early_miou, trained
from nasseg.tables.time_rows import latency_columns, stored_session, words
from nasseg.tables.train_rows import NOT_TRAINED, rows_trained, trained_column
from nasseg.train.recipe import load_recipe
from nasseg.words import counted

Trained = tuple[str, int, Measurement, Accuracy | None]  # row, seed, measurement, accuracy on the held-out split
Runs = dict[str, dict[int, float]]  # row -> seed or round -> value


@dataclass
class Found:
    """The results for a table: cells, reasons for empty ones, answers."""

    results: dict[tuple[str, str], Measured] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)


def measured(table: Table, storage: str | None = None, record: Record | None = None) -> Comparison:
    """Return a table beside ours, with the values trained and timed for it.

    record: the study of the accuracy protocol to show; default: the latest. The latest study of each other data set
    answers the table's question, too.
    """
    found = Found()
    latest: dict[str, Record] = {}
    for each in [*([record] if record else []), *accuracy_records(table.name, storage)]:
        if "baseline" not in each.attributes():  # another process will write it before it trains
            continue
        latest.setdefault(each.attributes()["identity"]["data"], each)
    by_data = [*latest.values()]
    for each in by_data[:1]:
        _accuracy(table, each, found)
    for each in by_data[1:]:
        beside = Found()
        _accuracy(table, each, beside)
        found.answers += beside.answers
    _latency(table, storage, found)
    return reproduce(table, found.results, reasons=found.reasons, answers=found.answers)


def _accuracy(table: Table, record: Record, found: Found) -> None:
    column = trained_column(table)
    assert column is not None
    columns = {name: c for name, c in table.file.columns.items() if c.accuracy and c.data == column.data}
    columns = {name: c for name, c in columns.items() if c.accuracy not in NOT_TRAINED}
    # Columns of single classes count only if there is no mean.
    asked = [name for name, c in columns.items() if "iou." not in str(c.accuracy)] or [*columns]
    attributes = record.attributes()
    identity, size = attributes["identity"]["rows"], attributes["size"]
    archs = {row.name: row.arch(column, tuple(size)) for row in table.file.rows if row.name in identity}
    rows = {name for name, arch in archs.items() if arch and arch.id == identity[name][0]}  # others have changed since
    done = [one for one in trained(record) if one[0] in rows]
    protocol, baselines, early = attributes["protocol"], attributes["baseline"], early_miou(record)
    on, seen = _conditions(table, [measurement for _, _, measurement, _ in done])
    for name, column in columns.items():
        runs, absent, alike = Runs(), "", dict[str, bool]()
        bar = _bar(column, done, baselines)
        for row, seed, measurement, tested in done:
            value = _value(column, measurement, tested)
            if isinstance(value, str):
                absent = value
            else:
                runs.setdefault(row, {})[seed] = value
                alike[row] = _as_printed(table, row, column, measurement)
        for row, values in runs.items():
            seeds = counted(len(values), "seed")
            each = list(values.values())
            found.results[row, name] = _with_spread(fmean(each), each, f"{protocol}, {seeds}", alike[row])
        for row in rows:
            found.reasons[row, name] = absent or _why(record, row)
        if runs and name in asked and (answered := _answer_of_accuracy(table, name, runs, on, seen, bar, early)):
            found.answers.append(answered)


def _value(column: TableColumn, measurement: Measurement, tested: Accuracy | None) -> float | str:
    """Return a column's figure for one training, or else what it needs, in words."""
    accuracy, name = tested if column.split == "test" else measurement.accuracy, str(column.accuracy)
    if accuracy is None:
        return "needs a labelled test split"
    value = find_figure(name).of(replace(measurement, accuracy=accuracy))
    return f"needs data with the class {name.removeprefix('iou.')}" if value is None else value


def _conditions(table: Table, done: list[Measurement]) -> tuple[str, Size | None]:
    """Describe data and steps compared with the paper's, and return the size of the images."""
    protocols = [m.accuracy.protocol for m in done if m.accuracy]
    steps = " to ".join(f"{n:,}" for n in sorted({protocol.steps for protocol in protocols}))
    usual = load_recipe(table.file.recipe or {}).steps
    words = f"{protocols[0].data}, {steps} of {usual:,} steps" if protocols else ""
    return words, next((m.cost.protocol.input_size for m in done if m.cost), None)


def _with_spread(value: float, repeats: list[float], protocol: str, alike: bool = False) -> Measured:
    return Measured(value, protocol, stdev(repeats) if len(repeats) > 1 else None, alike)


def _bar(column: TableColumn, done: list[Trained], baselines: dict[str, dict[str, Any]]) -> float | None:
    """Return a column's figure for colour and place alone; None if nothing was trained, or the data lack the class."""
    known = baselines.get("test" if column.split == "test" else "val")
    accuracy = next((measurement.accuracy for _, _, measurement, _ in done if measurement.accuracy), None)
    if known is None or accuracy is None:
        return None
    return find_figure(str(column.accuracy)).of(Measurement(arch_id="", accuracy=replace(accuracy, **known)))


def _as_printed(table: Table, row: str, column: TableColumn, measurement: Measurement) -> bool:
    """Return whether a row was trained on the column's data, at its size and as long as in the paper."""
    own = table.file.training(next(each for each in table.file.rows if each.name == row))
    accuracy, cost = measurement.accuracy, measurement.cost
    if own is None or accuracy is None or cost is None:
        return False
    same = accuracy.protocol.data.casefold() == str(column.data).casefold()
    return same and accuracy.protocol.steps == own.steps and cost.protocol.input_size == column.size


def _why(record: Record, row: str) -> str:
    """Explain why a study has no value for a row."""
    for trial in record.trials(TrialState.FAIL):
        if trial.params.get("row") == row and not is_interrupted(trial):
            return f"failed: {trial.user_attrs[REASON]}"
    if any(trial.params.get("row") == row for trial in record.trials(TrialState.RUNNING)):
        return "is being trained"
    return "needs its training to continue"


def _claims(table: Table, name: str, runs: Runs) -> dict[str, float | None]:
    """Return a column's printed values, row -> value; None for a measured row that is misprinted or not printed.

    Other papers' networks count only if they outnumber the paper's own: then the question is about them.
    """
    cited = sum(row.cited for row in table.file.rows)
    among_others = 2 * cited > len(table.file.rows)
    claims: dict[str, float | None] = {}
    for row in table.file.rows:
        value = number(row.printed.get(name))
        if value is not None and name not in row.flagged and (among_others or not row.cited):
            claims[row.name] = float(value)
        elif row.name in runs:
            claims[row.name] = None
    return claims


def _answer_of_accuracy(
    table: Table, name: str, runs: Runs, on: str, seen: Size | None, bar: float | None, early: Early
) -> Answer | None:
    """Answer a column's question from its trained rows; None if the paper prints at most one value."""
    column = table.file.columns[name]
    rows = {row.name: row for row in rows_trained(table)}
    claims = dict.fromkeys(rows) if column.best else _claims(table, name, runs)
    if column.best is None and sum(value is not None for value in claims.values()) < 2:
        return None
    caveats = [reason] if seen and (reason := _too_small(table, column, [*claims], seen)) else []
    if any(row.run is not None for row in rows.values()):
        here = [value for values in runs.values() for value in values.values()]
        printed = [value for value in claims.values() if value is not None]
        told = [f"{stdev(v):.2f} {w}" for v, w in ((printed, "in print"), (here, "here")) if len(v) > 1]
        caveats, claims = [f"its rows are one network (standard deviation {', '.join(told)})"], {}
    return answer(
        f"{column.label} ({on})",
        claims,
        runs,
        column.best or table.file.base,
        unit=column.unit,
        best=column.best,
        caveats=caveats,
        baseline=bar,
        early=early,
    )


def _too_small(table: Table, column: TableColumn, rows: list[str], seen: Size) -> str | None:
    """Explain why images of this size are too small to compare fields of view; None if they are not.

    A field twice as wide as the image, less a pixel, covers the whole image wherever its centre is.
    """
    fields: dict[int, set[int]] = {}
    for row in table.file.rows:
        arch = row.arch(column) if row.name in rows else None
        if arch is not None:
            field_of_view = cost_figure(arch, "field_of_view", column.size, column.classes)
            fields.setdefault(min(field_of_view, 2 * max(seen) - 1), set()).add(
                min(field_of_view, 2 * max(column.size) - 1)
            )
    # Decoders of one encoder differ only by the few pixels of their own kernels: this does not compare fields of view.
    widest = max((max(alike) for alike in fields.values() if max(alike) > 1.05 * min(alike)), default=None)
    if widest is None:
        return None
    return (
        f"fields of view of up to {widest:,} px are compared, but on images of {seen[0]} x {seen[1]} all above "
        f"{2 * max(seen) - 1:,} px are equivalent"
    )


def _latency(table: Table, storage: str | None, found: Found) -> None:
    for names in latency_columns(table).values():
        session = stored_session(table, table.file.columns[names[0]], storage)
        for name in names:
            column, runs, device = table.file.columns[name], Runs(), ""
            for row, (latency, rounds) in session.items():
                batch, device = latency.protocol.batch, f"{latency.protocol.device}, {latency.protocol.precision}"
                p50, *values = (ms if column.unit == "ms" else 1e3 * batch / ms for ms in (latency.p50_ms, *rounds))
                runs[row] = dict(enumerate(values))
                found.results[row, name] = _with_spread(p50, values, words(table, latency))
            claims, what = _claims(table, name, runs), f"{column.label} ({device})"
            if runs and sum(value is not None for value in claims.values()) > 1:
                base, unit = table.file.base, column.unit
                found.answers.append(answer(what, claims, runs, base, unit=unit, kind="ratio", repeated="round"))
