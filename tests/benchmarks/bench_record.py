"""A study of many trials: what the sampler takes for a proposal, what a reader takes for the whole record, cold, and
how soon a search of it says something.

    python -m tests.benchmarks.bench_record                 100,000 trials in SQLite; exit 1 if a goal is missed
    python -m tests.benchmarks.bench_record --journal       the same in a journal file
    python -m tests.benchmarks.bench_record --trials 10000  fewer

Nine of ten trials were over a limit, as in a search with a tight one. The storage is made from a few hundred real
trials, each copied with its own values. Goals: ask and suggest under 60 ms of processor time, a cold read under 5 s,
the first line of `nasseg search` under 2 s of processor time.
"""

import argparse
import itertools
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from optuna.distributions import distribution_to_json
from optuna.trial import TrialState, create_trial

from nasseg.analyse.compute_spent import compute_of
from nasseg.analyse.trials import front_frame, front_share, progress
from nasseg.records import Stage
from nasseg.study.propose.ehvi_proposer import make_proposer
from nasseg.study.propose.graph_features import SpacePoints
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.store.read_study import open_record, read_study
from tests.study.fakes import COST, STUDY, FakeEngine, make_driver, make_study

ASK_MS, READ_S, LINE_S = 60, 5, 2
SPACE = {"space": "bisenetv2", "max_macs": "1.7e+6"}  # about a tenth is under it
STAGES = tuple(Stage(stride=2**i, operators=12, params=23_456, macs=3_456_789, activations=45_678) for i in range(7))
CURVE = tuple((10 * i, 2.5 / (1 + i)) for i in range(30))
IOUS = {f"class {i}": 31.4 + i for i in range(11)}


class Realistic(FakeEngine):
    """Measurements as long as real ones."""

    def measure(self, job):
        measurement = super().measure(job)
        if job.kind == "cost":
            return replace(measurement, cost=replace(measurement.cost, stages=STAGES))
        if job.kind == "train":
            return replace(measurement, accuracy=replace(measurement.accuracy, curve=CURVE, class_iou=IOUS))
        return measurement


def fill(folder: Path, trials: int, journal: bool) -> str:
    """A storage with that many trials of the study `fake`; its URL."""
    path = folder / ("s.log" if journal else "s.db")
    url = str(path) if journal else f"sqlite:///{path}"
    study = make_study(**SPACE)
    driver = make_driver(url, study, Realistic(), trials=30)
    driver.run()
    objectives = [[figure.name, figure.unit, figure.direction] for figure in study.objectives]
    texts = dict.fromkeys(["question", "command", "created", "study_file"], "")
    driver.record.set_attributes(
        {
            **texts,
            "objectives": objectives,
            "limits": {},
            "published": [],
            "environment": {},
            "space_file": study.space.source,
        }
    )
    (_copy_journal if journal else _copy_sqlite)(path, driver.record, trials)
    return url


def _copy_sqlite(path: Path, record, trials: int) -> None:
    base = sqlite3.connect(path)
    count, times = len(record.trials()), trials // len(record.trials())
    copies = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {times})"
    base.execute(
        f"INSERT INTO trials {copies} SELECT trial_id + i * {count}, number + i * {count}, study_id, state, "
        f"datetime_start, datetime_complete FROM n, trials WHERE trial_id <= {count}"
    )
    columns = {
        "trial_params": "param_name, param_value, distribution_json",
        "trial_user_attributes": "key, value_json",
        "trial_system_attributes": "key, value_json",
        "trial_values": "objective, value, value_type",
    }
    for table, names in columns.items():
        taken = (
            names.replace("value,", "value * (0.8 + abs(random() % 1000) / 2500.0),") if "objective" in names else names
        )
        base.execute(
            f"INSERT INTO {table} (trial_id, {names}) {copies} SELECT trial_id + i * {count}, {taken} FROM n, {table} "
            f"WHERE trial_id <= {count}"
        )
    base.commit()
    base.close()


def _copy_journal(path: Path, record, trials: int) -> None:
    chance = random.Random(0)
    base = record.trials()
    with path.open("a") as file:
        for place in range(len(base), trials):
            trial = base[place % len(base)]
            values = trial.values and [value * chance.uniform(0.8, 1.2) for value in trial.values]
            line = {
                "op_code": 4,
                "worker_id": "bench",
                "study_id": 0,
                "state": int(trial.state),
                "value": None,
                "values": values,
                "datetime_start": trial.datetime_start.astimezone().isoformat(),
                "datetime_complete": trial.datetime_complete.astimezone().isoformat(),
                "distributions": {k: distribution_to_json(d) for k, d in trial.distributions.items()},
                "params": {k: trial.distributions[k].to_internal_repr(v) for k, v in trial.params.items()},
                "user_attrs": trial.user_attrs,
                "system_attrs": trial.system_attrs,
                "intermediate_values": {},
            }
            file.write(json.dumps(line) + "\n")


