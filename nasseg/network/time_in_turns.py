"""Time architectures at any addresses in turns under one protocol, for `nasseg latency`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasseg.errors import UserError
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.in_turns import Row, compare_latency, latency_by_part
from nasseg.measure.latency.presets import latency_preset
from nasseg.network.address import resolve
from nasseg.network.measure import DEFAULT_CLASSES, DEFAULT_SIZE
from nasseg.records import LatencyProtocol, Size


@dataclass(frozen=True)
class Timing:
    """Timed networks. rows: in the order given, `base` among them. parts: label -> part -> ms. notes: remarks."""

    base: str
    rows: list[Row]
    parts: dict[str, dict[str, float]]
    notes: list[str]


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
    storage: str | None = None,
) -> Timing:
    """Time architectures in turns. settings: fields of LatencyProtocol that replace those of the paper `preset`.

    Raises:
        UserError: nothing is at an address, or the protocol cannot be followed here.
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
    archs = {label: resolve(label, storage=storage).arch for label in labels}
    lock, base = DeviceLock(device), against or addresses[0]
    rows = compare_latency(archs, protocol, base=base, repeat=repeat, exclusive=lock.measuring)
    by_part = {label: latency_by_part(arch, protocol, lock.measuring) for label, arch in archs.items()} if parts else {}
    notes = [f"{protocol.input_size[0]} x {protocol.input_size[1]}, {protocol.backend}, {protocol.precision}, {device}"]
    notes += [f"{chosen.citation}: {line}" for line in chosen.differs] if chosen else []
    told = {f"{key}: {value}" for row in rows for one in row.rounds for key, value in one.target.items()}
    return Timing(base, rows, by_part, notes + sorted(told))
