"""Do the latencies of a study agree with those of another session, on a quiet machine and beside a neighbour?

Two sessions time the same networks of the quick start's space, on a quiet machine and then beside processes that
compute: each network alone in its turn, as in a search (`alone`), and all of them in turns, as at the end of a search
(`turns`). For each pair of sessions: Kendall's tau of the orders, and the median of |second / first - 1|. Aimed at: tau
at least 0.95, median at most 5 %.

    python -m tests.benchmarks.bench_latency_agreement                 # all four, in ten minutes
    python -m tests.benchmarks.bench_latency_agreement --only busy     # where the machine is busy anyway
    python -m tests.benchmarks.bench_latency_agreement --study quickstart [--storage URL]   # of a finished search

With --study nothing is timed: pairs are those of the sessions that the study keeps (one at the end of the search, and
one for each `nasseg search quickstart --remeasure`), and of the search itself and each session.
"""

import argparse
import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from nasseg.analyse.remeasured import PURPOSE, sessions
from nasseg.families import Arch, arch_of
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.in_turns import compare_latency
from nasseg.measure.latency.reference import ReferenceArch
from nasseg.records import IN_TURNS, Latency, LatencyProtocol, StudyRecord
from nasseg.space import load_space
from nasseg.study.finish.remeasure import END_ROUNDS
from nasseg.study.store.read_study import open_record, read_study, record_of
from nasseg.study.store.trial_attributes import SESSION

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
    parser.add_argument("--study", help="a finished search, of which sessions are kept")
    parser.add_argument("--storage")
    args = parser.parse_args()
    if args.study:
        known = searched(args.study, args.storage)
        for first, second in combinations(known, 2):
            report(f"{first} and {second}", known[first], known[second])
        return
    archs = drawn(args.networks)
    reference_ms = measure_latency(ReferenceArch(), PROTOCOL).p50_ms
    print(f"{len(archs)} networks; the reference takes {reference_ms:.3g} ms")
    for kind in (args.only,) if args.only else ("quiet", "busy"):
        with neighbours(args.neighbours) if kind == "busy" else nullcontext():
            for timed in (alone, in_turns):
                print(f"load {os.getloadavg()[0]:.1f} before", end="; ")
                report(f"{kind}, {timed.__name__}", timed(archs, reference_ms), timed(archs, reference_ms))


def drawn(count: int) -> list[Arch]:
    """Different networks of the quick start's space."""
    space, rng, found = load_space("quickstart"), random.Random(0), dict[str, Arch]()
    while len(found) < count:
        arch = arch_of(space.settings(space.sample(rng)))
        found[arch.id] = arch
    return list(found.values())


def searched(name: str, storage: str | None) -> dict[str, Session]:
    """Latencies of the networks of the latest session: in the search, and in each session that timed all of them."""
    again = read_study(f"{name}@{PURPOSE}", storage)
    kinds = {f"session {number}": latencies(again, number) for number in sessions(again)}
    kinds = {"the search": latencies(record_of(open_record(name, storage))), **kinds}
    networks = list(kinds[next(reversed(kinds))])
    return {
        kind: Session.of([found[one] for one in networks])
        for kind, found in kinds.items()
        if found.keys() >= {*networks}
    }


def latencies(record: StudyRecord, session: int | None = None) -> dict[str, Latency]:
    return {
        trial.measurement.arch_id: trial.measurement.latency
        for trial in record.trials
        if trial.measurement and trial.measurement.latency and trial.extra.get(SESSION) == session
    }


def alone(archs: list[Arch], reference_ms: float) -> Session:
    lock = DeviceLock(PROTOCOL.device)
    try:
        return Session.of([measure_latency(a, PROTOCOL, lock.measuring, reference_ms=reference_ms) for a in archs])
    finally:
        lock.close()


def in_turns(archs: list[Arch], reference_ms: float) -> Session:
    lock = DeviceLock(PROTOCOL.device)
    try:
        rows = compare_latency(
            {arch.id: arch for arch in archs},
            PROTOCOL,
            base=archs[0].id,
            repeat=END_ROUNDS,
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
        f"{len(error)} networks of {first.ms.min():.3g} to {first.ms.max():.3g} ms"
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
