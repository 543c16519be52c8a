"""How long must a GPU be warm? p50 after warm-ups of 5 runs, 0.5 s and 2 s from rest, in three processes."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from nasseg.families import Arch, make_arch
from nasseg.measure.latency.attempts import _burst
from nasseg.measure.latency.backends import numerics, runner
from nasseg.measure.latency.device_lock import DeviceLock
from tests.gpu.common import Items, Options, Row, published, some

PROCESSES = 3
WARM_UPS = {"5 runs": (5, 0.0), "0.5 s": (1, 0.5), "2 s": (1, 2.0)}
REST_SECONDS = 0.5  # in which clocks fall
REPEATABLE, RANKED = 0.01, 0.98


def archs(options: Options) -> dict[str, Arch]:
    """Six networks; tiny: two."""
    if options.tiny:
        return published(options)
    return {
        **{f: make_arch(f) for f in some(options) if f != "stdc"},
        "stdc1": make_arch("stdc1-seg"),
        "narrow": make_arch("regseg", width=0.25),
    }


def items(options: Options) -> Items:
    spawn = multiprocessing.get_context("spawn")
    for process in range(1, 2 if options.tiny else PROCESSES + 1):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            for name in archs(options):
                yield (
                    f"process {process}, {name}",
                    lambda pool=pool, name=name: pool.submit(ramp, name, options).result(),
                )


def ramp(name: str, options: Options) -> Row:
    """p50 in ms after each warm-up, and of five parts of the 100 runs that follow it."""
    arch, protocol = archs(options)[name], options.protocol(**options.ways()[0])
    lock, found = DeviceLock(options.device), {}
    with numerics(protocol), lock.measuring():
        run = runner(arch, protocol)
        for label, (runs, seconds) in WARM_UPS.items():
            time.sleep(0.0 if options.tiny else REST_SECONDS)
            _burst(run, protocol, runs, 0.0 if options.tiny else seconds)
            ms = 1e3 * _burst(run, protocol, 5 if options.tiny else 100, 0.0)[0]
            found[label] = float(np.median(ms))
            found[f"{label}, by fifths"] = [round(float(np.median(part)), 4) for part in np.array_split(ms, 5)]
    lock.close()
    return found


def summary(rows: dict[str, Row], _options: Options) -> Row:
    """Tell by warm-up how far p50 lies apart between two processes, and whether they rank alike."""
    by_process: dict[str, dict[str, Row]] = {}
    for key, row in rows.items():
        process, name = key.split(", ", 1)
        by_process.setdefault(process, {})[name] = row
    return {label: _agreement([*by_process.values()], label) for label in WARM_UPS}


def _agreement(processes: list[dict[str, Row]], label: str) -> Row:
    apart, tau = [], []
    for first, second in combinations(processes, 2):
        both = [name for name in first if name in second]
        pairs = [(first[name][label], second[name][label]) for name in both]
        apart += [abs(b / a - 1) for a, b in pairs]
        if len(pairs) > 1:
            tau.append(float(kendalltau(*zip(*pairs, strict=True)).statistic))
    if not apart:
        return {}
    known = {
        "apart, worst": max(apart),
        "apart, median": float(np.median(apart)),
        "Kendall tau, least": min(tau, default=None),
    }
    return {**known, "ok": max(apart) <= REPEATABLE and min(tau, default=1.0) >= RANKED}
