"""The figures that objectives and limits may name: what each is, when it is known, where a Measurement has it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasseg.errors import unknown
from nasseg.files import load_attribute
from nasseg.records import Measurement

Stage = Literal["cost", "latency", "trained"]
STAGES: tuple[Stage, ...] = ("cost", "latency", "trained")


@dataclass(frozen=True)
class Figure:
    """A number of a measured architecture. `source`: `file.py:function` for users' own, else empty."""

    name: str
    unit: str
    direction: Literal["minimize", "maximize"]
    stage: Stage
    source: str = ""

    def of(self, measurement: Measurement) -> float | None:
        """The figure, or None where it is not measured yet or does not exist (a class that does not occur)."""
        if self.source:
            entry = measurement.custom.get(self.name)
            return None if entry is None else float(entry["value"])
        part = getattr(measurement, "accuracy" if self.stage == "trained" else self.stage)
        if part is None:
            return None
        if self.name.startswith("iou."):
            return part.class_iou.get(self.name.removeprefix("iou."))
        value = getattr(part, _ATTRIBUTE.get(self.name, self.name))
        return None if value is None else float(value)


_ATTRIBUTE = {"latency_ms": "p50_ms", "latency_p90_ms": "p90_ms", "latency_p99_ms": "p99_ms"}

FIGURES: Mapping[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure("params", "", "minimize", "cost"),
        Figure("macs", "", "minimize", "cost"),
        Figure("fvcore_flops", "", "minimize", "cost"),
        Figure("activations", "", "minimize", "cost"),
        Figure("peak_activation_bytes", "B", "minimize", "cost"),
        Figure("field_of_view", "px", "maximize", "cost"),
        Figure("latency_ms", "ms", "minimize", "latency"),
        Figure("latency_p90_ms", "ms", "minimize", "latency"),
        Figure("latency_p99_ms", "ms", "minimize", "latency"),
        Figure("miou", "%", "maximize", "trained"),
        Figure("pixel_accuracy", "%", "maximize", "trained"),
        Figure("miou_reduced", "%", "maximize", "trained"),
    )
}


def find_figure(name: str, classes: tuple[str, ...] | None = None) -> Figure:
    """A recorded figure by name; `iou.<class>` for one class (checked where the classes are known).

    Raises:
        UserError: no such figure, or class.
    """
    if name.startswith("iou."):
        known = [f"iou.{label}" for label in classes or ()]
        if classes is not None and name not in known:
            raise unknown("figure", name, known)
        return Figure(name, "%", "maximize", "trained")
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    return FIGURES[name]


def load_function(source: str, folder: Path) -> tuple[Callable[..., float], str]:
    """A user's `file.py:function` (relative to the study file, then to here) and the hash of its file.

    It is called as function(model, measurement): the model on the meta device for stage `cost`, a real one in eval
    mode for `latency`, the trained one for `trained`; the measurement holds what is known so far.

    Raises:
        UserError: the file or the function is not there, or the file does not import.
    """
    return load_attribute(source, folder)


def custom_entry(figure: Figure, value: Any, source_hash: str) -> dict[str, Any]:
    """How a user's figure is kept: never without its source."""
    return {
        "value": float(value),
        "unit": figure.unit,
        "stage": figure.stage,
        "source": figure.source,
        "hash": source_hash,
    }
