"""The published networks on CamVid, one recipe for all, several seeds: mIoU and its spread, classes, latency.

Without --data on procedural scenes, to try the code.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from statistics import fmean, stdev
from typing import Any

import torch

from nasseg.data.dataset import DataSet, load_data
from nasseg.families import Arch, make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.records import LatencyProtocol
from nasseg.train.loop import evaluate, scores_of, train
from nasseg.train.recipe import Recipe
from tests.gpu.common import PUBLISHED, Items, Options, Row

STEPS, SEEDS = 800, 3  # of each network


def networks(options: Options) -> dict[str, Arch]:
    if options.tiny:
        return {"regseg, width 0.25": make_arch("regseg", width=0.25)}
    return {name: make_arch(name) for name in PUBLISHED.values()}


def data_of(options: Options) -> DataSet:
    if options.data is not None:
        return load_data(options.data)
    size, train = ((32, 64), 4) if options.tiny else ((360, 480), 367)
    return load_data("scenes", size=size, train=train, val=2 if options.tiny else 101, test=2 if options.tiny else 0)


def recipe_of(options: Options) -> Recipe:
    if options.tiny:
        return Recipe(name="short-scenes", steps=2, batch_size=2, warmup_steps=1)
    precision = "bf16" if options.cuda else "fp32"
    return Recipe(name="short-camvid", steps=STEPS, precision=precision)


def latency_of(arch: Arch, data: DataSet, options: Options) -> Row:
    protocol = LatencyProtocol(
        device=options.device,
        input_size=data.val.size,
        num_classes=data.num_classes,
        warmup=10,
        min_replicates=50,
        min_seconds=0.3,
    )
    if options.tiny:
        protocol = replace(protocol, warmup=0, min_replicates=2, min_seconds=0.0)
    ways = [protocol, replace(protocol, precision="fp16", backend="cuda-graph")] if options.cuda else [protocol]
    lock = DeviceLock(options.device)
    found = {f"{p.precision} {p.backend} ms": measure_latency(arch, p, lock.measuring).p50_ms for p in ways}
    lock.close()
    return found


def items(options: Options) -> Items:
    """Seed by seed, so that time that runs out leaves whole seeds."""
    data, recipe = data_of(options), recipe_of(options)
    for name, arch in networks(options).items():
        yield f"{name}, latency", partial(latency_of, arch, data, options)
    for seed in range(1 if options.tiny else SEEDS):
        for name, arch in networks(options).items():
            yield f"{name}, seed {seed}", partial(trained, arch, data, recipe, seed, options)


def trained(arch: Arch, data: DataSet, recipe: Recipe, seed: int, options: Options) -> Row:
    torch.manual_seed(seed)
    model = arch.build(data.num_classes)
    found = train(model, data, recipe, seed=seed, device=options.device)
    row = {"miou": found.miou, "pixel_accuracy": found.pixel_accuracy, "deviations": recipe.deviations}
    if "test" in data.sources:
        matrix = evaluate(model, data.test, data.num_classes, device=options.device)
        row["test_miou"] = scores_of(matrix, data.classes).miou
    row["train_seconds"] = round(found.train_seconds, 2)
    return {**row, **{f"iou.{label}": iou for label, iou in found.class_iou.items()}}


def summary(rows: dict[str, Row], _options: Options) -> Row:
    """By network: mean and standard deviation over the seeds of each figure."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for key, row in rows.items():
        network, what = key.rsplit(", ", 1)
        if what != "latency":
            groups[network].append(row)
    return {name: {"seeds": len(group), **_means(group)} for name, group in groups.items()}


def _means(group: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for figure in group[0].keys() - {"step", "key", "device", "tiny", "seconds", "deviations"}:
        known = [row[figure] for row in group if row[figure] is not None]
        found[figure] = round(fmean(known), 3) if known else None
        if len(known) > 1 and (figure.endswith("miou") or figure.startswith("iou.")):
            found[f"{figure} sd"] = round(stdev(known), 3)
    return dict(sorted(found.items()))
