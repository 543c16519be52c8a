"""Latency, timed on the device: warm-up, replicates, percentiles, and a check for other load."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import torch

from nasseg.errors import UserError
from nasseg.measure.environment import environment
from nasseg.measure.latency.backends import SLOW_TO_BUILD, Buildable, Run, check_protocol, clock_mhz, numerics, runner
from nasseg.measure.latency.gpu import WARM_UP_SECONDS, Seen, Watch, free_memory, measure_energy, on_gpu
from nasseg.measure.latency.reference import ReferenceArch
from nasseg.measure.latency.target import measure_on_target
from nasseg.records import IN_TURNS, Latency, LatencyProtocol

Pair = tuple[Run, Run | None]  # calls of a network, and of the reference

MAX_REPLICATES = 2_000
ROUNDS = 24  # of the reference and the network in turns, at least
BUILDS = 4  # of one eager thread on a CPU: where the weights lie in memory moves a time by 1 to 2 %
REFERENCE_SHARE = 1 / 3  # of the time of a round on a GPU
ATTEMPTS = 3  # in a row, before the first pause
MAX_ATTEMPTS = 8  # if all are disturbed and the median is not known well enough
MAX_ERROR = 0.005  # of a median: networks of one front are often only 1 to 2 % apart
WAITS = (2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before further attempts
# On a quiet machine one thread's wall time is its CPU time, and the quartiles of small networks lie 3-17 % apart.
MAX_WALL_OVER_CPU = 1.1
MAX_SPREAD = 0.25
MAX_DRIFT = 1.5


def measure_latency(
    arch: Buildable,
    protocol: LatencyProtocol,
    exclusive: Callable[[], AbstractContextManager[None]] = nullcontext,
    *,
    reference_ms: float | None = None,
    patience: float = 0.0,
    tell: Callable[[str], None] = lambda _line: None,
    energy: bool = False,
) -> Latency:
    """Return the latency of an arch's inference form, in milliseconds per batch.

    Weights are random, which does not matter to dense networks. `exclusive` is entered around each attempt, for a lock
    that keeps others off the device. A disturbed attempt is repeated, twice at once and then after growing pauses of at
    most `patience` seconds in total; `tell` is called with a line for each pause. If no attempt is quiet, the result is
    marked as disturbed. It is then the least disturbed attempt. With a reference it is all attempts together, because
    their errors even out, and more are made until the median is known to MAX_ERROR, up to MAX_ATTEMPTS in total.
    reference_ms: the reference network's time in the study. energy: also measure the energy per image, on a GPU.

    Raises:
        UserError: the device, backend or precision is not available here.
        TargetUnreachable: a command on a target did not answer.
    """
    check_protocol(protocol)
    if protocol.backend == "command":
        return measure_on_target(arch, protocol, exclusive)
    build = builder(arch, protocol)
    attempts: list[Attempt] = []
    with numerics(protocol):
        for pause in pauses(patience):
            if pause:
                tell(f"the machine is busy ({attempts[-1].doubt}): timing again in {pause:.3g} s")
                time.sleep(pause)
            with exclusive():
                attempts.append(attempt(build, protocol, reference_ms))
            if attempts[-1].disturbance <= 1:
                break
        while attempts[-1].disturbance > 1 and len(attempts) < MAX_ATTEMPTS and error_of(attempts) > MAX_ERROR:
            with exclusive():
                attempts.append(attempt(build, protocol, reference_ms))
        found = latency_of(attempts, protocol)
        if energy and on_gpu(protocol.device):
            with exclusive():
                found = _with_energy(found, build)
    return found


def _with_energy(latency: Latency, build: Callable[[], Pair]) -> Latency:
    """Return a latency with the energy per image, on a GPU that the caller holds alone."""
    protocol = latency.protocol
    run, _ = build()
    _warm_up(run, protocol, protocol.warmup)
    watch = Watch(protocol.device)
    energy, doubts = measure_energy(run, protocol, latency.p50_ms), watch.seen().doubts
    del run
    free_memory(protocol.device)
    return replace(latency, energy=energy, disturbed=latency.disturbed or max(doubts.values(), default=0.0) > 1)


def latency_of(attempts: Sequence["Attempt"], protocol: LatencyProtocol) -> Latency:
    """Return the latency from attempts together: from the undisturbed ones, or else from all, marked as disturbed."""
    counted, quiet = _counted(attempts)
    return replace(_pooled(counted).latency(protocol), disturbed=not quiet)


def error_of(attempts: Sequence["Attempt"]) -> float:
    """Return the relative standard error of `latency_of`; 0 without a reference, infinite if only one attempt counts.

    It comes from how much the attempts' own medians differ. Replicates of one attempt differ less: they share builds,
    and the state that the processor is in for some seconds.
    """
    if any(one.reference_seconds is None for one in attempts):
        return 0.0
    medians = [float(np.median(one.seconds / one.reference_seconds)) for one in _counted(attempts)[0]]
    if len(medians) < 2:
        return math.inf
    return float(np.std(medians, ddof=1) / np.mean(medians) / len(medians) ** 0.5)


def _counted(attempts: Sequence["Attempt"]) -> tuple[Sequence["Attempt"], bool]:
    """Return the attempts that count, and whether they are undisturbed: if each was disturbed, all count."""
    quiet = [one for one in attempts if one.disturbance <= 1]
    return quiet or attempts, bool(quiet)


def _pooled(attempts: Sequence["Attempt"]) -> "Attempt":
    """Return attempts joined into one if they were timed in turns with a reference, else the least disturbed one."""
    references = [one.reference_seconds for one in attempts if one.reference_seconds is not None]
    if not references:
        return min(attempts, key=lambda one: one.disturbance)
    return replace(
        attempts[0],
        seconds=np.concatenate([one.seconds for one in attempts]),
        load=float(np.median([one.load for one in attempts])),
        reference_seconds=np.concatenate(references),
    )


def builder(arch: Buildable, protocol: LatencyProtocol) -> Callable[[], Pair]:
    """Return a function that builds a network, and the reference if they are timed in turns.

    It builds once, or again for each call if an attempt covers several builds. On a GPU it also builds again, because
    many networks and their graphs would fill the memory, unless building takes long. Building uses the device.
    """

    def build() -> Pair:
        return runner(arch, protocol), reference_runner(protocol) if protocol.rule == IN_TURNS else None

    anew = _builds(protocol) > 1 or (on_gpu(protocol.device) and protocol.backend not in SLOW_TO_BUILD)
    return build if anew else cache(build)


def reference_runner(protocol: LatencyProtocol) -> Run:
    """Return a call of the reference network. If it takes long to build, a process builds it once."""
    slow = protocol.backend in SLOW_TO_BUILD
    return _kept_reference(protocol) if slow else runner(ReferenceArch(), protocol)


@lru_cache(maxsize=1)
def _kept_reference(protocol: LatencyProtocol) -> Run:
    return runner(ReferenceArch(), protocol)


def _builds(protocol: LatencyProtocol) -> int:
    return BUILDS if _one_thread(protocol) and protocol.rule == IN_TURNS else 1


def _one_thread(protocol: LatencyProtocol) -> bool:
    """Return whether the calling thread does all the work, so that its CPU time is the network's."""
    return protocol.device == "cpu" and protocol.threads == 1 and protocol.backend == "eager"


