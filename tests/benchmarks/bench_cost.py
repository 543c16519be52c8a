"""Cost before training: how much faster than fvcore, how many architectures a second, how much memory.

    python -m tests.benchmarks.bench_cost                    every published network (an hour or more: fvcore runs each)
    python -m tests.benchmarks.bench_cost regseg dabnet      these networks only
    python -m tests.benchmarks.bench_cost --samples 200      architectures a space

Exit 1 if a goal is missed. The baseline is fvcore on CPU tensors, in the same run and by turns: two threads, warm,
without the time to build its model, which ours includes. Every time is the least of three. Nothing else should run:
seconds are wall-clock, and beside them stands CPU time (of all threads), which suffers less from neighbours, though not
little: they take caches and clock. Architectures a second a core are by CPU time, since one thread does all of it.
"""

import argparse
import multiprocessing
import random
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from fvcore.nn import FlopCountAnalysis

from nasseg.families import make_arch, variants
from nasseg.measure.cost import measure_cost
from nasseg.space import load_space

SIZE, CLASSES = (1024, 2048), 19
OTHER = ((512, 1024), 7)  # neither the input size nor the classes of an id
REPEATS = 3
FASTER = 50  # median over the variants
A_SECOND = {"bisenetv2": 40, "stdc": 40, "regseg": 40, "dabnet": 40, "eseg": 12, "composed": 12}  # space -> a core
SIZES, GROWTH = ((64, 128), (4096, 8192)), 1.02  # peak memory at the second, over that at the first


Times = tuple[float, float]  # wall, CPU seconds


def fastest(*functions: Callable[[], object]) -> list[Times]:
    """The least times of each of some calls that take turns."""
    found: list[list[Times]] = [[] for _ in functions]
    for _ in range(REPEATS):
        for function, times in zip(functions, found, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [(min(wall for wall, _ in times), min(cpu for _, cpu in times)) for times in found]


def fvcore_total(model: torch.nn.Module, image: torch.Tensor) -> int:
    analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analysis.total())


def cost_of_name(name: str) -> None:
    measure_cost(make_arch(name), SIZE, CLASSES)


@torch.no_grad()
def against_fvcore(names: list[str]) -> bool:
    torch.set_num_threads(2)
    image = torch.zeros(1, 3, *SIZE)
    ratios: list[tuple[float, float]] = []
    print(f"{'network':34} {'fvcore s':>9} {'ours s':>8} {'faster':>7} {'by CPU':>7}   FLOPs by fvcore, ours")
    for name in names:
        arch = make_arch(name)
        model = arch.build(CLASSES).eval()
        try:
            theirs, flops = fvcore_total(model, image), measure_cost(arch, SIZE, CLASSES).fvcore_flops  # warm
            calls = partial(fvcore_total, model, image), partial(cost_of_name, name)
            fvcore, ours = fastest(*calls)
        except TypeError as error:  # where a model computes with sizes that a trace makes tensors of
            print(f"{name:34} fvcore fails: {error}")
            continue
        ratios.append((fvcore[0] / ours[0], fvcore[1] / ours[1]))
        same = "the same" if flops == theirs else f"NOT THE SAME: {theirs}, {flops}"
        wall, cpu = ratios[-1]
        print(f"{name:34} {fvcore[0]:9.2f} {ours[0]:8.4f} {wall:7.0f} {cpu:7.0f}   {same}", flush=True)
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"median over {len(ratios)}: {wall:.0f} times faster ({cpu:.0f} by CPU time); the goal is {FASTER}")
    return wall >= FASTER


def a_second(samples: int) -> bool:
    """Sampling, building, costing and the id, at the size of the id (one recording) and at another (two)."""
    torch.set_num_threads(1)
    reached = True
    print(f"\n{'space':12} {'a core':>7} {'wall':>7} {'goal':>5}   a second; {'other size':>10}")
    for name, goal in A_SECOND.items():
        (cpu, wall), (other, _) = (rates(name, samples, size, classes) for size, classes in ((SIZE, CLASSES), OTHER))
        reached &= cpu >= goal
        print(f"{name:12} {cpu:7.1f} {wall:7.1f} {goal:5}   {other:20.1f}", flush=True)
    return reached


def rates(name: str, samples: int, size: tuple[int, int], classes: int) -> tuple[float, float]:
    """Architectures a CPU second, and a second."""
    space = load_space(name)

    def draw(seed: int) -> None:
        settings = space.settings(space.sample(random.Random(seed)))
        arch = make_arch(str(settings.pop("family")), **settings)
        measure_cost(arch, size, classes)
        assert arch.id

    for seed in range(3):
        draw(seed)
    times = [fastest(partial(draw, seed))[0] for seed in range(samples)]
    return samples / sum(cpu for _, cpu in times), samples / sum(wall for wall, _ in times)


def peak_megabytes(size: tuple[int, int]) -> float:
    """Of a fresh process that costs one network."""
    measure_cost(make_arch("regseg"), size, CLASSES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> bool:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        small, large = (pool.apply(peak_megabytes, (size,)) for size in SIZES)
    print(f"\npeak memory of a process: {small:.0f} MB at {SIZES[0]}, {large:.0f} MB at {SIZES[1]}; at most x {GROWTH}")
    return large <= GROWTH * small


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", help="variants or families; default: every variant")
    parser.add_argument("--samples", type=int, default=50)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = [memory(), a_second(arguments.samples), against_fvcore(arguments.networks or list(variants()))]
    print("\n" + ("every goal is reached" if all(kept) else "A GOAL IS MISSED"))
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
