"""The latency columns of a table: networks timed in turns in one session, kept in the study `<table>@latency`."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor, nn

from nasseg.families import Arch
from nasseg.measure.environment import environment
from nasseg.measure.latency.in_turns import Row, compare_latency
from nasseg.measure.latency.presets import latency_preset, latency_presets
from nasseg.records import IN_TURNS, Latency, LatencyProtocol, Measurement, Size, digest
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import ARCH_ID, DISTURBED_ROUNDS, MEASUREMENT, ROUNDS_MS, SESSION
from nasseg.tables.module_figures import layers_of
from nasseg.tables.table_file import Table, TableColumn
from nasseg.tables.table_store import LATENCY, begin, candidate, records
from nasseg.train.run import Tell

ROUNDS = 5
# The papers' thousands of repetitions are meant for a GPU, and a CPU shared with others changes its speed in seconds.
ON_CPU = {
    "precision": "fp32",
    "backend": "eager",
    "warmup": 2,
    "min_replicates": 5,
    "min_seconds": 0.5,
    "rule": IN_TURNS,
}


class _Alone(nn.Module):
    """A module on its own map, whatever the input is."""

    map: Tensor

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("map", torch.randn(shape))

    def forward(self, _image: Tensor) -> Tensor:
        result: Tensor = self.module(self.map)
        return result


@dataclass(frozen=True)
class Part:
    """A network's module at a dotted path, built like an arch."""

    arch: Arch
    path: str
    size: Size

    def build(self, num_classes: int) -> nn.Module:
        before, _ = layers_of(self.arch, self.size, num_classes).shapes[self.path]
        return _Alone(self.arch.build(num_classes).get_submodule(self.path), before)

    @property
    def id(self) -> str:
        return digest([self.arch.id, self.path, self.size])


Timed = Arch | Part


def latency_columns(table: Table) -> dict[tuple[Size, int], list[str]]:
    """Group the latency columns by their conditions, (size, classes)."""
    found: dict[tuple[Size, int], list[str]] = {}
    for name, column in table.file.columns.items():
        if column.latency is not None:
            found.setdefault((column.size, column.classes), []).append(name)
    return found


def networks(table: Table, column: TableColumn) -> dict[str, Timed]:
    """Return row -> the network to time, or the module that the row names."""
    found: dict[str, Timed] = {}
    for row in table.file.rows:
        arch = row.arch()
        if arch is not None:
            found[row.name] = Part(arch, row.module, column.size) if row.module is not None else arch
    return found


def protocol_of(table: Table, column: TableColumn, device: str) -> LatencyProtocol:
    """Return the paper's own protocol, as far as the device can follow it."""
    presets = latency_presets()
    settings: dict[str, Any] = dict(latency_preset(table.file.paper).settings if table.file.paper in presets else {})
    if device == "cpu":
        settings |= ON_CPU
    settings |= {"input_size": column.size, "num_classes": column.classes}
    return LatencyProtocol(device=device, **settings)


def time_table(
    table: Table,
    device: str,
    exclusive: Callable[[], AbstractContextManager[None]],
    *,
    storage: str | None = None,
    command: str = "",
    tell: Tell = lambda _line: None,
) -> None:
    """Time the networks that no session on this machine has timed under the same protocol.

    Raises:
        UserError: the device is not available, or the study cannot be written.
    """
    for names in latency_columns(table).values():
        column = table.file.columns[names[0]]
        protocol, rows = protocol_of(table, column, device), networks(table, column)
        if not rows:
            continue
        identity = {"table": table.name}
        record = begin(table, LATENCY, ("latency_ms", "ms", "minimize"), identity, storage, command)
        if session(record, {row: timed.id for row, timed in rows.items()}, protocol):
            tell(f"{table.name}, {', '.join(names)}: timed before")
            continue
        tell(f"{table.name}, {', '.join(names)}: {len(rows)} rows in turns, {ROUNDS} rounds")
        distinct = {timed.id: timed for timed in reversed(rows.values())}
        base = rows[table.file.base].id
        found = compare_latency(
            cast(dict[str, Arch], distinct), protocol, base=base, repeat=ROUNDS, exclusive=exclusive, tell=tell
        )
        _keep(record, rows, {one.label: one for one in found})


