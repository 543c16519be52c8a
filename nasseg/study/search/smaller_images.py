"""Find a smaller image size at which a network keeps a limit on latency that no network keeps now."""

from collections.abc import Callable
from dataclasses import replace

from nasseg.families import Arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.records import Size
from nasseg.study.engines.jobs import Workshop

SCALES = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)


def fitting_size(
    arch: Arch, limit_ms: float, workshop: Workshop, tell: Callable[[str], None] = lambda _line: None
) -> tuple[Size, float] | None:
    """Return the largest of a few smaller image sizes at which a network keeps a limit, and its ms at that size.

    None if there is no such size. Each size takes about a second.
    """
    protocol = workshop.context.latency
    for scale in SCALES:
        height, width = (max(32, round(side * scale / 32) * 32) for side in protocol.input_size)
        tell(f"timing the smallest network on images of {height} x {width}")
        smaller = replace(protocol, input_size=(height, width))
        latency = measure_latency(arch, smaller, workshop.latency_lock.measuring)
        if latency.p50_ms <= limit_ms:
            return (height, width), latency.p50_ms
    return None
