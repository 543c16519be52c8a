"""A table of networks that nobody trained, over a space of two families; mIoU grows with cost and with training."""

import csv
import random

from nasseg.families import arch_of
from nasseg.records import digest
from nasseg.space.load import space_from_text
from nasseg.study.replay.trained_table import FIGURES, read_table

SPACE = """
about: widths and depths of two families
parameters:
  family: [regseg, bisenetv2]
  regseg.width: {choices: [0.25, 0.5, 0.75, 1.0], when: {family: regseg}}
  stage3_depth: {range: [1, 4], when: {family: regseg}}
  dilations:
    template: "(1,1)+{a}*(1,{d})"
    holes: {a: {range: [1, 6]}, d: [2, 4]}
    when: {family: regseg}
  bisenetv2.width: {choices: [0.25, 0.5, 0.75, 1.0], when: {family: bisenetv2}}
  channel_ratio: {choices: [0.125, 0.25, 0.5], when: {family: bisenetv2}}
  expansion: {range: [1, 4], when: {family: bisenetv2}}
  depth: {range: [1, 4], when: {family: bisenetv2}}
"""
SMALL = """
about: a few widths and depths
parameters:
  family: regseg
  width: [0.25, 0.5, 0.75, 1.0]
  stage3_depth: {range: [1, 4]}
  se_ratio: {choices: [0.0, 0.25], when: {stage3_depth: [1, 2]}}
"""
STEPS = (50, 150, 450)


def points(space):
    """Every point of a space without forbid."""

    def grow(params, rest):
        if not rest:
            yield params
            return
        first, *others = rest
        for value in first.values if first.active(params) else [None]:
            yield from grow(params if value is None else {**params, first.name: value}, others)

    yield from grow({}, list(space.parameters.values()))


def rows(space, steps=STEPS, seeds=(0,), noise=1.0):
    """Rows of a table as dicts: every point of the space."""
    for params in points(space):
        settings = space.settings(params)
        arch = arch_of(settings)
        luck = random.Random(digest([settings["family"], arch.params()]))
        size = sum(
            float(value) / (4 if name != "expansion" else 8)
            for name, value in params.items()
            if isinstance(value, int | float)
        )
        macs = int(1e8 * size * luck.uniform(0.7, 1.4))
        final = 20 + 12 * size**0.5 + luck.gauss(0, 3)
        for seed in seeds:
            for step in steps:
                miou = final * (step / steps[-1]) ** 0.3 + luck.gauss(0, noise * (steps[-1] / step) ** 0.5 / 2)
                yield {
                    **params,
                    "arch_id": digest(settings),
                    "macs": macs,
                    "params": macs // 50,
                    "latency_ms": round(macs / 1e8 + luck.uniform(0, 1), 3),
                    "step": step,
                    "miou": round(miou, 3),
                    "train_seconds": round(step * (0.1 + macs / 1e9), 2),
                    "seed": seed,
                }


def write(folder, keep=lambda row: True, text=SPACE, **options):
    """The table as files; its path."""
    space = space_from_text(text, "made_up")
    path = folder / "made_up.csv"
    path.with_suffix(".yaml").write_text(text)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*space.parameters, *FIGURES], restval="")
        writer.writeheader()
        writer.writerows(row for row in rows(space, **options) if keep(row))
    return path


def made_up(folder, **options):
    return read_table(write(folder, **options))
