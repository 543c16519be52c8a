"""How busy one driver keeps many workers: simulated trials, a virtual clock, and the driver's real thinking time on it.

    python -m tests.benchmarks.bench_driver                    64 workers, SQLite; exit 1 if they are under 95 % busy
    python -m tests.benchmarks.bench_driver --journal          the same in a journal file
    python -m tests.benchmarks.bench_driver --before 10000     the study holds that many trials already
    python -m tests.benchmarks.bench_driver --profile          where the thinking goes
    python -m tests.benchmarks.bench_driver --cpu              processor time only, where others compute too

Trainings are lognormal with a mean of 60 s; nine of ten candidates are over a limit once costed; costing takes a worker
0.1 s, timing 1 s. Busy: seconds in which workers had a job over workers times seconds, from when each has had its first
training until the last trial begins, so that neither the start nor the end of a search counts.
"""

import argparse
import cProfile
import math
import pstats
import random
import sys
import tempfile
import time
from pathlib import Path

from nasseg.measure.environment import environment
from nasseg.study.engines.jobs import Result
from nasseg.study.engines.virtual_engine import Answer, VirtualEngine
from nasseg.study.store.candidate import Candidate
from tests.study.fakes import FakeEngine, make_driver, make_study

GOAL = 0.95
SECONDS = {"cost": 0.1, "latency": 1.0}
MEAN, SIGMA = 60.0, 0.7  # of a training
LIMIT = 2_000_000  # macs


class Simulated(FakeEngine):
    """Measures at once; a tenth of the networks is under the limit."""

    def __init__(self) -> None:
        super().__init__(macs=lambda settings: self.draw.randrange(1, 10 * LIMIT))
        self.draw = random.Random(0)
        self.networks = 0
        self.arch_id = lambda settings: f"network {self.draw.random()}"

    def answer(self, job) -> Answer:
        seconds = SECONDS.get(job.kind) or self.draw.lognormvariate(math.log(MEAN) - SIGMA**2 / 2, SIGMA)
        return Answer(Result(job.candidate, job.kind, self.measure(job)), seconds)


class Watched(VirtualEngine):
    """Remembers clock and busy seconds at the first and the latest moment when all workers had been given work."""

    full: tuple[float, float] | None = None
    last: tuple[float, float] = (0.0, 0.0)
    trained = 0

    def submit(self, job) -> None:
        super().submit(job)
        if job.kind == "train":
            self.trained += 1
            now = (self.clock, self.busy_share * self.clock * self.workers)
            if self.trained >= self.workers:
                self.full = self.full or now
            self.last = now

    @property
    def steady_share(self) -> float:
        """Busy share between those moments."""
        assert self.full is not None, "fewer trials than workers"
        return (self.last[1] - self.full[1]) / (self.workers * (self.last[0] - self.full[0]))


def fill(driver, trials: int) -> None:
    """Rejected trials of an earlier search."""
    for _ in range(trials):
        proposal = driver.proposer.propose()
        driver.proposer.drop(proposal.token)
        candidate = Candidate(proposal, dict(proposal.params), None, 0)
        driver.record.add_rejected(candidate, "macs is over the limit of 2e+06", {"macs max": 1.0}, {"macs": 9e6})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=320)
    parser.add_argument("--before", type=int, default=0)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--journal", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    environment()
    timer = time.process_time if given.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        url = str(Path(folder, "s.log")) if given.journal else f"sqlite:///{folder}/s.db"
        study, simulated = make_study(space="regseg", max_macs=str(float(LIMIT))), Simulated()
        if given.before:
            fill(make_driver(url, study, FakeEngine(), sampler="random", seed=1), given.before)
        engine = Watched(given.workers, simulated.answer, timer=timer)
        driver = make_driver(url, study, engine, trials=given.trials, sampler=given.sampler)
        driver.ended_trials.sync()
        profile = cProfile.Profile()
        begun = timer()
        if given.profile:
            profile.enable()
        ended = driver.run()
        profile.disable()
        thought = timer() - begun
        candidates = len(driver.record.trials()) - given.before
    share = engine.steady_share
    print(f"{given.workers} workers, {given.trials} trials of {candidates} candidates, {given.sampler}: {ended}")
    print(
        f"virtual: {engine.clock:,.0f} s, of which the driver thought {thought:.1f} s: "
        f"{1e3 * thought / candidates:.1f} ms a candidate"
    )
    print(
        f"busy {100 * share:.1f} % while there was work for all ({100 * GOAL:.0f} % wanted); "
        f"{100 * engine.busy_share:.1f} % with start and end"
    )
    if given.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    return int(share < GOAL)


if __name__ == "__main__":
    sys.exit(main())
