"""Is the ground firm? The device; families in each backend against the wall clock; steps against the CPU; resuming."""

import subprocess
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from nasseg.measure.environment import environment
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from tests.gpu.common import Items, Options, Row, logits_of, of_family, some, wall_ms

CLOSE = 0.02  # relative: a step's loss to the CPU's, logits to those of eager


def items(options: Options) -> Items:
    yield "device", partial(device, options)
    for backend in ("eager", "cuda-graph", "compile") if options.cuda else ("eager",):
        for family in some(options):
            yield f"{family}, {backend}", partial(timed, family, backend, options)
    for family in some(options):
        yield f"{family}, a step of training", partial(step, family, options)
    yield "a checkpoint", partial(resumed, options)


def device(options: Options) -> Row:
    said = (
        subprocess.run(["nvidia-smi", "-q"], capture_output=True, text=True, check=False).stdout if options.cuda else ""
    )
    wanted = ("Driver Version", "Product Name", "GPU UUID", "MIG Mode", "Current Power Limit", "Max Customer", "SM  ")
    lines = [" ".join(line.split()) for line in said.splitlines() if any(word in line for word in wanted)]
    return {"environment": asdict(environment()), "nvidia-smi": lines, "cuda": torch.version.cuda}


def timed(family: str, backend: str, options: Options) -> Row:
    """Time by events and by the wall clock, and compare the logits with those of eager."""
    arch, protocol = of_family(family, options), options.protocol(backend=backend)
    lock = DeviceLock(options.device)
    found = measure_latency(arch, protocol, lock.measuring)
    with lock.measuring():
        wall = wall_ms(arch, protocol, protocol.min_replicates)
        eager, logits = (logits_of(arch, options.protocol(backend=b)) for b in ("eager", backend))
    lock.close()
    apart = float((logits - eager).norm() / eager.norm())
    known = {"p50_ms": found.p50_ms, "disturbed": found.disturbed, "wall_ms": wall, "apart from eager": apart}
    return {**known, "finite": bool(logits.isfinite().all()), "ok": apart < CLOSE}


def step(family: str, options: Options) -> Row:
    """The first loss of the recipe of a family's paper, here and on the CPU."""
    from nasseg.data.dataset import load_data
    from nasseg.train.loop import train
    from nasseg.train.recipe import Recipe

    data = load_data("scenes", size=(64, 128) if options.tiny else (256, 512), train=4, val=1)
    settings = {"crop_size": data.train.size, "batch_size": 4, "accumulation": 1, "precision": "fp32", "init": None}
    recipe = Recipe(name=f"{family}-cityscapes")
    settings |= {"class_weights": recipe.class_weights and "inverse_log"}
    found = {}
    for place in ("cpu", options.device):
        torch.manual_seed(0)
        model = of_family(family, options).build(data.num_classes)
        losses: list[float] = []
        train(
            model,
            data,
            recipe.model_copy(update=settings),
            seed=0,
            device=place,
            until=1,
            on_step=lambda _step, loss, losses=losses: losses.append(loss),
        )
        found[place] = losses[0]
    apart = abs(found[options.device] / found["cpu"] - 1)
    return {"cpu": found["cpu"], "here": found[options.device], "apart": apart, "ok": apart < CLOSE}


def resumed(options: Options) -> Row:
    """Six steps in one go and with a break after three: the losses of the last three."""
    from nasseg.data.dataset import load_data
    from nasseg.train.checkpoint import Checkpoints
    from nasseg.train.loop import train
    from nasseg.train.recipe import Recipe

    data = load_data("scenes", size=(64, 128), train=8, val=1)
    recipe = Recipe(steps=6, batch_size=4, scale_range=(0.75, 1.5), ema_decay=0.9)
    kept: list[list[float]] = []
    with TemporaryDirectory() as folder:
        for name, parts in (("whole", (None,)), ("broken", (3, None))):
            losses: list[float] = []
            for until in parts:
                torch.manual_seed(0)
                model = of_family("regseg", Options(options.device, tiny=True)).build(data.num_classes)
                checkpoints = Checkpoints(Path(folder) / f"{name}.pt", {"of": "agenda"})
                train(
                    model,
                    data,
                    recipe,
                    seed=0,
                    device=options.device,
                    until=until,
                    checkpoints=checkpoints,
                    on_step=lambda _step, loss, losses=losses: losses.append(loss),
                )
            kept.append(losses)
    apart = max(abs(a / b - 1) for a, b in zip(*kept, strict=True))
    return {"whole": kept[0], "broken": kept[1], "apart": apart, "ok": apart < CLOSE}


def summary(rows: dict[str, Row], _options: Options) -> Row:
    ratios = {key: round(row["p50_ms"] / row["wall_ms"], 3) for key, row in rows.items() if "wall_ms" in row}
    return {"events / wall clock": ratios, "not ok": [key for key, row in rows.items() if row.get("ok") is False]}
