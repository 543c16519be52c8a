"""The papers' latency protocols as rows of data, each with the points in which nasseg must deviate."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nasseg.errors import unknown
from nasseg.files import read_yaml


@dataclass(frozen=True)
class LatencyPreset:
    """A row of presets.yaml. settings: fields of LatencyProtocol. differs: how the paper deviates from them."""

    name: str
    citation: str
    settings: dict[str, Any]
    differs: tuple[str, ...]


@cache
def latency_presets() -> dict[str, LatencyPreset]:
    rows = read_yaml(Path(__file__).with_name("presets.yaml")).data
    return {name: LatencyPreset(name, r["citation"], r["settings"], tuple(r["differs"])) for name, r in rows.items()}


def latency_preset(name: str) -> LatencyPreset:
    """Return the preset of a paper.

    Raises:
        UserError: none has that name.
    """
    if name not in latency_presets():
        raise unknown("latency protocol", name, latency_presets())
    return latency_presets()[name]
