"""Measure one architecture at any address, for `nasseg measure`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nasseg.errors import unknown
from nasseg.measure.cost import measure_cost, operators
from nasseg.measure.fvcore_counter import fvcore_count
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.network.address import resolve
from nasseg.records import LatencyProtocol, Size

DEFAULT_SIZE = (1024, 2048)
DEFAULT_CLASSES = 19
COUNTERS = ("nasseg", "fvcore")


def measure_address(
    address: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    input_size: Size | None = None,
    num_classes: int | None = None,
    latency: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    counter: str = "nasseg",
    by_operator: bool = False,
    storage: str | None = None,
) -> dict[str, Any]:
    """Return the figures of the arch at an address as plain data.

    counter: `fvcore` adds fvcore's own counts. by_operator: adds the cost of each operator.

    Default input size and classes: as the trial at the address was measured, else 1024 x 2048 and 19.

    Raises:
        UserError: nothing is at the address, a field is refused, or the device is not available.
    """
    resolved = resolve(address, overrides, storage)
    known = resolved.measurement.cost.protocol if resolved.measurement and resolved.measurement.cost else None
    size = input_size or (known.input_size if known else DEFAULT_SIZE)
    classes = num_classes or (known.num_classes if known else DEFAULT_CLASSES)
    lock = DeviceLock(device)
    with lock.computing():
        cost = asdict(measure_cost(resolved.arch, size, classes))
    protocol = cost.pop("protocol")
    report = {
        "family": resolved.arch.family,
        "variant": resolved.variant,
        "arch": resolved.arch.params(),
        "arch_id": resolved.arch.id,
        "input_size": list(size),
        "num_classes": classes,
        "form": protocol["form"],
        **cost,
    }
    if counter not in COUNTERS:
        raise unknown("counter", counter, COUNTERS)
    if counter == "fvcore":
        report["fvcore"] = fvcore_count(resolved.arch, size, classes)._asdict()
    if by_operator:
        report["operators"] = [row._asdict() for row in operators(resolved.arch.graph(classes, size))]
    if latency:
        asked = LatencyProtocol(device=device, input_size=size, num_classes=classes, precision=precision)
        report["latency"] = asdict(measure_latency(resolved.arch, asked, lock.measuring))
    return report
