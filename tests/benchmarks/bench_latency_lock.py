"""Latency beside two training neighbours against a quiet machine, with the lock of the device and without it.

    python -m tests.benchmarks.bench_latency_lock             exit 1 if a median p50 is more than 5 % off
    python -m tests.benchmarks.bench_latency_lock --no-lock   the same without the lock; it must fail

Nothing else should run. The baseline is the same network, measured in the same run before the neighbours start and
after they are gone.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext

import torch

from nasseg.families import make_arch
from nasseg.measure.device_lock import DeviceLock
from nasseg.measure.latency import measure_latency
from nasseg.records import LatencyProtocol
from nasseg.train.data import load_data
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe

SPAWN = multiprocessing.get_context("spawn")
NETWORKS = {"bisenetv2": {"width": 0.5}, "stdc1-seg": {"width": 0.5}, "regseg": {"width": 0.5}, "dabnet": {}}
PROTOCOL = LatencyProtocol(device="cpu", input_size=(256, 512), num_classes=19, min_replicates=20, min_seconds=1.0)
REPEATS, NEIGHBOURS, TOLERANCE = 5, 2, 0.05


def neighbour(locked: bool, steps) -> None:
    """Trains until it is killed; `steps` counts."""
    torch.set_num_threads(1)
    guard = DeviceLock("cpu").computing if locked else nullcontext
    data = load_data("scenes", size=(64, 128), train=64, val=8)
    model = make_arch("bisenetv2", width=0.5).build(data.num_classes)

    def count(step, loss):
        steps.value += 1

    train(model, data, Recipe(steps=1_000_000), seed=0, device="cpu", guard=guard, on_step=count)


def p50s(locked: bool) -> dict[str, float]:
    """Median p50 of REPEATS measurements of each network, in ms."""
    exclusive = DeviceLock("cpu").measuring if locked else nullcontext
    found = {name: [] for name in NETWORKS}
    for _ in range(REPEATS):
        for name, changes in NETWORKS.items():
            found[name].append(measure_latency(make_arch(name, **changes), PROTOCOL, exclusive).p50_ms)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--no-lock", action="store_true")
    locked = not parser.parse_args().no_lock
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NASSEG_LOCKS"] = folder
        before = p50s(locked)
        counters = [SPAWN.Value("q", 0) for _ in range(NEIGHBOURS)]
        neighbours = [SPAWN.Process(target=neighbour, args=(locked, counter)) for counter in counters]
        for process in neighbours:
            process.start()
        while not all(counter.value for counter in counters):
            time.sleep(0.1)
        begun, steps = time.monotonic(), [counter.value for counter in counters]
        beside = p50s(locked)
        seconds, steps = time.monotonic() - begun, [c.value - s for c, s in zip(counters, steps, strict=True)]
        for process in neighbours:
            process.kill()
            process.join()
        after = p50s(locked)
    worst = 0.0
    print(f"{'network':12} {'quiet':>8} {'beside':>8} {'quiet':>8}   p50 in ms, ratio beside / quiet")
    for name in NETWORKS:
        ratio = beside[name] / ((before[name] + after[name]) / 2)
        worst = max(worst, abs(ratio - 1))
        print(f"{name:12} {before[name]:8.2f} {beside[name]:8.2f} {after[name]:8.2f}   {ratio:.3f}")
    print(f"{NEIGHBOURS} neighbours trained {steps} steps in the {seconds:.0f} s of measuring")
    print(
        f"{'with' if locked else 'without'} the lock: {100 * worst:.1f} % off at worst, {100 * TOLERANCE:.0f} % allowed"
    )
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
