"""Time architectures at any addresses in turns under one protocol, for `nasseg latency`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nasseg.errors import UserError
from nasseg.measure.latency.backends import Buildable
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.in_turns import Row, compare_latency, latency_by_part
from nasseg.measure.latency.presets import latency_preset
from nasseg.network.address import resolve
from nasseg.network.measure import DEFAULT_CLASSES, DEFAULT_SIZE
from nasseg.network.weighted import Weighted, find_weighted
from nasseg.records import LatencyProtocol, Size


@dataclass(frozen=True)
class Timing:
    """Timed networks. rows: in the order given, `base` among them. parts: label -> part -> ms. notes: remarks."""

    base: str
    rows: list[Row]
    parts: dict[str, dict[str, float]]
    notes: list[str]


@dataclass(frozen=True)
class _OfFile:
    """A network with the weights of a file, which must belong to it."""

    weighted: Weighted

    def build(self, num_classes: int) -> nn.Module:
        return self.weighted.build(num_classes)[0]


def time_addresses(
    addresses: Sequence[str],
    *,
    against: str | None = None,
    repeat: int = 5,
    preset: str | None = None,
    input_size: Size | None = None,
    num_classes: int | None = None,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
    parts: bool = False,
    init: str | Path | None = None,
    init_map: Path | None = None,
    storage: str | None = None,
) -> Timing:
    """Time architectures in turns. settings: fields of LatencyProtocol that replace those of `preset`, a paper's.

    Weights are random, which does not matter to dense networks, or those of `init` (see nasseg.network.weighted), which
    must fill each of them.

    Raises:
        UserError: nothing is at an address, the weights do not fit, or the protocol cannot be followed here.
    """
    chosen = latency_preset(preset) if preset else None
    fields = {"input_size": DEFAULT_SIZE, **(chosen.settings if chosen else {}), **(settings or {})}
    if input_size:
        fields["input_size"] = input_size
    fields["input_size"] = tuple(fields["input_size"])
    protocol = LatencyProtocol(device=device, num_classes=num_classes or DEFAULT_CLASSES, **fields)
    labels = list(dict.fromkeys([*([against] if against else []), *addresses]))
    if len(labels) < len(addresses):
        raise UserError(f"a network is named twice in {', '.join(addresses)}")
    archs: dict[str, Buildable] = {label: resolve(label, storage=storage).arch for label in labels}
    if init is not None or init_map is not None:
        options: dict[str, Any] = {"init": init, "init_map": init_map, "storage": storage}
        archs = {label: _OfFile(find_weighted(label, **options)) for label in labels}
    lock, base = DeviceLock(device), against or addresses[0]
    rows = compare_latency(archs, protocol, base=base, repeat=repeat, exclusive=lock.measuring)
    by_part = {label: latency_by_part(arch, protocol, lock.measuring) for label, arch in archs.items()} if parts else {}
    notes = [f"{protocol.input_size[0]} x {protocol.input_size[1]}, {protocol.backend}, {protocol.precision}, {device}"]
    notes += [f"{chosen.citation}: {line}" for line in chosen.differs] if chosen else []
    told = {f"{key}: {value}" for row in rows for one in row.rounds for key, value in one.target.items()}
    return Timing(base, rows, by_part, notes + sorted(told))
