"""A GPU for machines without one: the C functions of NVML, torch.cuda as far as it is used, and one clock for both.

NVML is faked below its Python binding, which is the real one: its calls, conversions and errors are what they are.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml
import torch

from nasseg.measure.environment import environment
from nasseg.measure.nvml import find_gpu

UUIDS = ("4f2a0000-0000-0000-0000-000000000000", "77770000-0000-0000-0000-000000000001")
COUNTER_SECONDS = 0.02  # between two steps of the energy counter


@dataclass
class FakeGpu:
    """Stand-ins for a machine with two GPUs. now: seconds; it moves on when networks run.

    clock: MHz at a time. samples: (process, microseconds, percent of the GPU). unsupported: functions of NVML that this
    GPU does not have. calls: of torch.cuda, in their order.
    """

    now: float = 1000.0
    clock: object = lambda _now: 1980
    reasons: int = 0
    watts: float = 300.0
    mig: bool | None = None
    processes: tuple[int, ...] = ()
    samples: tuple[tuple[int, int, int], ...] = ()
    unsupported: frozenset[str] = frozenset()
    free: int = 60
    total: int = 100
    reserved: int = 30
    calls: list[str] = field(default_factory=list)
    begin: float = 1000.0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def __getattr__(self, name):
        """Return a function of NVML's library, as ctypes does; AttributeError if the driver is too old for it."""
        if not name.startswith("nvml"):
            raise AttributeError(name)
        function = getattr(type(self), re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(), None)
        if function is None:
            raise AttributeError(name)

        def call(*arguments):
            return pynvml.NVML_ERROR_NOT_SUPPORTED if name in self.unsupported else function(self, *arguments)

        return call

    def nvml_init_with_flags(self, _flags):
        return 0

    def nvml_system_get_driver_version(self, buffer, _size):
        buffer.value = b"570.86.15"
        return 0

    def nvml_device_get_handle_by_uuid(self, uuid, _handle):
        known = {f"{'MIG' if self.mig else 'GPU'}-{one}".encode() for one in UUIDS}
        return 0 if uuid.value in known else pynvml.NVML_ERROR_NOT_FOUND

    def nvml_device_get_device_handle_from_mig_device_handle(self, _instance, _handle):
        return 0

    def nvml_device_get_mig_mode(self, _handle, current, pending):
        if self.mig is None:
            return pynvml.NVML_ERROR_NOT_SUPPORTED
        current._obj.value = pending._obj.value = self.mig
        return 0

    def nvml_device_get_clock_info(self, _handle, kind, clock):
        assert kind.value == pynvml.NVML_CLOCK_SM
        clock._obj.value = self.clock(self.now - self.begin)
        return 0

    def nvml_device_get_max_clock_info(self, _handle, _kind, clock):
        clock._obj.value = 1980
        return 0

    def nvml_device_get_current_clocks_event_reasons(self, _handle, reasons):
        reasons._obj.value = self.reasons
        return 0

    def nvml_device_get_enforced_power_limit(self, _handle, milliwatts):
        milliwatts._obj.value = 700_000
        return 0

    def nvml_device_get_total_energy_consumption(self, _handle, millijoules):
        steps = (self.now + 1e-9) // COUNTER_SECONDS
        millijoules._obj.value = round(1e3 * self.watts * steps * COUNTER_SECONDS)
        return 0

    def nvml_device_get_compute_running_processes_v3(self, _handle, count, processes):
        if processes is None:
            count._obj.value = len(self.processes)
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE if self.processes else 0
        count._obj.value = len(self.processes)
        for entry, pid in zip(processes, self.processes, strict=False):
            entry.pid = pid
        return 0

    def nvml_device_get_process_utilization(self, _handle, samples, count, since):
        newer = [one for one in self.samples if one[1] > since.value]
        if not newer:
            return pynvml.NVML_ERROR_NOT_FOUND
        count._obj.value = len(newer)
        if samples is None:
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        for entry, (pid, microseconds, percent) in zip(samples, newer, strict=True):
            entry.pid, entry.timeStamp, entry.smUtil = pid, microseconds, percent
        return 0


class _Event:
    """A CUDA event: it is recorded at the GPU's time."""

    def __init__(self, gpu):
        self.gpu, self.at = gpu, None

    def record(self):
        self.at = self.gpu.now

    def synchronize(self):
        assert self.at is not None

    def elapsed_time(self, end):
        return 1e3 * (end.at - self.at)


def install(monkeypatch, gpu: FakeGpu, with_nvml: bool = True) -> FakeGpu:
    """Put a fake GPU in place of CUDA and NVML's library, until the test ends."""
    forget()
    monkeypatch.setattr(pynvml, "nvmlLib", gpu if with_nvml else None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    @contextmanager
    def device(_name):
        yield

    def called(name, result=None):
        return lambda *_arguments: (gpu.calls.append(name), result)[1]

    def properties(name):
        return SimpleNamespace(uuid=UUIDS[torch.device(name).index or 0])

    fakes = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: len(UUIDS),
        "get_device_properties": properties,
        "get_device_name": lambda name=None: f"NVIDIA H200 number {torch.device(name or 'cuda').index or 0}",
        "synchronize": called("synchronize"),
        "empty_cache": called("empty_cache"),
        "mem_get_info": lambda _device=None: (gpu.free, gpu.total),
        "memory_reserved": lambda _device=None: gpu.reserved,
        "device": device,
        "Event": lambda **_options: _Event(gpu),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return gpu


def clock_of(gpu: FakeGpu) -> SimpleNamespace:
    """Return the module `time` with the fake GPU's clock."""
    return SimpleNamespace(
        perf_counter=lambda: gpu.now,
        thread_time=lambda: gpu.now,
        time_ns=lambda: round(1e9 * gpu.now),
        sleep=gpu.pass_time,
    )


def forget() -> None:
    """Forget what the process remembers of its device."""
    for remembered in (find_gpu, environment):
        remembered.cache_clear()