def patience_seconds() -> float:
    """Return how many seconds to wait for a busy machine: 60, or the value of NASSEG_PATIENCE.

    Raises:
        UserError: the value is no number.
    """
    said = os.environ.get("NASSEG_PATIENCE", "") or str(sum(WAITS))
    try:
        return float(said)
    except ValueError:
        raise UserError(f"NASSEG_PATIENCE is a number of seconds, got {said!r}") from None


def pauses(patience: float) -> Iterator[float]:
    """Yield the seconds to wait before each attempt."""
    yield from (0.0,) * ATTEMPTS
    for wait in WAITS:
        if patience < 1:
            return
        yield min(wait, patience)
        patience -= wait


@dataclass(frozen=True)
class Attempt:
    """Seconds of each replicate [n]; wall over CPU time; clocks before and after.

    reference_seconds: the reference network's time in the round of each replicate [n], where it was timed in turns.
    reference_ms: its time in the study, where that is known. gpu: what was seen of it, on a GPU.
    """

    seconds: np.ndarray
    load: float
    clocks_mhz: tuple[float, float] | None
    reference_seconds: np.ndarray | None = None
    reference_ms: float | None = None
    gpu: Seen | None = None

    @property
    def ms(self) -> np.ndarray:
        """Milliseconds of each replicate [n], corrected for the reference's drift."""
        if self.reference_seconds is None:
            return self.seconds * 1e3
        ratios: np.ndarray = self.seconds / self.reference_seconds
        return ratios * (self.reference_ms or self._reference_now)

    @property
    def drift(self) -> float:
        """The reference's time now, over its time in the study; 1 without a reference."""
        return self._reference_now / self.reference_ms if self.reference_ms else 1.0

    @property
    def _reference_now(self) -> float:
        return 1.0 if self.reference_seconds is None else 1e3 * float(np.median(self.reference_seconds))

    @property
    def lower_ms(self) -> float:
        """The best replicate; with a reference, the lowest decile, because the best may have a slow reference."""
        return float(self.ms.min() if self.reference_seconds is None else np.quantile(self.ms, 0.1))

    @property
    def disturbance(self) -> float:
        """The strength of disturbances. Above 1: other work ran, times vary too much, or the machine got slower."""
        return max(self._doubts.values())

    @property
    def doubt(self) -> str:
        """The worst disturbance, in words."""
        doubts = self._doubts
        return max(doubts, key=lambda what: doubts[what])

    @property
    def _doubts(self) -> dict[str, float]:
        slower = {f"{self.drift:.1f} times slower than when the study began": self.drift / MAX_DRIFT}
        if self.gpu is not None:
            return {**self.gpu.doubts_of(self.ms), **slower}
        p25, p50, p75 = np.percentile(self.ms, [25, 50, 75])
        spread = float((p75 - p25) / p50)
        return {
            f"load {self.load:.1f}": self.load / MAX_WALL_OVER_CPU,
            f"its times differ by {spread:.0%}": spread / MAX_SPREAD,
            **slower,
        }

    def latency(self, protocol: LatencyProtocol) -> Latency:
        p25, p50, p75, p90, p99 = (float(value) for value in np.percentile(self.ms, [25, 50, 75, 90, 99]))
        reference_ms = (self.reference_ms or self._reference_now) if self.reference_seconds is not None else None
        return Latency(
            protocol=protocol,
            environment=environment(protocol.device),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            iqr_ms=p75 - p25,
            n=len(self.seconds),
            disturbed=self.disturbance > 1,
            lower_ms=min(self.lower_ms, p50),
            ratio=p50 / reference_ms if reference_ms else None,
            reference_ms=reference_ms,
            drift=self.drift,
            load=self.load,
            clocks_mhz=self.clocks_mhz,
        )


