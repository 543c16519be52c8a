"""Parts that the steps of the agenda share: settings, networks, and how their items are run one by one.

A step is a module with `items(options)`, which yields the key of each thing to measure and a function that returns its
figures, and `summary(rows, options)`, which makes something of the rows by key.
"""

import importlib
import json
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nasseg.families import Arch, make_arch, variants
from nasseg.measure.latency.backends import numerics, runner
from nasseg.records import LatencyProtocol
from tests.gpu.agenda import note

FAMILIES = ("bisenetv2", "stdc", "eseg", "regseg", "dabnet")
PUBLISHED = {  # the network that each paper is known by
    "bisenetv2": "bisenetv2",
    "stdc": "stdc1-seg",
    "eseg": "eseg-lite-s",
    "regseg": "regseg",
    "dabnet": "dabnet",
}
CLASSES = 19
SPARE = 10.0  # seconds before a step is killed, in which nothing new is begun

Row = dict[str, Any]
Items = Iterator[tuple[str, Callable[[], Row]]]


@dataclass(frozen=True)
class Options:
    """device: cuda, cuda:N or cpu. tiny: the same code on few small networks and images.

    data: the folder of CamVid; procedural scenes without it. folder: for what a step leaves beside the results.
    """

    device: str
    tiny: bool
    data: Path | None = None
    folder: Path = Path()

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def size(self) -> tuple[int, int]:
        return (64, 128) if self.tiny else (512, 1024)

    def protocol(self, **settings: Any) -> LatencyProtocol:
        quick = {"warmup": 1, "min_replicates": 3, "min_seconds": 0.0} if self.tiny else {}
        given = {"warmup": 10, "min_replicates": 50, "min_seconds": 0.2, **quick}
        known = {"device": self.device, "input_size": self.size, "num_classes": CLASSES}
        return LatencyProtocol(**{**known, **given, **settings})

    def ways(self) -> list[dict[str, str]]:
        """Precisions and backends, those of most interest first."""
        if not self.cuda:
            return [{"precision": "fp32", "backend": "eager"}]
        backends = ("cuda-graph", "eager")
        return [{"precision": p, "backend": b} for b in backends for p in ("fp16", "fp32")]


def published(options: Options) -> dict[str, Arch]:
    """Every published variant by name, those that the papers are known by first; tiny: narrow forms of two."""
    if options.tiny:
        return {f"{name}, width 0.25": make_arch(name, width=0.25) for name in ("regseg", "bisenetv2")}
    return {name: make_arch(name) for name in [*PUBLISHED.values(), *variants()]}


def of_family(family: str, options: Options) -> Arch:
    return make_arch(PUBLISHED[family], **({"width": 0.25} if options.tiny else {}))


def some(options: Options) -> tuple[str, ...]:
    return ("regseg", "bisenetv2") if options.tiny else FAMILIES


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def wall_ms(arch: Arch, protocol: LatencyProtocol, rounds: int) -> float:
    """Milliseconds of a call by the wall clock, the device waited for before and after each."""
    found = []
    with numerics(protocol), torch.inference_mode():
        run = runner(arch, protocol)
        for _ in range(rounds):
            wait(protocol.device)
            begun = time.perf_counter()
            run()
            wait(protocol.device)
            found.append(1e3 * (time.perf_counter() - begun))
    return median(found)


def logits_of(arch: Arch, protocol: LatencyProtocol) -> torch.Tensor:
    with numerics(protocol), torch.inference_mode():
        torch.manual_seed(0)
        found = runner(arch, protocol)()
        wait(protocol.device)
    return found.double().cpu()


def rows_of(results: Path, step: str, options: Options) -> dict[str, Row]:
    """Return the results of a step under these options, by key; what failed is left out."""
    lines = results.read_text().splitlines() if results.exists() else []
    found: dict[str, Row] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # cut when a machine went
            continue
        if (row["step"], row.get("device"), row.get("tiny")) == (step, options.device, options.tiny):
            found[row["key"]] = row
    return {key: row for key, row in found.items() if "failed" not in row and key != "end"}


def run_step(name: str, given: Namespace, seconds: float) -> int:
    """Measure what a file of results lacks of a step while there is time; 1 where something failed."""
    options = Options(given.device, given.tiny, given.data and given.data.resolve(), given.results.resolve().parent)
    known, begun, left_out, failures = rows_of(given.results, name, options), time.monotonic(), [], []
    write = partial(_write, given.results, {"step": name, "device": options.device, "tiny": options.tiny})
    module = importlib.import_module(f"tests.gpu.steps.{name}")
    torch.set_num_threads(1)
    for key, measure in module.items(options):
        if key in known:
            continue
        now = time.monotonic() - begun
        if now > seconds - SPARE:
            left_out.append(key)
            continue
        try:
            row = measure()
        except Exception as error:  # what fails is a result
            row = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            failures.append(key)
        write(key, round(time.monotonic() - begun - now, 2), row)
    rows = rows_of(given.results, name, options)
    end = {"left out for lack of time": left_out, "could not": failures, "summary": module.summary(rows, options)}
    write("end", round(time.monotonic() - begun, 2), end)
    print(json.dumps(end, indent=1, default=str)[:4_000], flush=True)
    return int(bool(failures))


def _write(results: Path, known: Row, key: str, seconds: float, row: Row) -> None:
    note(results, {**known, "key": key, "seconds": seconds, **row})