def stopped(trial, number: int):
    """As if it had been trained to the first rung only."""
    attributes = {"miou": trial.values[0], "macs": trial.values[1], "rung": 0, "stopped_at_rung": True}
    made = create_trial(
        state=TrialState.PRUNED, params=trial.params, distributions=trial.distributions, user_attrs=attributes
    )
    made.number = number
    return made


def proposing(record, sampler: str, halving: bool, asks: int) -> tuple[float, list[float]]:
    """Seconds until the sampler knows every trial, then processor milliseconds a proposal and what came before it.

    halving: before each proposal a network was stopped at a rung, where hundreds are.
    """
    study = make_study(space="bisenetv2")
    points = SpacePoints(study.space, study.objectives, {}, COST)
    made = make_sampler(sampler, {}, 0, points)
    proposer = make_proposer(study.space, study.objectives, made, 0, rungs=2 if halving else 1)
    trials = record.trials()
    begun = time.perf_counter()
    for trial in trials:
        proposer.learn(trial)
    learned, times = time.perf_counter() - begun, []
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE][-300:]
    for place, trial in enumerate(finished):
        if halving:
            proposer.learn(stopped(trial, len(trials) + place))
    for place, trial in enumerate(finished[-asks:]):
        begun = time.thread_time()
        proposer.learn(stopped(trial, len(trials) + 300 + place) if halving else trial)
        proposal = proposer.propose()
        times.append(1e3 * (time.thread_time() - begun))
        proposer.drop(proposal.token)
    return learned, times


def first_lines(folder: Path, url: str) -> list[tuple[float, str]]:
    """Return what `nasseg search` says before it has read the record, and the processor seconds until then."""
    (folder / "fake.yaml").write_text(STUDY.format(**SPACE))
    command = [sys.executable, "-m", "nasseg", "search", "fake.yaml", "--storage", url, "--trials", "1"]
    place = {**os.environ, "PYTHONPATH": os.getcwd()}
    said: list[tuple[float, str]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=place, text=True) as search:
        assert search.stdout is not None
        for line in search.stdout:
            fields = Path(f"/proc/{search.pid}/stat").read_text().rpartition(")")[2].split()
            said.append((sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"), line.strip()))
            if line.startswith("reading the record"):
                search.kill()
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--journal", action="store_true")
    parser.add_argument("--samplers", default="random,tpe,ehvi")
    parser.add_argument("--asks", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = fill(Path(folder), given.trials, given.journal)
        begun = time.perf_counter()
        whole = read_study("fake", url)
        read = time.perf_counter() - begun
        missed = read > READ_S
        print(f"{len(whole.trials):,} trials: read in {read:.2f} s, cold ({READ_S} allowed)")
        for what in (progress, front_frame, front_share, compute_of):
            begun = time.perf_counter()
            what(whole)
            print(f"  {what.__name__}: {time.perf_counter() - begun:.2f} s")
        del whole
        said = first_lines(Path(folder), url)
        missed |= said[0][0] > LINE_S
        print(f"nasseg search ({LINE_S} s allowed to its first line):")
        for seconds, line in said:
            print(f"  {seconds:.2f} s: {line}")
        begun = time.perf_counter()
        record = open_record("fake", url)
        record.trials()
        print(f"Optuna's own trials, which a search begins with: {time.perf_counter() - begun:.2f} s")
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            record.trials()
            times.append(1e3 * (time.perf_counter() - begun))
        print(f"record.trials() again: {statistics.median(times):.1f} ms, of which a driver makes several a job")
        for sampler, halving in itertools.product(given.samplers.split(","), (False, True)):
            learned, asked = proposing(record, sampler, halving, given.asks)
            middle = statistics.median(asked)
            missed |= middle > ASK_MS
            name = f"{sampler} and halving" if halving else sampler
            print(
                f"{name}: {middle:.1f} ms a proposal ({max(asked):.0f} at most, {ASK_MS} allowed); "
                f"{learned:.1f} s to learn all trials first"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
