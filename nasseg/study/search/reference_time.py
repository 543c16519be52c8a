"""The reference network's time, of which a study's latencies are multiples: measured once, kept with the study."""

from collections.abc import Callable, Mapping
from typing import Any

from nasseg.records import IN_TURNS, LatencyProtocol
from nasseg.study.engines.engine import Engine
from nasseg.study.engines.open_engine import time_reference
from nasseg.study.store.record import Record

REFERENCE = "latency_reference"  # attribute of studies: {"ms": ..., "disturbed": ...}


def reference_ms(attributes: Mapping[str, Any]) -> float | None:
    """Return the reference network's time from a study's attributes, in ms; None if there is none."""
    known = attributes.get(REFERENCE)
    return float(known["ms"]) if known else None


def keep_reference(
    record: Record, protocol: LatencyProtocol, engine: Engine, look: Callable[[], None], tell: Callable[[str], None]
) -> float | None:
    """Return the reference network's time in ms. If it is not known, measure it on the study's device.

    None: the protocol has no reference. look: called while the engine works; it may raise.

    Raises:
        UserError: it cannot be timed now.
    """
    if protocol.rule != IN_TURNS:
        return None
    known = reference_ms(record.attributes())
    if known is None:
        found = time_reference(engine, look)
        known = reference_ms(record.attributes())  # another process may have been first: only one measures at a time
        if known is None:
            known = found.p50_ms
            record.set_attributes({REFERENCE: {"ms": known, "disturbed": found.disturbed}})
            if found.disturbed:
                tell(
                    f"the reference network takes {known:.3g} ms beside other work: latencies of this study are "
                    "comparable with each other, but may all be too high; for true milliseconds, begin the study "
                    "again on a quiet machine"
                )
    return known
