"""Measure in a few seconds how fast this machine is: the latency and the training step of small networks."""

import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from nasseg.errors import UserError
from nasseg.families import Arch, arch_of
from nasseg.measure.latency.attempts import measure_latency
from nasseg.records import LatencyProtocol, Size
from nasseg.space import Space, load_space

_DRAWN = 3  # networks of the space, evenly spread over their size
_SEED = 0


@dataclass(frozen=True)
class Machine:
    """A machine's measured speed. latencies: ms of networks of a space, ascending; step: seconds of a training step.

    device: `cpu` or `cuda`; workers: the number of trainings that may run in parallel. disturbed: the latencies were
    timed beside other work, so the best run of each counts.
    """

    device: str
    workers: int
    latencies_ms: tuple[float, ...]
    step_seconds: float
    disturbed: bool = False


def measure_machine(space: str, size: Size, crop: Size, batch: int, num_classes: int) -> Machine:
    """Time a few networks of a space at the images' size, and training steps of the middle one at the crop's size.

    On a CPU each worker trains with one thread, so one thread is timed.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    workers = 1 if device == "cuda" else min(8, len(os.sched_getaffinity(0)))
    archs = draw(load_space(space))
    protocol = LatencyProtocol(
        input_size=size, num_classes=num_classes, device=device, threads=1, min_replicates=3, min_seconds=0.1, warmup=1
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = [measure_latency(arch, protocol) for arch in archs]
        step = step_seconds(archs[len(archs) // 2], crop, batch, num_classes, device)
    finally:
        torch.set_num_threads(threads)
    latencies = tuple(sorted((one.disturbed and one.lower_ms) or one.p50_ms for one in timed))
    return Machine(device, workers, latencies, step, any(latency.disturbed for latency in timed))


def draw(space: Space) -> list[Arch]:
    """Return networks of a space: by their parameters, a small, a middle and a large one of two dozen."""
    rng = random.Random(_SEED)
    found = []
    for _ in range(24):
        with suppress(UserError):  # the family refuses this combination
            found.append(arch_of(space.settings(space.sample(rng))))
    found.sort(key=lambda arch: sum(parameter.numel() for parameter in arch.build(2).parameters()))
    return [found[len(found) * place // _DRAWN + len(found) // (2 * _DRAWN)] for place in range(_DRAWN)]


def step_seconds(arch: Arch, crop: Size, batch: int, num_classes: int, device: str) -> float:
    """Return the seconds of a training step (forward, backward, update): the second of two."""
    torch.manual_seed(_SEED)
    model = arch.build(num_classes).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, *crop, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(num_classes, (batch, *crop), device=device)
    seconds = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
    return seconds


def median(values: Sequence[float]) -> float:
    """Return the middle of ascending values."""
    return values[len(values) // 2]
