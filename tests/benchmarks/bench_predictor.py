"""How well the latency predictor orders architectures that it has not seen, and how far off it is.

    python -m tests.benchmarks.bench_predictor --save FILE.csv       exit 1 if the goal is missed
    python -m tests.benchmarks.bench_predictor --clock thread --passes 3

Architectures come evenly from five families and their compositions and are measured by nasseg's own protocol, one
thread, 256 x 512. Each latency is kept in the file as soon as it is known; with the same file the run goes on where it
stopped, and measures again what was disturbed. Three quarters fit a predictor and a quarter is held out, in random
splits that are even over the families; the goal is for their mean. Nothing else should run. Where something does, the
CPU time of the thread (--clock thread) is not latency but is disturbed little, least in the least of some passes.
"""

import argparse
import csv
import io
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.families.arch import Arch
from nasseg.families.graph.identity import fingerprint
from nasseg.families.graph.recorder import Graph
from nasseg.measure.cost import macs
from nasseg.measure.environment import environment
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.backends import numerics, runner
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.predictor import fit
from nasseg.records import LatencyProtocol
from nasseg.space import Space, load_space

FAMILIES = ("bisenetv2", "stdc", "eseg", "regseg", "dabnet", "composed")
PROTOCOL = LatencyProtocol(device="cpu", input_size=(256, 512), num_classes=19, min_replicates=10, min_seconds=0.3)
MAX_MACS = 8e9
SPLITS, MIN_TAU, MAX_MAPE = 20, 0.95, 0.10
COLUMNS = ["family", "settings", "latency_ms", "disturbed", "clock", "device"]


@dataclass(frozen=True)
class Sample:
    family: str  # the space that it comes from
    settings: str  # JSON
    arch: Arch
    graph: Graph


def samples(count: int, seed: int) -> Iterator[Sample]:
    """Families in turn, no network twice, none above MAX_MACS."""
    rng, spaces, seen = random.Random(seed), {name: load_space(name) for name in FAMILIES}, set()
    for number in range(count):
        family = FAMILIES[number % len(FAMILIES)]
        while (sample := draw(family, spaces[family], rng)) is None or fingerprint(sample.graph) in seen:
            pass
        seen.add(fingerprint(sample.graph))
        yield sample


def draw(family: str, space: Space, rng: random.Random) -> Sample | None:
    settings = space.settings(space.sample(rng))
    text = json.dumps(settings, sort_keys=True)
    try:
        arch = make_arch(settings.pop("family"), **settings)
    except UserError:
        return None
    graph = arch.graph(PROTOCOL.num_classes, PROTOCOL.input_size)
    return Sample(family, text, arch, graph) if sum(map(macs, graph.reachable())) <= MAX_MACS else None


class Rows:
    """What was measured, settings -> [(ms, disturbed)], in memory and, with a path, in a file that only grows."""

    def __init__(self, path: Path | None, clock: str) -> None:
        self.path, self.clock, self.found = path, clock, defaultdict(list)
        self.device = f"{environment().cpu}, torch {environment().torch}"
        if path and path.exists():
            whole = path.read_bytes().rpartition(b"\n")[0] + b"\n"  # a run that was killed may leave half a row
            path.write_bytes(whole)
            for row in csv.DictReader(io.StringIO(whole.decode(), newline="")):
                self._read(row)
        elif path:
            self._write(COLUMNS)

    def _read(self, row: dict) -> None:
        if (row["clock"], row["device"]) != (self.clock, self.device):
            raise SystemExit(f"{self.path} holds {row['clock']} times of {row['device']}; save to another file")
        self.found[row["settings"]].append((float(row["latency_ms"]), row["disturbed"] == "True"))

    def _write(self, row: list) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)

    def add(self, sample: Sample, ms: float, disturbed: bool) -> None:
        self.found[sample.settings].append((ms, disturbed))
        if self.path:
            self._write([sample.family, sample.settings, ms, disturbed, self.clock, self.device])

    def quiet(self, sample: Sample) -> list[float]:
        return [ms for ms, disturbed in self.found[sample.settings] if not disturbed]

    def ms(self, sample: Sample) -> float:
        """The median; of CPU times the least, for all that neighbours do to them is to add."""
        known = self.quiet(sample) or [ms for ms, _ in self.found[sample.settings]]
        return min(known) if self.clock == "thread" else statistics.median(known)


