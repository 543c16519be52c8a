"""GPUs as NVIDIA's management library (NVML) sees them: clocks, other processes, energy, driver.

It is only asked: no clock, limit or mode is ever changed. What it does not tell of a device is None; of a MIG instance
that is most.
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
    """Return the UUID of a CUDA device, by whatever number this process sees it.

    Raises:
        UserError: torch sees no such device.
    """
    if not re.fullmatch(r"cuda(:\d{1,3})?", device):
        raise UserError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= count:
        raise UserError(f"device {device} is not to be had: torch sees {count or 'no'} CUDA devices here; use cpu")
    return str(torch.cuda.get_device_properties(device).uuid)


@dataclass(frozen=True)
class Gpu:
    """A GPU, by its handle. uuid: of the device that computes, an instance of the GPU if that is in MIG mode."""

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
        """The reasons why its clocks are low now, as bits; 0 if there is none, or none is told."""
        return int(self._ask("CurrentClocksEventReasons") or 0)

    @property
    def energy_mj(self) -> int | None:
        """Millijoules of the whole board since the driver was loaded; None for an instance, which has no counter."""
        found = None if self.mig else self._ask("TotalEnergyConsumption")
        return None if found is None else int(found)

    def busiest_other(self, since_us: int) -> tuple[int, float] | None:
        """Return which other process computed most since a time (microseconds of the epoch), and percent of the GPU.

        None: none did, or it is not told. In a container NVML may number processes as the host does: if this one is
        not among them, the busiest is taken for it.
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
        """Return NVML's answer about the device; None where it has none."""
        try:
            return getattr(self.nvml, f"nvmlDeviceGet{question}")(self.handle, *details)
        except self.nvml.NVMLError:
            return None


@cache
def find_gpu(device: str) -> Gpu | None:
    """Return what NVML knows of a CUDA device of this process; None if there is no NVML, or it does not know it.

    Raises:
        UserError: torch sees no such device.
    """
    uuid = uuid_of(device)
    try:
        import pynvml
    except ImportError:  # a machine to which only the code was carried
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
    """Return the reasons among these, as bits, that slow a GPU down below what its settings ask for, in words."""
    return sorted({words for found in reasons for bit, words in SLOWDOWNS.items() if found & bit})
