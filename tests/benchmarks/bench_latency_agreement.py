"""Do the latencies of a study agree with those of another session, on a quiet machine and beside a neighbour?

Two sessions time the same networks of the quick start's space as a search does, each alone and in its turn, minutes
apart from its turn in the other session. Then both again beside processes that compute. For each pair of sessions:
Kendall's tau of the orders, and the median of |second / first - 1|. Aimed at: tau at least 0.95, median at most 5 %.

    python -m tests.benchmarks.bench_latency_agreement                 # both, in three minutes
    python -m tests.benchmarks.bench_latency_agreement --only busy     # where the machine is busy anyway
    python -m tests.benchmarks.bench_latency_agreement --study quickstart [--storage URL]   # of a finished search

With --study the first session is what the search (and the session at its end) recorded, the networks are those that
it trained, and the second session is one of `nasseg search --remeasure`: five rounds, all networks in turns.
"""

import argparse
import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from nasseg.families import Arch, arch_of
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.in_turns import compare_latency
from nasseg.measure.latency.reference import ReferenceArch
from nasseg.records import IN_TURNS, Latency, LatencyProtocol
from nasseg.space import load_space
from nasseg.study.finish.remeasure import ROUNDS
from nasseg.study.store.read_study import read_study

SPAWN = multiprocessing.get_context("spawn")
PROTOCOL = LatencyProtocol(device="cpu", input_size=(64, 128), num_classes=11, min_seconds=0.2, rule=IN_TURNS)


@dataclass(frozen=True)
class Session:
    """Latencies in ms, those marked as disturbed, and the wall over CPU time of each network."""

    ms: np.ndarray
    disturbed: np.ndarray
    loads: np.ndarray

    @classmethod
    def of(cls, found: list[Latency]) -> "Session":
        return cls(*(np.array([getattr(one, name) for one in found]) for name in ("p50_ms", "disturbed", "load")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--neighbours", type=int, default=os.cpu_count(), help="processes that compute")
    parser.add_argument("--only", choices=["quiet", "busy"])
    parser.add_argument("--study", help="a finished search, in place of a first session")
    parser.add_argument("--storage")
    args = parser.parse_args()
    first = None
    if args.study:
        archs, protocol, reference_ms, first = searched(args.study, args.storage)
    else:
        archs, protocol = drawn(args.networks), PROTOCOL
        reference_ms = measure_latency(ReferenceArch(), protocol).p50_ms
    print(f"{len(archs)} networks; the reference takes {reference_ms:.3g} ms; load {os.getloadavg()[0]:.1f} before")
    for kind in (args.only,) if args.only else ("quiet", "busy"):
        with neighbours(args.neighbours) if kind == "busy" else nullcontext():
            before = first or session(archs, protocol, reference_ms)
            again = (in_turns if first else session)(archs, protocol, reference_ms)
        report(kind, before, again)


def drawn(count: int) -> list[Arch]:
    """Different networks of the quick start's space."""
    space, rng, found = load_space("quickstart"), random.Random(0), dict[str, Arch]()
    while len(found) < count:
        arch = arch_of(space.settings(space.sample(rng)))
        found[arch.id] = arch
    return list(found.values())


def searched(name: str, storage: str | None) -> tuple[list[Arch], LatencyProtocol, float, Session]:
    record = read_study(name, storage)
    trained = {
        t.measurement.arch_id: t for t in record.trials if t.measurement and t.accuracy and t.measurement.latency
    }
    latencies = [t.measurement.latency for t in trained.values() if t.measurement]
    known = [latency for latency in latencies if latency]
    assert known[0].reference_ms, f"{name} was searched without a reference network"
    return (
        [arch_of(t.arch or {}) for t in trained.values()],
        known[0].protocol,
        known[0].reference_ms,
        Session.of(known),
    )


def session(archs: list[Arch], protocol: LatencyProtocol, reference_ms: float) -> Session:
    lock = DeviceLock(protocol.device)
    try:
        return Session.of([measure_latency(a, protocol, lock.measuring, reference_ms=reference_ms) for a in archs])
    finally:
        lock.close()


def in_turns(archs: list[Arch], protocol: LatencyProtocol, reference_ms: float) -> Session:
    lock = DeviceLock(protocol.device)
    try:
        rows = compare_latency(
            {arch.id: arch for arch in archs},
            protocol,
            base=archs[0].id,
            repeat=ROUNDS,
            exclusive=lock.measuring,
            reference_ms=reference_ms,
        )
        return Session.of([row.latency for row in rows])
    finally:
        lock.close()


def report(kind: str, first: Session, second: Session) -> None:
    error = np.abs(second.ms / first.ms - 1)
    tau = kendalltau(first.ms, second.ms).statistic
    print(
        f"{kind}: Kendall's tau {tau:.3f}, median error {np.median(error):.1%}, largest {error.max():.1%}; median "
        f"ratio {np.median(second.ms / first.ms):.3f}; marked {first.disturbed.sum()} and {second.disturbed.sum()} of "
        f"{len(error)}; wall over CPU {np.median(first.loads):.2f} and {np.median(second.loads):.2f}; "
        f"{first.ms.min():.3g} to {first.ms.max():.3g} ms"
    )


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Run processes beside this one that compute, and do not ask for the lock of the device."""
    processes = [SPAWN.Process(target=compute, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def compute() -> None:
    rng = np.random.default_rng(0)
    while True:
        np.linalg.svd(rng.random((200, 200)))


if __name__ == "__main__":
    main()
