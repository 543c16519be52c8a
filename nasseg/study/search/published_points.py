"""Measure the published networks shown beside a study, on the study's own devices."""

from collections.abc import Callable
from typing import Any

from nasseg.families import Variant, make_arch, variants
from nasseg.records import Measurement
from nasseg.study.engines.engine import Engine
from nasseg.study.engines.open_engine import timed
from nasseg.study.store.record import Record
from nasseg.study.study_file import Study

_COSTS = ("params", "macs", "fvcore_flops", "field_of_view")


def keep_published(
    study: Study, record: Record, engine: Engine, look: Callable[[], None], reference_ms: float | None
) -> None:
    """Measure the published networks of a study's families once, and store them with the study.

    Reading the study then needs no torch. Networks that cannot be measured are left out, and the next call tries them
    again. look: called while the engine works; it may raise.

    Raises:
        UserError: no network can be measured now.
    """
    wanted = {*study.space.families, *study.file.published} & {*variants()}
    if {point["name"] for point in record.attributes().get("published", ())} == wanted:
        return
    chosen = [variant for variant in variants().values() if variant.name in wanted]
    archs = [make_arch(variant.name) for variant in chosen]
    measured = timed(engine, ({"family": arch.family, **arch.params()} for arch in archs), look, reference_ms)
    points = [_point(variant, found) for variant, found in zip(chosen, measured, strict=True)]
    record.set_attributes({"published": [point for point in points if point]})


def _point(variant: Variant, found: Measurement | None) -> dict[str, Any] | None:
    if found is None or found.cost is None or found.latency is None:
        return None
    figures = {name: getattr(found.cost, name) for name in _COSTS}
    return {
        "name": variant.name,
        "citation": variant.citation,
        "family": variant.family,
        "params": variant.params,
        "figures": {**figures, "latency_ms": found.latency.p50_ms},
        "disturbed": found.latency.disturbed,
    }
