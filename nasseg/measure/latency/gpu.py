"""A GPU while networks are timed on it: disturbances, the energy per image, and its memory afterwards."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nasseg.errors import UserError
from nasseg.measure.nvml import POWER_CAP, SETTING, Gpu, find_gpu, slowdowns
from nasseg.records import Energy, LatencyProtocol

WARM_UP_SECONDS = 0.5  # until clocks have risen
# Bounds from what is known of GPUs; to be revised once they are measured.
MAX_CLOCK_CHANGE = 0.1
MIN_CLOCK = 0.75  # of the highest clock, unless a setting or the power limit lowers it
MAX_OTHER_PERCENT = 5.0  # share of the GPU used by another process
MAX_BETWEEN_HALVES = 0.05
MAX_SPREAD = 0.1

ENERGY_SECONDS = 1.0
_BURST_SECONDS = 0.01  # between two reads of the counter, which changes 10 to 50 times a second
_STANDS_STILL = 2.0


def on_gpu(device: str) -> bool:
    return device.partition(":")[0] == "cuda"


@dataclass(frozen=True)
class Seen:
    """The state of a GPU during a measurement.

    clocks_mhz: after the warm-up and at the end; None: not reported. reasons: why clocks were low, as NVML's bits.
    other: the process that computed beside it, and its percentage of the GPU.
    """

    clocks_mhz: tuple[float, float] | None = None
    max_clock_mhz: float | None = None
    reasons: int = 0
    other: tuple[int, float] | None = None

    @property
    def doubts(self) -> dict[str, float]:
        """The disturbances in words, with their strength; above 1 is too much."""
        found: dict[str, float] = {}
        if self.clocks_mhz:
            before, after = self.clocks_mhz
            found[f"its clock went from {before:g} to {after:g} MHz"] = _change(before, after) / MAX_CLOCK_CHANGE
        if self.clocks_mhz and self.max_clock_mhz and not self.reasons & (POWER_CAP | SETTING):
            lowest = min(self.clocks_mhz)
            share = MIN_CLOCK * self.max_clock_mhz / max(lowest, 1.0)
            found[f"its clock is {lowest:g} of {self.max_clock_mhz:g} MHz"] = share
        if why := slowdowns([self.reasons]):
            found[f"it is slowed down by {', '.join(why)}"] = 2.0
        if self.other:
            pid, percent = self.other
            found[f"process {pid} takes {percent:.0f} % of the GPU"] = percent / MAX_OTHER_PERCENT
        return found

    def doubts_of(self, ms: np.ndarray) -> dict[str, float]:
        """Return the doubts about times [n] measured meanwhile, in order of time."""
        p25, p50, p75 = np.percentile(ms, [25, 50, 75])
        spread, half = float((p75 - p25) / p50), len(ms) // 2
        moved = _change(float(np.median(ms[:half])), float(np.median(ms[half:]))) if half else 0.0
        return {
            f"its times differ by {spread:.0%}": spread / MAX_SPREAD,
            f"its times drifted by {moved:.0%}": moved / MAX_BETWEEN_HALVES,
            **self.doubts,
        }


def _change(before: float, after: float) -> float:
    return abs(after - before) / max(before, 1e-9)


class Watch:
    """An observer of a GPU, from the moment it is warm."""

    def __init__(self, device: str) -> None:
        self._gpu = find_gpu(device)
        self._since_us = time.time_ns() // 1000
        self._clock, self._reasons = self._look()

    def seen(self) -> Seen:
        """Return what was seen so far."""
        clock, reasons = self._look()
        return Seen(
            clocks_mhz=None if self._clock is None or clock is None else (self._clock, clock),
            max_clock_mhz=self._gpu.max_clock_mhz if self._gpu else None,
            reasons=self._reasons | reasons,
            other=self._gpu.busiest_other(self._since_us) if self._gpu else None,
        )

    def _look(self) -> tuple[float | None, int]:
        return (self._gpu.clock_mhz, self._gpu.reasons) if self._gpu else (None, 0)


def check_energy(protocol: LatencyProtocol) -> None:
    """Check that the energy of networks can be measured under a protocol here.

    Raises:
        UserError: it cannot.
    """
    if not on_gpu(protocol.device) or protocol.backend == "command":
        where = "a target's command" if protocol.backend == "command" else protocol.device
        raise UserError(
            f"energy_mj is measured on a GPU of this machine, not on {where}: set latency.device, or drop energy_mj"
        )
    if _counter(protocol.device) is None:
        raise UserError(
            f"energy_mj cannot be measured on {protocol.device}: NVML has no energy counter for it (GPUs before Volta "
            "and MIG instances have none); drop it from objectives and limits"
        )


def _counter(device: str) -> Gpu | None:
    gpu = find_gpu(device)
    return gpu if gpu and gpu.energy_mj is not None else None


@torch.inference_mode()
def measure_energy(run: Callable[[], Any], protocol: LatencyProtocol, ms: float) -> Energy | None:
    """Return the energy per image on a GPU that is warm and held alone; None if it cannot be measured.

    The network runs from one step of the board's counter to another, at least a second later. ms: of a batch, roughly.
    """
    gpu = _counter(protocol.device)
    if gpu is None:
        return None
    runs, at_once = 0, max(1, round(1e3 * _BURST_SECONDS / ms))

    def burst() -> None:
        nonlocal runs
        for _ in range(at_once):
            run()
        torch.cuda.synchronize(protocol.device)
        runs += at_once

    def next_step() -> tuple[int, float, int]:
        """Run until the counter changes. Return its value, the time, and the number of runs."""
        before, began = gpu.energy_mj, time.perf_counter()
        while gpu.energy_mj == before and time.perf_counter() - began < _STANDS_STILL:
            burst()
        return gpu.energy_mj or 0, time.perf_counter(), runs

    with torch.cuda.device(protocol.device):
        begin_mj, begin, done = next_step()
        while time.perf_counter() - begin < ENERGY_SECONDS:
            burst()
        end_mj, end, all_runs = next_step()
    images = (all_runs - done) * protocol.batch
    if end_mj <= begin_mj or not images:
        return None
    return Energy(mj=(end_mj - begin_mj) / images, seconds=end - begin, images=images)


def free_memory(device: str) -> None:
    """Free the GPU memory that a process keeps for later, so that others can use it.

    The caller has dropped its networks and holds the device's lock.
    """
    if on_gpu(device) and torch.cuda.is_initialized():
        gc.collect()  # compiled networks are in reference cycles
        torch.cuda.empty_cache()


def held_by_others(device: str) -> float:
    """Return the share of a GPU's memory that other processes hold."""
    free, total = torch.cuda.mem_get_info(device)
    return max(0.0, 1 - (free + torch.cuda.memory_reserved(device)) / total)