def attempt(build: Callable[[], Pair], protocol: LatencyProtocol, reference_ms: float | None = None) -> Attempt:
    """Run warm-up and replicates, in turns with a reference if there is one, on a device that the caller holds alone.

    build: as of `builder`. One eager thread of a CPU is timed by its CPU time if there is a reference, else by the wall
    clock. On a GPU the networks are freed afterwards.
    """
    try:
        return _attempt(build, protocol, reference_ms)
    finally:
        free_memory(protocol.device)


def _attempt(build: Callable[[], Pair], protocol: LatencyProtocol, reference_ms: float | None) -> Attempt:
    before, watch = clock_mhz(protocol.device), None
    builds = _builds(protocol)
    times: list[tuple[np.ndarray, np.ndarray]] = []
    beside: list[np.ndarray] = []
    for _ in range(builds):
        run, reference = build()
        for each in (run, reference):
            if each:
                _warm_up(each, protocol, -(-protocol.warmup // builds))
        if on_gpu(protocol.device):
            watch = Watch(protocol.device)
        if reference is None:
            times.append(_burst(run, protocol, protocol.min_replicates, protocol.min_seconds))
        else:
            rounds = _bursts(run, reference, protocol) if on_gpu(protocol.device) else _rounds(run, reference, protocol)
            for wall_and_cpu, median in rounds:
                times.append(wall_and_cpu)
                beside.append(np.full(len(wall_and_cpu[0]), median))
    seen, after = watch.seen() if watch else None, clock_mhz(protocol.device)
    wall, cpu = (np.concatenate(part) for part in zip(*times, strict=True))
    load = float(wall.sum() / cpu.sum()) if _one_thread(protocol) else 1.0
    clocks = seen.clocks_mhz if seen else None if before is None or after is None else (before, after)
    if not beside:
        return Attempt(wall, load, clocks, gpu=seen)
    seconds = cpu if _one_thread(protocol) else wall
    return Attempt(seconds, load, clocks, np.concatenate(beside), reference_ms, seen)


def _warm_up(run: Run, protocol: LatencyProtocol, runs: int) -> None:
    begin = time.perf_counter()
    _burst(run, protocol, runs, 0.0)
    while on_gpu(protocol.device) and time.perf_counter() - begin < WARM_UP_SECONDS:
        _burst(run, protocol, 1, 0.0)


Round = tuple[tuple[np.ndarray, np.ndarray], float]  # wall and CPU seconds [n]; the median of the reference


def _rounds(run: Run, reference: Run, protocol: LatencyProtocol) -> Iterator[Round]:
    """Yield the rounds of one build on a CPU: one run of the reference, and one of the network.

    Beside other work each run has its own noise, so more rounds help more than repeats within a round.
    """
    builds, clock = _builds(protocol), int(_one_thread(protocol))
    least, rounds, used = max(ROUNDS, protocol.min_replicates), 0, 0.0
    while rounds < least / builds or (rounds < MAX_REPLICATES / builds and used < protocol.min_seconds / builds):
        other, times = _burst(reference, protocol, 1, 0.0)[clock], _burst(run, protocol, 1, 0.0)
        yield times, float(other[0])
        rounds, used = rounds + 1, used + float(other[0] + times[clock][0])


def _bursts(run: Run, reference: Run, protocol: LatencyProtocol) -> Iterator[Round]:
    """Yield the rounds on a GPU: replicates of the reference, and of the network."""
    runs, share = -(-protocol.min_replicates // ROUNDS), protocol.min_seconds / ROUNDS
    for _ in range(ROUNDS):
        other, _ = _burst(reference, protocol, runs, REFERENCE_SHARE * share)
        yield _burst(run, protocol, runs, (1 - REFERENCE_SHARE) * share), float(np.median(other))


@torch.inference_mode()
def _burst(run: Run, protocol: LatencyProtocol, runs: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return device seconds [n] and CPU seconds of at least `runs` replicates that take at least `seconds` in total.

    A GPU's own clock is read, by an event before and one after each replicate. Each replicate is waited for.
    """
    cuda = on_gpu(protocol.device)
    once = _by_events if cuda else _by_wall_clock
    if cuda:
        torch.cuda.synchronize(protocol.device)
    wall: list[float] = []
    cpu: list[float] = []
    begin = time.perf_counter()
    while len(wall) < runs or (len(wall) < MAX_REPLICATES and time.perf_counter() - begin < seconds):
        used = time.thread_time()
        wall.append(once(run, protocol.device))
        cpu.append(max(time.thread_time() - used, 1e-9))
    return np.array(wall), np.array(cpu)


def _by_wall_clock(run: Run, _device: str) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _by_events(run: Run, device: str) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        start.record()
        run()
        end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
