"""Latency beside two training neighbours against a quiet machine, with the lock of the device and without it.

    python -m tests.benchmarks.bench_latency_lock             exit 1 if a median p50 is more than 5 % off
    python -m tests.benchmarks.bench_latency_lock --no-lock   the same without the lock; it must fail

Nothing else should run. The baseline is the same network in the same run: quiet and beside take turns, so that a host
that is slower for a while is so for both.
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

from nasseg.data.dataset import load_data
from nasseg.families import make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.records import LatencyProtocol
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe

SPAWN = multiprocessing.get_context("spawn")
NETWORKS = {"bisenetv2": {"width": 0.5}, "stdc1-seg": {"width": 0.5}, "regseg": {"width": 0.5}, "dabnet": {}}
PROTOCOL = LatencyProtocol(device="cpu", input_size=(256, 512), num_classes=19, min_replicates=20, min_seconds=1.0)
REPEATS, NEIGHBOURS, TOLERANCE = 5, 2, 0.05


def neighbour(locked: bool, active, steps) -> None:
    """Trains while `active`, until it is killed; `steps` counts."""
    torch.set_num_threads(1)
    guard = DeviceLock("cpu").computing if locked else nullcontext
    data = load_data("scenes", size=(64, 128), train=64, val=8)
    model = make_arch("bisenetv2", width=0.5).build(data.num_classes)

    def count(step, loss):
        steps.value += 1
        active.wait()

    train(model, data, Recipe(steps=1_000_000), seed=0, device="cpu", guard=guard, on_step=count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--no-lock", action="store_true")
    locked = not parser.parse_args().no_lock
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NASSEG_LOCKS"] = folder
        exclusive = DeviceLock("cpu").measuring if locked else nullcontext
        active, counters = SPAWN.Event(), [SPAWN.Value("q", 0) for _ in range(NEIGHBOURS)]
        neighbours = [SPAWN.Process(target=neighbour, args=(locked, active, counter)) for counter in counters]
        for process in neighbours:
            process.start()
        while not all(counter.value for counter in counters):
            time.sleep(0.1)
        p50s = {name: {"quiet": [], "beside": []} for name in NETWORKS}
        for name, changes in [*NETWORKS.items()] * REPEATS:
            for condition, found in p50s[name].items():
                (active.set if condition == "beside" else active.clear)()
                time.sleep(0.5)  # a step ends, or begins
                found.append(measure_latency(make_arch(name, **changes), PROTOCOL, exclusive).p50_ms)
        steps = [counter.value for counter in counters]
        for process in neighbours:
            process.kill()
            process.join()
    worst = 0.0
    print(f"{'network':12} {'quiet':>8} {'beside':>8} {'ratio':>7}   median p50 of {REPEATS}, ms (all)")
    for name, both in p50s.items():
        quiet, beside = (statistics.median(values) for values in both.values())
        worst = max(worst, abs(beside / quiet - 1))
        every = "  ".join(" ".join(f"{value:.1f}" for value in values) for values in both.values())
        print(f"{name:12} {quiet:8.2f} {beside:8.2f} {beside / quiet:7.3f}   ({every})")
    print(f"the neighbours trained {steps} steps meanwhile")
    print(
        f"{'with' if locked else 'without'} the lock: {100 * worst:.1f} % off at worst, {100 * TOLERANCE:.0f} % allowed"
    )
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
