"""A paper's table beside ours: some cells follow from the architecture alone; the others say why they are empty."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch

from nasseg.analyse.paper_table import Cell, Column, Comparison, Verdict, judge
from nasseg.analyse.paper_verdict import Answer
from nasseg.families import Arch
from nasseg.families.graph.recorder import Graph, record
from nasseg.measure.cost import bisenetv2_flops, eseg_flops, field_of_view, fvcore_flops, macs
from nasseg.records import Size
from nasseg.tables.module_figures import layers_of
from nasseg.tables.table_file import UNITS, Table, TableColumn, TableRow, load_table, load_tables
from nasseg.train.recipe import load_recipe

COMPUTED = ("cost", "layer", "field")


def _params(graph: Graph) -> int:
    weights = {w.index: w for operator in graph.reachable() for w in operator.weights if w and w.trainable}
    return sum(prod(weight.shape) for weight in weights.values())


def _summed(rule: Callable[..., int]) -> Callable[[Graph], int]:
    return lambda graph: sum(map(rule, graph.reachable()))


COSTS: dict[str, Callable[[Graph], int]] = {
    "params": _params,
    "macs": _summed(macs),
    "fvcore_flops": _summed(fvcore_flops),
    "bisenetv2_flops": _summed(bisenetv2_flops),
    "eseg_flops": _summed(eseg_flops),
    "field_of_view": field_of_view,
}


@lru_cache(maxsize=8)
def _graph(arch: Arch, size: Size, classes: int) -> Graph:
    return record(arch.build_meta(classes), size)


@lru_cache(maxsize=1024)
def cost_figure(arch: Arch, rule: str, size: Size, classes: int) -> int:
    """Return a cost of an arch's inference form, one of COSTS, for one image of this size."""
    return COSTS[rule](_graph(arch, size, classes))


@dataclass(frozen=True)
class Measured:
    """A value trained or timed here, in its column's unit, and how, in words.

    spread: the standard deviation of several values. alike: measured under the printed conditions.
    """

    value: float
    protocol: str
    spread: float | None = None
    alike: bool = False


Results = Mapping[tuple[str, str], Measured]  # (row, column) -> the value measured for that cell


def reproduce(
    table: Table | str | Path,
    results: Results | None = None,
    *,
    reasons: Mapping[tuple[str, str], str] | None = None,
    answers: Iterable[Answer] = (),
) -> Comparison:
    """Return a table beside ours. Costs are computed, and `results` fills cells that need data or a device.

    reasons: why other such cells are empty; default: what they need.

    Raises:
        UserError: no such table, or its file breaks a rule.
    """
    if not isinstance(table, Table):
        table = load_table(table)
    file = table.file
    return Comparison(
        name=table.name,
        paper=table.paper,
        table=file.table,
        title=file.title,
        question=file.question.strip(),
        expected=file.expected.strip(),
        columns=tuple(
            Column(name=name, label=column.label, unit=column.unit, protocol=column.protocol + _scratch(table, column))
            for name, column in file.columns.items()
        ),
        rows=tuple(row.name for row in file.rows),
        cells=tuple(
            _cell(table, row, name, results or {}, reasons or {})
            for row in file.rows
            for name in file.columns
            if name in row.printed
        ),
        notes={row.name: row.note.strip() for row in file.rows if row.note},
        answers=tuple(answers),
        against="the printed formula" if all(c.evaluated for c in file.columns.values()) else "print",
    )


def _scratch(table: Table, column: TableColumn) -> str:
    """Return, for a trained column, a remark if ours is trained from scratch but the paper's is not."""
    recipe = table.file.recipe
    lines = load_recipe(recipe).deviations if recipe is not None and column.data else ()
    return "".join(f". {line.rstrip('.')}" for line in lines if line.startswith("From scratch"))


def _cell(table: Table, row: TableRow, name: str, results: Results, reasons: Mapping[tuple[str, str], str]) -> Cell:
    column, printed = table.file.columns[name], row.printed[name]

    def cell(verdict: Verdict, ours: float | str | None = None, **more: Any) -> Cell:
        return Cell(row=row.name, column=name, printed=printed, ours=ours, verdict=verdict, **more)

    flag = row.flagged.get(name, "")
    if row.cited:
        return cell("cited", reason=flag)
    if column.kind == "given":
        return cell("given", reason=flag)
    arch = row.arch()
    if arch is not None and column.kind in COMPUTED:
        ours = _ours(arch, row, column)
        return cell(judge(printed, ours, flag), ours, reason=flag)
    result = results.get((row.name, name))
    if result is not None:
        more = {"protocol": result.protocol, "spread": result.spread, "alike": result.alike}
        return cell("measured", result.value, reason=flag, **more)
    return cell("not run", reason=reasons.get((row.name, name)) or _why_not(row, column))


def _ours(arch: Arch, row: TableRow, column: TableColumn) -> float | str:
    if column.layer is not None:
        layers = layers_of(arch, column.size, column.classes)
        return layers.figure(row.module or "", column.layer, column.runs_across_stride)
    if column.field is not None:
        value: float | str = getattr(arch, column.field)
        return value
    assert column.cost is not None
    count = cost_figure(arch, column.cost, column.size, column.classes)
    return count / UNITS[column.unit] if column.unit in UNITS else count


def _why_not(row: TableRow, column: TableColumn) -> str:
    if row.missing is not None:
        return f"needs {row.missing}"
    extra = [*row.pretraining, *row.self_training] if column.data else []
    given = " (--extra)" if extra else ""
    return "needs " + " and ".join(dict.fromkeys([column.needs or "", *extra])) + given


@dataclass(frozen=True)
class TableSummary:
    """A table in the list: the columns that can be computed or measured now, and what the others need."""

    name: str
    citation: str
    title: str
    question: str
    rows: int
    own_rows: int
    runs: tuple[str, ...]
    waits: dict[str, str]  # column -> what it needs


def at_hand(data: Iterable[str] = ()) -> frozenset[str]:
    """Return what is available, in the words of `TableColumn.needs`: these data sets, and a GPU if there is one."""
    return frozenset([*data, *(["a GPU"] if torch.cuda.is_available() else [])])


def summarise(table: Table, hand: Collection[str] = ()) -> TableSummary:
    """Summarise a table, given what is available (see `at_hand`)."""
    file = table.file
    measured = {column.label: column for column in file.columns.values() if column.kind != "given"}
    waits = {label: c.needs for label, c in measured.items() if c.needs is not None and c.needs not in hand}
    return TableSummary(
        name=table.name,
        citation=f"{table.paper}, {file.table}",
        title=file.title,
        question=file.question.strip(),
        rows=len(file.rows),
        own_rows=sum(row.variant is not None for row in file.rows),
        runs=tuple(label for label in measured if label not in waits),
        waits=waits,
    )


def list_tables(hand: Collection[str] = ()) -> list[TableSummary]:
    """Summarise every table, paper by paper."""
    return [summarise(table, hand) for table in load_tables()]
