"""What the lock is good for: p50 alone, and beside two neighbours that train, with the device's lock and without."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from nasseg.families import make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from tests.gpu.common import Items, Options, Row, of_family, some, wait

NEIGHBOURS = 2
HOW = ("alone", "beside two, without the lock", "beside two, with the lock")


def items(options: Options) -> Items:
    for how in HOW:
        for family in some(options)[: 1 if options.tiny else 3]:
            yield f"{family}, {how}", partial(timed, family, how, options)


def timed(family: str, how: str, options: Options) -> Row:
    locked = how != HOW[1]
    lock = DeviceLock(options.device)
    with neighbours(0 if how == HOW[0] else NEIGHBOURS, locked, options) as steps:
        before = sum(steps)
        found = measure_latency(
            of_family(family, options),
            options.protocol(**options.ways()[0]),
            lock.measuring if locked else nullcontext,
        )
        known = {"p50_ms": found.p50_ms, "p90_ms": found.p90_ms, "disturbed": found.disturbed, "load": found.load}
        row = {**known, "clocks_mhz": found.clocks_mhz, "steps of the neighbours meanwhile": sum(steps) - before}
    lock.close()
    return row


@contextmanager
def neighbours(count: int, locked: bool, options: Options) -> Iterator[Any]:
    """Let others train beside; yields how many steps each made."""
    spawn = multiprocessing.get_context("spawn")
    steps = spawn.Array("q", max(count, 1))
    processes = [
        spawn.Process(target=train, args=(place, steps, locked, options), daemon=True) for place in range(count)
    ]
    try:
        for process in processes:
            process.start()
        while count and not all(steps[:]):
            time.sleep(0.05)
            if dead := [process.exitcode for process in processes if process.exitcode is not None]:
                raise RuntimeError(f"a neighbour ended with {dead}")
        yield steps
    finally:
        for process in processes:
            process.kill()
            process.join()


def train(place: int, steps: Any, locked: bool, options: Options) -> None:
    """Make steps of a plain training until killed."""
    torch.set_num_threads(1)
    lock = DeviceLock(options.device)
    model = make_arch("regseg", width=0.25).build(3).to(options.device)
    images = torch.randn(4, 3, *options.size, device=options.device)
    while True:
        with lock.computing() if locked else nullcontext():
            model(images).square().mean().backward()
            wait(options.device)
        steps[place] += 1


def summary(rows: dict[str, Row], _options: Options) -> Row:
    """By network: p50 beside neighbours over p50 alone."""
    found: Row = {}
    for key, row in rows.items():
        family, how = key.split(", ", 1)
        alone = rows.get(f"{family}, {HOW[0]}")
        if alone and how != HOW[0]:
            found[key] = {"over alone": row["p50_ms"] / alone["p50_ms"], "marked": row["disturbed"]}
    return found