def _keep(record: Record, rows: dict[str, Timed], found: dict[str, Row]) -> None:
    number = digest([time.time_ns(), environment().cpu], 12)
    for row, timed in rows.items():
        one = found[timed.id]
        latency = one.latency
        measurement = Measurement(arch_id=timed.id, latency=latency)
        arch = timed.arch if isinstance(timed, Part) else timed
        trial = record.claim(candidate(arch, "", row, 0, {}), digest([number, row]), {}, {})
        attributes: dict[str, Any] = {
            "row": row,
            SESSION: number,
            ROUNDS_MS: [each.p50_ms for each in one.rounds],
            "ratio": one.ratio,
            ARCH_ID: timed.id,
            "latency_ms": latency.p50_ms,
            DISTURBED_ROUNDS: one.disturbed,
            MEASUREMENT: measurement.to_json(),
        }
        record.complete(trial, [latency.p50_ms], attributes)


def session(
    record: Record, wanted: dict[str, str], protocol: LatencyProtocol | None, size: tuple[Size, int] | None = None
) -> dict[str, tuple[Latency, list[float]]]:
    """Return row -> latency and medians of its rounds, from the latest session that timed all of `wanted`, row -> id.

    protocol: only sessions under it and on this machine. size: else, sessions with this size and number of classes.
    """
    sessions: dict[str, dict[str, FrozenTrial]] = {}
    for trial in record.trials(TrialState.COMPLETE):
        sessions.setdefault(trial.user_attrs[SESSION], {})[trial.user_attrs["row"]] = trial
    for trials in reversed(sessions.values()):
        if any(row not in trials or trials[row].user_attrs[ARCH_ID] != known for row, known in wanted.items()):
            continue
        found = {row: _latency(trials[row]) for row in wanted}
        first = next(iter(found.values()))[0]
        if protocol is not None:
            here = environment(protocol.device).place(protocol.device)
            if first.protocol == protocol and first.environment.place(protocol.device) == here:
                return found
        elif (first.protocol.input_size, first.protocol.num_classes) == size:
            return found
    return {}


def _latency(trial: FrozenTrial) -> tuple[Latency, list[float]]:
    latency = Measurement.from_json(trial.user_attrs[MEASUREMENT]).latency
    assert latency is not None
    return latency, trial.user_attrs[ROUNDS_MS]


def stored_session(
    table: Table, column: TableColumn, storage: str | None, protocol: LatencyProtocol | None = None
) -> dict[str, tuple[Latency, list[float]]]:
    """Return the latest session of a column: under a protocol and on this machine, else any."""
    found = [record for record in records(table.name, storage) if record.name == f"{table.name}@{LATENCY}"]
    if not found:
        return {}
    wanted = {row: timed.id for row, timed in networks(table, column).items()}
    return session(found[0], wanted, protocol, (column.size, column.classes))


def words(table: Table, latency: Latency) -> str:
    """Describe how a latency was measured."""
    p, env = latency.protocol, latency.environment
    threads = "" if p.device.startswith("cuda") else f", {p.threads} thread{'s' if p.threads > 1 else ''}"
    where = env.device(p.device) + threads
    size = f"{p.input_size[0]} x {p.input_size[1]}"
    preset = latency_presets().get(table.file.paper)
    # The preset's remarks hold only if it is followed.
    differs = f". {' '.join(preset.differs)}" if preset and p.device != "cpu" else ""
    disturbed = ", beside other work" if latency.disturbed else ""
    turns = "in turns with a reference network" if p.rule == IN_TURNS else "in turns"
    return (
        f"{where}, {p.backend}, {p.precision}, {size}, median of {ROUNDS} rounds or more {turns}, of at least "
        f"{p.min_replicates} runs{disturbed}{differs}"
    )
