"""Protocols and environments in words."""

from functools import lru_cache

from nasseg.records import AccuracyProtocol, CostProtocol, Environment, LatencyProtocol
from nasseg.words import counted

_ONCE = lru_cache(1_000)  # thousands of trials share one


def _size(value: tuple[int, int]) -> str:
    return f"{value[0]} × {value[1]} pixels"  # noqa: RUF001


@_ONCE
def cost_protocol(p: CostProtocol) -> str:
    return f"{_size(p.input_size)}, {p.num_classes} classes, {p.form} form; {p.rule}"


@_ONCE
def latency_protocol(p: LatencyProtocol) -> str:
    how = f"{p.device}, {p.precision}, {p.backend}, {p.memory_format.replace('_', ' ')}, batch {p.batch}, {p.form} form"
    threads = counted(p.threads, "thread")
    warm = f"{p.warmup} for warm-up" + (", at least half a second" if p.device.startswith("cuda") else "")
    runs = f"at least {p.min_replicates} runs and {p.min_seconds:g} s after {warm}"
    return f"{how}, {threads}; {_size(p.input_size)}, {p.num_classes} classes; {runs}; {p.rule}"


@_ONCE
def accuracy_protocol(p: AccuracyProtocol) -> str:
    data = f"{p.data}, split {p.split} (data {p.data_fingerprint})"
    return f"{data}; recipe {p.recipe} ({p.recipe_hash}), {p.steps:,} steps, seed {p.seed}"


@_ONCE
def environment(e: Environment) -> str:
    machine = f"{e.cpu}, {e.cores} cores" + (f", {e.device('cuda')}" if e.gpu else "")
    code = f"nasseg {e.nasseg}" + (f" ({e.commit[:10]})" if e.commit else "")
    return f"{machine}; {e.system}; Python {e.python}, torch {e.torch}, {code}"
