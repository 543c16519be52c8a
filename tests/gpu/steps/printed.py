"""What the papers print in frames a second, at their sizes: fp16 and fp32, CUDA graph first.

Absolute times are of this device. What the papers print is compared as ratios within one of their tables.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nasseg.families import Arch, make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.records import Size
from tests.gpu.common import Items, Options, Row, published


@dataclass(frozen=True)
class Cell:
    """A network at a size whose speed a paper prints: the table, the row and the frames a second."""

    network: str
    arch: Arch
    input_size: Size
    num_classes: int
    table: str
    row: str
    printed_fps: float

    @property
    def key(self) -> str:
        """Equal ones of several tables are measured once."""
        height, width = self.input_size
        return f"{self.arch.id[:12]} {height}x{width} {self.num_classes}"


def printed() -> Iterator[Cell]:
    """What the papers' tables print of whole networks in frames a second."""
    from nasseg.analyse.paper_table import number
    from nasseg.tables.table_file import load_tables

    for table in load_tables():
        for name, column in table.file.columns.items():
            for row in table.file.rows:
                value = number(row.printed.get(name))
                if column.latency and column.unit.upper() == "FPS" and row.variant and not row.module and value:
                    arch = make_arch(row.variant, **row.set)
                    yield Cell(row.variant, arch, column.size, column.classes, table.name, row.name, float(value))


def cells(options: Options) -> list[Cell]:
    if options.tiny:
        made_up = {"table": "made-up", "printed_fps": 10.0}
        return [Cell(name, arch, (64, 128), 3, row=name, **made_up) for name, arch in published(options).items()]
    return list(printed())


def items(options: Options) -> Items:
    once = {cell.key: cell for cell in reversed(cells(options))}
    for way in options.ways():
        for cell in reversed(once.values()):
            yield f"{cell.key}, {' '.join(way.values())}", partial(measure, cell, way, options)


def measure(cell: Cell, way: dict[str, str], options: Options) -> Row:
    protocol = replace(options.protocol(**way), input_size=cell.input_size, num_classes=cell.num_classes)
    lock = DeviceLock(options.device)
    found = measure_latency(cell.arch, protocol, lock.measuring)
    lock.close()
    names = ("p50_ms", "p90_ms", "p99_ms", "iqr_ms", "n", "disturbed", "clocks_mhz")
    return {"network": cell.network, **{name: getattr(found, name) for name in names}}


def summary(rows: dict[str, Row], options: Options) -> Row:
    """By precision and backend, FPS of each table's networks relative to its first: printed, and ours."""
    ways = sorted({key.rpartition(", ")[2] for key in rows})
    return {way: _papers(rows, way, options) for way in ways}


def _papers(rows: dict[str, Row], way: str, options: Options) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells(options):
        row = rows.get(f"{cell.key}, {way}")
        if row:
            tables[cell.table].append({"row": cell.row, "printed": cell.printed_fps, "ours": 1e3 / row["p50_ms"]})
    for found in tables.values():
        first = dict(found[0])
        for row in found:
            row["printed ratio"], row["our ratio"] = (row[key] / first[key] for key in ("printed", "ours"))
    return dict(tables)
