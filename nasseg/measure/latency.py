"""Latency, timed on the device: warm-up, replicates, percentiles, and a look at whether something else was running."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from nasseg.errors import UserError
from nasseg.families.arch import Arch
from nasseg.measure.environment import environment
from nasseg.records import Latency, LatencyProtocol

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_REPLICATES = 2_000
ATTEMPTS = 3
# On a quiet machine one thread's wall time is its CPU time, and the quartiles of small networks lie 3-17 % apart.
MAX_WALL_OVER_CPU = 1.1
MAX_SPREAD = 0.25


def measure_latency(
    arch: Arch, protocol: LatencyProtocol, exclusive: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Latency:
    """Milliseconds a batch of an arch's inference form, random weights (they do not matter to dense networks).

    `exclusive` is entered around each attempt, for a lock that keeps others off the device. A disturbed attempt (wall
    over CPU time, or spread) is repeated; after three the least disturbed is kept and marked.

    Raises:
        UserError: the device or precision is not to be had here.
    """
    check_protocol(protocol)
    threads = torch.get_num_threads()
    torch.set_num_threads(protocol.threads)
    try:
        run, attempts = None, []
        for _ in range(ATTEMPTS):
            with exclusive():
                run = run or _runner(arch, protocol)  # building is work on the device, too
                wall, cpu = _time(run, protocol)
            spread = float(np.subtract(*np.percentile(wall, [75, 25])) / np.median(wall))
            load = float(wall.sum() / cpu) if protocol.device == "cpu" and protocol.threads == 1 else 1.0
            attempts.append((max(load / MAX_WALL_OVER_CPU, spread / MAX_SPREAD), wall))
            if attempts[-1][0] <= 1:
                break
    finally:
        torch.set_num_threads(threads)
    disturbance, wall = min(attempts, key=lambda attempt: attempt[0])
    p25, p50, p75, p90, p99 = np.percentile(wall * 1e3, [25, 50, 75, 90, 99])
    return Latency(
        protocol=protocol,
        environment=environment(),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        iqr_ms=float(p75 - p25),
        n=len(wall),
        disturbed=disturbance > 1,
    )


def check_protocol(protocol: LatencyProtocol) -> None:
    kind = protocol.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device must be cpu, cuda or cuda:N, got {protocol.device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {protocol.device} is not to be had: torch sees no CUDA here; use cpu")
    if protocol.precision not in DTYPES:
        raise UserError(f"precision must be one of {', '.join(DTYPES)}, got {protocol.precision!r}")
    if kind == "cpu" and protocol.precision == "fp16":
        raise UserError("fp16 is not timed on a CPU; use fp32 or bf16")


def _runner(arch: Arch, protocol: LatencyProtocol) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    model: nn.Module = arch.build(protocol.num_classes).eval()
    layout = torch.channels_last if protocol.memory_format == "channels_last" else torch.contiguous_format
    device, dtype = torch.device(protocol.device), DTYPES[protocol.precision]
    model = model.to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    image = torch.randn(protocol.batch, 3, *protocol.input_size).to(device=device, dtype=dtype, memory_format=layout)
    return lambda: model(image)


@torch.inference_mode()
def _time(run: Callable[[], Tensor], protocol: LatencyProtocol) -> tuple[np.ndarray, float]:
    """Seconds of each replicate, and the CPU seconds of all of them."""
    wait = torch.cuda.synchronize if protocol.device.startswith("cuda") else lambda: None
    for _ in range(protocol.warmup):
        run()
    wait()
    wall: list[float] = []
    begin, cpu = time.perf_counter(), time.thread_time()
    while len(wall) < MAX_REPLICATES:
        start = time.perf_counter()
        run()
        wait()
        end = time.perf_counter()
        wall.append(end - start)
        if len(wall) >= protocol.min_replicates and end - begin >= protocol.min_seconds:
            break
    return np.array(wall), max(time.thread_time() - cpu, 1e-9)
