"""Figures: name, label, unit, direction, phase, part of the measurement, and printed form.

To add a figure, add one entry to `FIGURES` and give its part of the measurement (nasseg.records) a field or property of
that name. Limits, objectives, tables, fronts and reports then know it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nasseg.errors import unknown
from nasseg.own_code import load_code
from nasseg.records import Measurement, StudyRecord
from nasseg.words import number

Direction = Literal["minimize", "maximize"]
Phase = Literal["cost", "latency", "trained"]  # when a figure is known, in the order of an evaluation
Part = Literal["cost", "latency", "accuracy"]  # of a Measurement


@dataclass(frozen=True)
class Figure:
    """A number of a measured network.

    label: its name for readers; empty: `name`. attribute: the attribute of its part; empty: `name`. source:
    `file.py:function` of a user's own figure, else empty.
    """

    name: str
    unit: str
    direction: Direction
    phase: Phase
    source: str = ""
    label: str = ""
    attribute: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)
        object.__setattr__(self, "attribute", self.attribute or self.name)

    @property
    def part(self) -> Part:
        """The part of a measurement that holds the figure. The part's protocol says how it was measured."""
        return "accuracy" if self.phase == "trained" else self.phase

    def of(self, measurement: Measurement) -> float | None:
        """Return the figure; None if it is not measured yet or does not exist (a class that does not occur)."""
        if self.source:
            entry = measurement.custom.get(self.name)
            return None if entry is None else float(entry["value"])
        part = getattr(measurement, self.part)
        if part is None:
            return None
        if self.name.startswith("iou."):
            value = part.class_iou.get(self.name.removeprefix("iou."))
        else:
            value = getattr(part, self.attribute)
        return None if value is None else float(value)

    def text(self, value: float | None) -> str:
        """Format a value with its unit: 4.914 G, 57.12 %, 13.25 ms."""
        return number(value, self.unit)


FIGURES: Mapping[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure("params", "", "minimize", "cost", label="parameters"),
        Figure("macs", "", "minimize", "cost", label="multiply-adds"),
        Figure("fvcore_flops", "", "minimize", "cost", label="FLOPs as fvcore counts"),
        Figure("activations", "", "minimize", "cost", label="activations"),
        Figure("peak_activation_bytes", "B", "minimize", "cost", label="peak activation memory"),
        Figure("eager_memory_bytes", "B", "minimize", "cost", label="activation memory held by eager torch"),
        Figure("field_of_view", "px", "maximize", "cost", label="field of view"),
        Figure("latency_ms", "ms", "minimize", "latency", label="latency (median)", attribute="p50_ms"),
        Figure("latency_p90_ms", "ms", "minimize", "latency", label="latency (p90)", attribute="p90_ms"),
        Figure("latency_p99_ms", "ms", "minimize", "latency", label="latency (p99)", attribute="p99_ms"),
        Figure("energy_mj", "mJ", "minimize", "latency", label="energy of an image on the GPU"),
        Figure("miou", "%", "maximize", "trained", label="mIoU"),
        Figure("pixel_accuracy", "%", "maximize", "trained", label="pixel accuracy"),
        Figure("miou_reduced", "%", "maximize", "trained", label="mIoU^R (without truck, bus and train)"),
    )
}
USUAL = ("macs", "params", "latency_ms", "miou")  # an attribute of every trial, and a column of every table of networks


def find_figure(name: str, classes: tuple[str, ...] | None = None) -> Figure:
    """Return a figure by name. `iou.<class>` is the IoU of one class, checked if the classes are known.

    Raises:
        UserError: no such figure, or class.
    """
    if name.startswith("iou."):
        known = [f"iou.{label}" for label in classes or ()]
        if classes is not None and name not in known:
            raise unknown("figure", name, known)
        return Figure(name, "%", "maximize", "trained", label=f"IoU of {name.removeprefix('iou.')}")
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    return FIGURES[name]


def label_of(name: str) -> str:
    """Return a figure's name for readers; a user's own figure keeps its name."""
    return find_figure(name).label if name in FIGURES or name.startswith("iou.") else name


def figure_in(record: StudyRecord, name: str) -> Figure:
    """Return a figure that a study knows, a user's own too, with its unit and direction there."""
    objective = next((o for o in record.objectives if o.name == name), None)
    if name in FIGURES or name.startswith("iou."):
        figure = find_figure(name)
    else:
        entries = (t.measurement.custom.get(name) for t in record.trials if t.measurement)
        figure = own_figure(name, next((entry for entry in entries if entry), {}))
    return replace(figure, unit=objective.unit, direction=objective.direction) if objective else figure


def own_figure(name: str, entry: Mapping[str, Any]) -> Figure:
    """Return a user's own figure from its entry in a measurement."""
    phase, source = entry.get("phase", "cost"), entry.get("source", "")
    return Figure(name, entry.get("unit", ""), "minimize", phase, source)


def all_figures(measurement: Measurement) -> dict[str, float]:
    """Return every known figure of a measured network by name, users' own too, without the IoU of single classes."""
    known = {name: figure.of(measurement) for name, figure in FIGURES.items()}
    own = {name: float(entry["value"]) for name, entry in measurement.custom.items()}
    return {name: value for name, value in known.items() if value is not None} | own


def least_of(measurement: Measurement) -> dict[str, float | None]:
    """Return the doubtful figures of a measured network, each with its lowest possible value (None: not known).

    A latency timed beside other work is doubtful, and so is its energy.
    """
    latency = measurement.latency
    if latency is None or not latency.disturbed:
        return {}
    known = {name: latency.lower_ms for name, figure in FIGURES.items() if figure.phase == "latency"}
    return {**known, "energy_mj": None}


def value_of(name: str, measurement: Measurement) -> float | None:
    """Return the figure of that name, a user's own too; None if it is not measured."""
    if name in measurement.custom:
        return float(measurement.custom[name]["value"])
    known = name in FIGURES or name.startswith("iou.")
    return find_figure(name).of(measurement) if known else None


def load_function(source: str, folder: Path) -> tuple[Callable[..., float], str]:
    """Load a user's `file.py:function` (relative to the study file, then to here). Return it with its file's hash.

    It is called as function(model, measurement): the model on the meta device in phase `cost`, a real one in eval mode
    in phase `latency`, the trained one in phase `trained`. The measurement holds what is known so far.

    Raises:
        UserError: the file or the function is not there, or the file does not import.
    """
    return load_code(source, folder)


def custom_entry(figure: Figure, value: Any, source_hash: str) -> dict[str, Any]:
    """Return the entry of a user's figure in a measurement, always with its source."""
    return {
        "value": float(value),
        "unit": figure.unit,
        "phase": figure.phase,
        "source": figure.source,
        "hash": source_hash,
    }
