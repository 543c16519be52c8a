"""Images a second of the training loop, against what the device could do and a plain loop; energy of six networks.

limit: forward, backward and the optimiser's step alone, again and again on one batch that is on the device. plain:
fp32, images augmented on the CPU and sent to the device. ours: the loop as it is, with the recipe's precision. Against
a DataLoader: tests.benchmarks.bench_training.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from statistics import median

import torch

from nasseg.data.dataset import DataSet, load_data
from nasseg.families import Arch, make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.train.loop import Training
from nasseg.train.recipe import Recipe
from nasseg.train.views.batches import Batches
from tests.gpu.common import PUBLISHED, Items, Options, Row, of_family, some, wait

PARTS = ("batch", "augment", "forward", "backward", "optimizer")


def recipe_of(options: Options, precision: str) -> Recipe:
    settings = {"steps": 1_000, "batch_size": 16, "crop_size": (512, 1024), "warmup_steps": 1}
    if options.tiny:
        settings |= {"batch_size": 2, "crop_size": (64, 128)}
    return Recipe(name="short-cityscapes", **settings, precision=precision)


def data_of(options: Options) -> DataSet:
    size, train = ((64, 128), 4) if options.tiny else ((512, 1024), 32)
    return load_data("scenes", size=size, train=train, val=1)


def training_of(family: str, recipe: Recipe, data: DataSet, options: Options) -> Training:
    torch.manual_seed(0)
    model = of_family(family, options)
    training = Training(model.build(data.num_classes), data, recipe, 0, options.device)
    training.model.train()
    return training


def loop_step(training: Training) -> None:
    training._step(more=True)
    training.step += 1


def resident_step(training: Training) -> Callable[[Training], None]:
    """Steps on one batch."""
    batch, places = training.batches.next()
    images, labels = training.augment(*batch, training.generator, places)

    def step(training: Training) -> None:
        training.optimizer.zero_grad()
        training.scaler.scale(training.loss(images, labels)).backward()
        training.scaler.step(training.optimizer)
        training.scaler.update()

    return step


def plain_step(training: Training) -> Callable[[Training], None]:
    """As written without thought of the device: views are made on the CPU, everything is fp32."""
    batches = Batches(training.data, training.recipe, training.generator, torch.device("cpu"))

    def step(training: Training) -> None:
        batch, places = batches.next()
        images, labels = (p.to(training.device) for p in training.augment(*batch, training.generator, places))
        training.optimizer.zero_grad()
        loss = training.loss(images, labels)
        loss.backward()
        training.optimizer.step()
        loss.item()

    return step


def step_by_part(training: Training) -> dict[str, float]:
    """Milliseconds of the parts of a step of ours, each waited for."""
    stamps: list[float] = []

    def stamp() -> None:
        wait(str(training.device))
        stamps.append(time.perf_counter())

    stamp()
    batch, places = training.batches.next()
    stamp()
    images, labels = training.augment(*batch, training.generator, places)
    stamp()
    training.optimizer.zero_grad()
    loss = training.loss(images, labels)
    stamp()
    training.scaler.scale(loss).backward()
    stamp()
    training.scaler.step(training.optimizer)
    training.scaler.update()
    if training.average:
        training.average.update(training.step + 1)
    stamp()
    return {name: 1e3 * (after - before) for name, (before, after) in zip(PARTS, pairwise(stamps), strict=True)}


def images_a_second(training: Training, step: Callable[[Training], None], options: Options) -> float:
    """After a warm-up; waited for at both ends."""
    warm, steps = (1, 2) if options.tiny else (8, 25)
    with training.heads.reading(training.model) if training.heads.names else nullcontext():
        for _ in range(warm):
            step(training)
        wait(str(training.device))
        begun = time.perf_counter()
        for _ in range(steps):
            step(training)
        wait(str(training.device))
    return steps * training.recipe.batch_size / (time.perf_counter() - begun)


def items(options: Options) -> Items:
    for family in some(options)[: 1 if options.tiny else None]:
        yield f"{family}, training", partial(speed, family, options)
    for family in some(options) if options.cuda else ():
        yield f"{family}, energy", partial(energy, make_arch(PUBLISHED[family]), options)
    if options.cuda:
        yield "narrow, energy", partial(energy, make_arch("regseg", width=0.25), options)


def speed(family: str, options: Options) -> Row:
    data = data_of(options)
    training = training_of(family, recipe_of(options, "bf16"), data, options)
    if options.cuda:
        torch.cuda.reset_peak_memory_stats(options.device)
    ours = images_a_second(training, loop_step, options)
    peak = torch.cuda.max_memory_allocated(options.device) / 2**20 if options.cuda else 0.0
    parts = [step_by_part(training) for _ in range(2 if options.tiny else 10)]
    limit = images_a_second(training, resident_step(training), options)
    training = training_of(family, recipe_of(options, "fp32"), data, options)
    plain = images_a_second(training, plain_step(training), options)
    return {
        "ours": ours,
        "limit": limit,
        "plain": plain,
        "ours / limit": ours / limit,
        "ours / plain": ours / plain,
        "peak_mib": round(peak),
        **{f"{part} ms": median(one[part] for one in parts) for part in PARTS},
    }


def energy(arch: Arch, options: Options) -> Row:
    """Millijoules of an image, at rest and at work: fp16, CUDA graph."""
    lock = DeviceLock(options.device)
    found = measure_latency(arch, options.protocol(**options.ways()[0]), lock.measuring, energy=True)
    lock.close()
    return {"p50_ms": found.p50_ms, "energy": found.energy and asdict(found.energy)}


def summary(rows: dict[str, Row], _options: Options) -> Row:
    return {
        key: {name: round(row[name], 3) for name in ("ours / limit", "ours / plain")}
        for key, row in rows.items()
        if "ours" in row
    }
