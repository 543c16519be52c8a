"""Numbers, figures' names and protocols in words."""

import math
from typing import Any

from nasseg.records import AccuracyProtocol, CostProtocol, Environment, LatencyProtocol

NOTHING = "–"  # noqa: RUF001

LABELS = {
    "number": "trial",
    "macs": "multiply-adds",
    "params": "parameters",
    "fvcore_flops": "FLOPs as fvcore counts",
    "activations": "activations",
    "field_of_view": "field of view",
    "latency_ms": "latency (median)",
    "latency_p90_ms": "latency (p90)",
    "latency_p99_ms": "latency (p99)",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
}
UNITS = {
    "field_of_view": "px",
    "latency_ms": "ms",
    "latency_p90_ms": "ms",
    "latency_p99_ms": "ms",
    "miou": "%",
    "pixel_accuracy": "%",
}


def label(name: str) -> str:
    """A figure's name as people write it; a name that is not nasseg's own stays as it is."""
    return f"IoU of {name.removeprefix('iou.')}" if name.startswith("iou.") else LABELS.get(name, name)


def unit(name: str) -> str:
    return "%" if name.startswith("iou.") else UNITS.get(name, "")


def sentence(text: str) -> str:
    """With a capital, unless the first word has its own (mIoU)."""
    word = text.split(" ", 1)[0]
    return text if any(c.isupper() for c in word) else text[:1].upper() + text[1:]


def number(value: float | None, unit: str = "") -> str:
    """Four digits, with k, M, G or T where no unit stands in the way: 4.914 G, 57.12 %, 13.25 ms."""
    if value is None or math.isnan(value):
        return NOTHING
    size = abs(value)
    if math.isfinite(value) and size >= 1e4 and not unit:
        power = min(4, int(math.log10(size) // 3))
        scaled = f"{value / 1000**power:.4g}"
        if abs(float(scaled)) >= 1000 and power < 4:  # 999,999 rounds up into the next prefix
            power += 1
            scaled = f"{value / 1000**power:.4g}"
        return f"{scaled} {'kMGT'[power - 1]}"
    text = f"{value:,.0f}" if 1e4 <= size < 1e15 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def difference(value: float, unit: str = "") -> str:
    """How far two figures are apart; of percentages in points, for 2 % more of 50 % is 1 point."""
    return number(float(f"{abs(value):.3g}"), "points" if unit == "%" else unit)


def percent(share: float) -> str:
    """A share 0..1 with two digits, and no more certain than it is: 0.3 %, 12 %, over 99 %."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.2g} %" if 100 * share < 99.5 else "100 %"


def duration(seconds: float) -> str:
    """Two digits and more: 45 s, 12.5 min, 3.25 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s"


def plain(value: Any) -> str:
    """A field of an architecture, or any other plain data, as the study file would have it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(plain(item) for item in value) + ")"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return NOTHING if value is None or value == "" else str(value)


def size(value: tuple[int, int]) -> str:
    return f"{value[0]} × {value[1]} pixels"  # noqa: RUF001


def cost_protocol(p: CostProtocol) -> str:
    return f"{size(p.input_size)}, {p.num_classes} classes, {p.form} form; {p.rule}"


def latency_protocol(p: LatencyProtocol) -> str:
    how = f"{p.device}, {p.precision}, {p.backend}, {p.memory_format.replace('_', ' ')}, batch {p.batch}, {p.form} form"
    threads = f"{p.threads} thread{'s' if p.threads != 1 else ''}"
    runs = f"at least {p.min_replicates} runs and {p.min_seconds:g} s after {p.warmup} to warm up"
    return f"{how}, {threads}; {size(p.input_size)}, {p.num_classes} classes; {runs}"


def accuracy_protocol(p: AccuracyProtocol) -> str:
    data = f"{p.data}, split {p.split} (data {p.data_fingerprint})"
    return f"{data}; recipe {p.recipe} ({p.recipe_hash}), {p.steps:,} steps, seed {p.seed}"


def environment(e: Environment) -> str:
    machine = f"{e.cpu}, {e.cores} cores" + (f", {e.gpu}" if e.gpu else "")
    code = f"nasseg {e.nasseg}" + (f" ({e.commit[:10]})" if e.commit else "")
    return f"{machine}; {e.system}; Python {e.python}, torch {e.torch}, {code}"


def moment(text: str | None) -> str:
    """An ISO 8601 time to the second."""
    return (text or "").replace("T", " ").partition(".")[0]