def thread_ms(arch: Arch) -> float:
    run, times = runner(arch, PROTOCOL), []
    with numerics(PROTOCOL), torch.inference_mode():
        for _ in range(PROTOCOL.warmup):
            run()
        begin = time.thread_time()
        while len(times) < PROTOCOL.min_replicates or time.thread_time() - begin < PROTOCOL.min_seconds:
            start = time.thread_time()
            run()
            times.append(time.thread_time() - start)
    return 1e3 * statistics.median(times)


def measure(chosen: list[Sample], rows: Rows, passes: int) -> None:
    lock = DeviceLock("cpu")
    for number in range(passes):
        todo = [sample for sample in chosen if len(rows.quiet(sample)) <= number]
        for done, sample in enumerate(todo):
            if rows.clock == "thread":
                rows.add(sample, thread_ms(sample.arch), False)
            else:
                latency = measure_latency(sample.arch, PROTOCOL, lock.measuring)
                rows.add(sample, latency.p50_ms, latency.disturbed)
            if done % 20 == 0 or done == len(todo) - 1:
                print(f"pass {number + 1} of {passes}: {done + 1} of {len(todo)} measured", file=sys.stderr, flush=True)


def report(chosen: list[Sample], rows: Rows) -> bool:
    """Whether the goal is met."""
    graphs, truth = [sample.graph for sample in chosen], np.array([rows.ms(sample) for sample in chosen])
    place = {family: [i for i, s in enumerate(chosen) if s.family == family] for family in FAMILIES}
    errors, inside, taus = defaultdict(list), [], defaultdict(list)
    for split in range(SPLITS):
        held, rest = divide(place, len(chosen) // 4, np.random.default_rng(split))
        predictor = fit([graphs[i] for i in rest], truth[rest])
        found = {i: predictor.predict(graphs[i]) for i in held}
        inside += [prediction.low_ms <= truth[i] <= prediction.high_ms for i, prediction in found.items()]
        for name, members in {"all": range(len(chosen)), **place}.items():
            known = [i for i in held if i in members]
            guess = np.array([found[i].ms for i in known])
            taus[name].append(kendalltau(guess, truth[known]).statistic)
            errors[name].append(np.mean(np.abs(guess / truth[known] - 1)))
    disturbed = sum(not rows.quiet(sample) for sample in chosen)
    print(f"{len(chosen)} architectures, {truth.min():.1f} to {truth.max():.1f} ms, {rows.clock} clock, {rows.device}")
    print(
        f"{disturbed} of them disturbed" + ("; run again with the same --save to measure them again" * bool(disturbed))
    )
    print(f"held out {len(chosen) // 4}, mean (worst) of {SPLITS} splits; a family's are its own among them")
    print(f"{'':10} {'Kendall tau':>16} {'MAPE, %':>14}")
    for name in taus:
        tau, mape = np.array(taus[name]), 100 * np.array(errors[name])
        print(f"{name:10} {tau.mean():8.3f} ({tau.min():.3f}) {mape.mean():6.1f} ({mape.max():.1f})")
    met = [tau >= MIN_TAU and error <= MAX_MAPE for tau, error in zip(taus["all"], errors["all"], strict=True)]
    print(f"{100 * np.mean(inside):.0f} % inside the 90 % interval; the goal is met in {sum(met)} splits of {SPLITS}")
    reached = np.mean(taus["all"]) >= MIN_TAU and np.mean(errors["all"]) <= MAX_MAPE
    print(f"goal: tau at least {MIN_TAU}, MAPE at most {MAX_MAPE:.0%}: {'met' if reached else 'missed'}")
    return bool(reached)


def divide(place: dict[str, list[int]], held: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """`held` indices and the others, as even over the families as they go."""
    turns = sorted(
        ((turn, rng.random(), i) for members in place.values() for turn, i in enumerate(rng.permutation(members))),
    )
    order = [int(i) for _, _, i in turns]
    return order[:held], order[held:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=["wall", "thread"], default="wall")
    parser.add_argument("--passes", type=int, default=1, help="times that each is measured")
    parser.add_argument("--save", type=Path, help="keeps each latency at once, and what it holds is not measured again")
    asked = parser.parse_args()
    if asked.count < 12 * len(FAMILIES):
        parser.error(f"--count must be at least {12 * len(FAMILIES)}, for 3 of each family held out, got {asked.count}")
    torch.set_num_threads(1)
    rows = Rows(asked.save, asked.clock)
    print(f"choosing {asked.count} architectures", file=sys.stderr, flush=True)
    chosen = list(samples(asked.count, asked.seed))
    measure(chosen, rows, asked.passes)
    return int(not report(chosen, rows))


if __name__ == "__main__":
    sys.exit(main())
