"""GPUs as NVIDIA's management library (NVML) sees them: clocks, other processes, energy, driver.

It only reads: no clock, limit or mode is ever changed. Values that it does not report for a device are None; for a MIG
instance, most are.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import torch

from nasseg.errors import UserError

# Reasons why clocks are lower than they could be.
POWER_CAP, SETTING = 0x4, 0x2  # the board's power limit; the clocks that an administrator asked for
SLOWDOWNS = {0x8: "hardware slowdown", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}


def uuid_of(device: str) -> str:
    """Return the UUID of a CUDA device, given its number in this process.

    Raises:
        UserError: torch sees no such device.
    """
    if not re.fullmatch(r"cuda(:\d{1,3})?", device):
        raise UserError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= count:
        raise UserError(f"device {device} is not available: torch sees {count or 'no'} CUDA devices here; use cpu")
    return str(torch.cuda.get_device_properties(device).uuid)


@dataclass(frozen=True)
class Gpu:
    """A GPU, by its handle. uuid: of the device that computes: an instance of the GPU in MIG mode."""

    nvml: Any
    handle: Any
    uuid: str
    mig: bool

    @property
    def driver(self) -> str:
        return str(self.nvml.nvmlSystemGetDriverVersion())

    @property
    def power_limit_watts(self) -> float | None:
        milliwatts = self._ask("EnforcedPowerLimit")
        return None if milliwatts is None else milliwatts / 1e3

    @property
    def clock_mhz(self) -> float | None:
        """The clock of its multiprocessors."""
        return self._clock("ClockInfo")

    @property
    def max_clock_mhz(self) -> float | None:
        return self._clock("MaxClockInfo")

    def _clock(self, question: str) -> float | None:
        found = self._ask(question, self.nvml.NVML_CLOCK_SM)
        return None if found is None else float(found)

    @property
    def reasons(self) -> int:
        """The reasons why its clocks are low now, as bits; 0 if there are none, or none are reported."""
        return int(self._ask("CurrentClocksEventReasons") or 0)

    @property
    def energy_mj(self) -> int | None:
        """Millijoules of the whole board since the driver was loaded; None for an instance, which has no counter."""
        found = None if self.mig else self._ask("TotalEnergyConsumption")
        return None if found is None else int(found)

    def busiest_other(self, since_us: int) -> tuple[int, float] | None:
        """Return the other process that computed most since a time (microseconds of the epoch), and its GPU percentage.

        None: none did, or it is not reported. In a container NVML may use the host's process numbers: if this process
        is not among them, the busiest one is taken to be it.
        """
        shares: dict[int, list[int]] = defaultdict(list)
        for sample in self._ask("ProcessUtilization", since_us) or ():
            if sample.timeStamp > since_us:
                shares[sample.pid].append(sample.smUtil)
        used = sorted((fmean(each), pid) for pid, each in shares.items())
        known = {process.pid for process in self._ask("ComputeRunningProcesses") or ()}
        others = [one for one in used if one[1] != os.getpid()] if os.getpid() in known else used[:-1]
        return (others[-1][1], others[-1][0]) if others else None

    def _ask(self, question: str, *details: object) -> Any:
        """Return NVML's answer about the device; None if it has none."""
        try:
            return getattr(self.nvml, f"nvmlDeviceGet{question}")(self.handle, *details)
        except self.nvml.NVMLError:
            return None


@cache
def find_gpu(device: str) -> Gpu | None:
    """Return what NVML knows about a CUDA device of this process; None without NVML, or if it does not know the device.

    Raises:
        UserError: torch sees no such device.
    """
    uuid = uuid_of(device)
    try:
        import pynvml
    except ImportError:  # a machine with only the code copied to it
        return None
    for kind in ("GPU", "MIG"):
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"{kind}-{uuid}")
            if kind == "MIG":
                handle = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            return Gpu(pynvml, handle, uuid, kind == "MIG" or _in_mig_mode(pynvml, handle))
        except pynvml.NVMLError:
            continue
    return None


def _in_mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    except nvml.NVMLError:  # most GPUs have no such mode
        return False


def slowdowns(reasons: Iterable[int]) -> list[str]:
    """Return in words which of these reasons (as bits) slow a GPU down below its settings."""
    return sorted({words for found in reasons for bit, words in SLOWDOWNS.items() if found & bit})
