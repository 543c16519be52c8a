"""Item 2: latency of the published networks at their papers' input sizes, in each of two processes.

Absolute times are of this device. What the papers print is compared as ratios within one of their tables.
"""

import multiprocessing
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any

from scipy.stats import kendalltau

from nasseg.analyse.paper_table import number
from nasseg.families import Arch, make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.records import LatencyProtocol, Size
from nasseg.tables.table_file import load_tables
from tests.gpu.common import Deadline, Options, Rows, published

REPEATABLE = 0.01
OTHER_SIZE = (1024, 2048)


@dataclass(frozen=True)
class Cell:
    """A network at a size; where a paper prints its speed, the table, the row and the frames a second."""

    network: str
    arch: Arch
    input_size: Size
    num_classes: int
    table: str = ""
    row: str = ""
    printed_fps: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.arch.family, self.arch, self.input_size, self.num_classes)


def printed() -> Iterator[Cell]:
    """What the papers' tables print of whole networks in frames a second."""
    for table in load_tables():
        for name, column in table.file.columns.items():
            for row in table.file.rows:
                value = number(row.printed.get(name))
                if column.latency and column.unit.upper() == "FPS" and row.variant and not row.module and value:
                    arch = make_arch(row.variant, **row.set)
                    yield Cell(row.variant, arch, column.size, column.classes, table.name, row.name, float(value))


def cells(options: Options) -> list[Cell]:
    """Those of the tables first, then the other variants; equal ones of several tables are all there."""
    if options.tiny:
        small = [Cell(name, arch, (64, 128), 3) for name, arch in published(options).items()]
        return [replace(cell, table="made-up", row=cell.network, printed_fps=10.0) for cell in small]
    found = list(printed())
    known = {(cell.arch.family, cell.arch) for cell in found}
    rest = {(arch.family, arch): name for name, arch in published(options).items()}
    return found + [Cell(name, key[1], OTHER_SIZE, 19) for key, name in rest.items() if key not in known]


def protocols(options: Options) -> list[LatencyProtocol]:
    quick = {"warmup": 1, "min_replicates": 3, "min_seconds": 0.0} if options.tiny else {}
    base = LatencyProtocol(
        device=options.device,
        input_size=OTHER_SIZE,
        num_classes=19,
        **{"warmup": 10, "min_replicates": 50, "min_seconds": 0.2, **quick},
    )
    precisions, backends = (("fp32", "fp16"), ("eager", "cuda-graph")) if options.cuda else (("fp32",), ("eager",))
    return [replace(base, precision=p, backend=b) for p, b in product(precisions, backends)]


def measure(cell: Cell, options: Options) -> list[dict[str, Any]]:
    """All protocols of a cell, in a process of its own kind."""
    rows, lock = [], DeviceLock(options.device)
    for base in protocols(options):
        protocol = replace(base, input_size=cell.input_size, num_classes=cell.num_classes)
        how = {"precision": protocol.precision, "backend": protocol.backend}
        try:
            found = measure_latency(cell.arch, protocol, lock.measuring)
            figures = {
                "p50_ms": found.p50_ms,
                "p90_ms": found.p90_ms,
                "p99_ms": found.p99_ms,
                "iqr_ms": found.iqr_ms,
                "n": found.n,
                "disturbed": found.disturbed,
                "clocks_mhz": found.clocks_mhz,
                "why": "",
            }
        except Exception as error:  # what fails is the result
            names = ("p50_ms", "p90_ms", "p99_ms", "iqr_ms", "n", "disturbed", "clocks_mhz")
            figures = {**dict.fromkeys(names), "why": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        rows.append({**how, **figures})
    lock.close()
    return rows


def run(options: Options, deadline: Deadline) -> Rows:
    """Twice all networks, each time in a new process."""
    spawn, everything = multiprocessing.get_context("spawn"), cells(options)
    once = {cell.key: cell for cell in reversed(everything)}
    for process in (1, 2):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            for cell in reversed(once.values()):
                height, width = cell.input_size
                size = f"{height}x{width}"
                share = Deadline(deadline.seconds * process / 2, deadline.left_out, deadline.begun)
                if not share.allows(f"process {process}: {cell.network} at {size}"):
                    continue
                for row in pool.submit(measure, cell, options).result():
                    known = {"network": cell.network, "size": size, "classes": cell.num_classes}
                    yield {**known, "process": process, **row}


def protocol(options: Options) -> dict[str, Any]:
    return {"varied": "input size, classes, precision, backend", **vars(protocols(options)[0])}


def summary(rows: list[dict[str, Any]], options: Options) -> dict[str, Any]:
    """By precision and backend: repeatability between the processes, and each paper's table beside ours."""
    ways = sorted({(row["precision"], row["backend"]) for row in rows})
    return {f"{precision}, {backend}": _of_way(rows, (precision, backend), options) for precision, backend in ways}


def _of_way(rows: list[dict[str, Any]], way: tuple[str, str], options: Options) -> dict[str, Any]:
    found: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for row in rows:
        if (row["precision"], row["backend"]) == way and row["p50_ms"] is not None:
            found[row["network"], row["size"], row["classes"]][row["process"]] = row["p50_ms"]
    both = [(times[1], times[2]) for times in found.values() if len(times) == 2]
    apart = [abs(second / first - 1) for first, second in both]
    tau = kendalltau(*zip(*both, strict=True)).statistic if len(both) > 1 else None
    return {
        "networks": len(found),
        "in both processes": len(both),
        "p50 apart, median": median(apart) if apart else None,
        "p50 apart, worst": max(apart, default=None),
        "share within 1 %": sum(one <= REPEATABLE for one in apart) / len(apart) if apart else None,
        "Kendall tau between processes": tau,
        "papers": _papers(found, options),
    }


def _papers(found: dict[tuple[Any, ...], dict[int, float]], options: Options) -> dict[str, list[dict[str, Any]]]:
    """FPS of each table's networks relative to its first: printed, and ours."""
    everything = cells(options)
    measured = {cell.key: cell for cell in reversed(everything)}  # the cell that was measured for all that are equal
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in everything:
        height, width = cell.input_size
        times = found.get((measured[cell.key].network, f"{height}x{width}", cell.num_classes))
        if cell.table and times and cell.printed_fps:
            tables[cell.table].append(
                {"row": cell.row, "printed": cell.printed_fps, "ours": 1e3 / median(times.values())}
            )
    for rows in tables.values():
        first = dict(rows[0])
        for row in rows:
            row["printed ratio"], row["our ratio"] = (row[key] / first[key] for key in ("printed", "ours"))
    return dict(tables)
