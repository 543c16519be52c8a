"""Item 1: every published variant forward, backward, in bf16 and fp16 and as a CUDA graph; a step of every recipe."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nasseg.data.dataset import DataSet, load_data
from nasseg.families import Arch, make_arch
from nasseg.measure.latency.backends import example, numerics, prepare, runner
from nasseg.records import LatencyProtocol
from nasseg.train.loop import train
from nasseg.train.losses import segmentation_loss
from nasseg.train.recipe import Recipe, published_recipes
from tests.gpu.common import FAMILIES, PUBLISHED, Deadline, Options, Rows, published

CLASSES = 19


def protocol_of(options: Options, **settings: Any) -> LatencyProtocol:
    size = (64, 128) if options.tiny else (512, 1024)
    given = {"device": options.device, "input_size": size, "num_classes": CLASSES, "cudnn_benchmark": False}
    return LatencyProtocol(**{**given, **settings})


def _logits(logits: Tensor, protocol: LatencyProtocol) -> None:
    assert logits.shape == (protocol.batch, CLASSES, *protocol.input_size), f"logits are {tuple(logits.shape)}"
    assert logits.isfinite().all(), "logits are not finite"


def forward(arch: Arch, options: Options, **settings: Any) -> None:
    """The inference form on one image."""
    protocol = protocol_of(options, **settings)
    with numerics(protocol), torch.inference_mode():
        _logits(prepare(arch, protocol)(example(protocol)), protocol)


def backward(arch: Arch, options: Options, autocast: torch.dtype | None = None) -> None:
    """A loss on two images: every weight has a finite gradient."""
    protocol = protocol_of(options, batch=2, input_size=(64, 128) if options.tiny else (256, 512))
    with numerics(protocol):
        model = prepare(arch, protocol).train()
        labels = torch.randint(0, CLASSES, (2, *protocol.input_size), device=options.device)
        with torch.autocast(options.device.partition(":")[0], autocast or torch.bfloat16, enabled=autocast is not None):
            logits = model(example(protocol))
        _logits(logits.detach(), protocol)
        segmentation_loss(logits.float(), labels, None).backward()
        _gradients(model)


def _gradients(model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        assert weight.grad is not None, f"{name} has no gradient"
        assert weight.grad.isfinite().all(), f"the gradient of {name} is not finite"


def graph(arch: Arch, options: Options) -> None:
    """A CUDA graph, replayed: the same logits as without."""
    eager, captured = (protocol_of(options, backend=backend) for backend in ("eager", "cuda-graph"))
    with numerics(eager), torch.inference_mode():
        expected, found = runner(arch, eager)(), runner(arch, captured)()  # both seeded: one network, one image
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


CHECKS: dict[str, Callable[[Arch, Options], None]] = {
    "forward, channels_last": forward,
    "forward, contiguous": lambda arch, options: forward(arch, options, memory_format="contiguous"),
    "forward, fp16": lambda arch, options: forward(arch, options, precision="fp16"),
    "backward": backward,
    "backward, bf16 autocast": lambda arch, options: backward(arch, options, torch.bfloat16),
    "CUDA graph": graph,
}


def recipe_step(recipe: Recipe, family: str, options: Options, data: DataSet) -> None:
    """One training step of a recipe, at its own sizes (tiny: small ones), and an evaluation."""
    arch = make_arch(PUBLISHED[family], **({"width": 0.25} if options.tiny else {}))
    settings = {"crop_size": (64, 128), "batch_size": 2, "accumulation": 1} if options.tiny else {}
    chosen = recipe.model_copy(update={"eval_batch_size": 1, **settings})
    torch.manual_seed(0)
    train(arch.build(data.num_classes), data, chosen, seed=0, device=options.device, until=1)


def recipes_of(family: str) -> list[str]:
    """Those of the family's paper, and the short ones of no paper."""
    return [name for name in published_recipes() if name.partition("-")[0] in (family, "short")]


def attempt(check: Callable[[], None], options: Options) -> dict[str, Any]:
    """Whether it runs, why not, seconds and the most memory that it took."""
    begun, why = time.monotonic(), ""
    if options.cuda:
        torch.cuda.reset_peak_memory_stats(options.device)
    try:
        check()
        if options.cuda:
            torch.cuda.synchronize(options.device)
    except Exception as error:  # what fails is the result
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        torch.cuda.empty_cache()
    peak = torch.cuda.max_memory_allocated(options.device) / 2**20 if options.cuda else 0.0
    return {"ok": not why, "why": why, "seconds": round(time.monotonic() - begun, 3), "peak_mib": round(peak)}


def skipped(name: str, options: Options) -> bool:
    return name == "CUDA graph" and not options.cuda


def run(options: Options, deadline: Deadline) -> Rows:
    data = load_data("scenes", size=(64, 128) if options.tiny else (256, 512), train=4 if options.tiny else 48, val=1)
    for family in ("regseg", "stdc") if options.tiny else FAMILIES:  # first: there are few, and they need most memory
        for name in recipes_of(family)[-2 if options.tiny else 0 :]:
            if deadline.allows(f"{family}, {name}"):
                recipe = Recipe(name=name)
                found = attempt(lambda r=recipe, f=family: recipe_step(r, f, options, data), options)
                yield {"network": PUBLISHED[family], "check": f"a step of {name}", **found}
    for network, arch in published(options).items():
        for name, check in CHECKS.items():
            if not skipped(name, options) and deadline.allows(f"{network}, {name}"):
                found = attempt(lambda check=check, arch=arch: check(arch, options), options)
                yield {"network": network, "check": name, **found}


def protocol(options: Options) -> dict[str, Any]:
    return vars(protocol_of(options)) | {"training": "published recipes, one step, batch and crop as they say"}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [row for row in rows if not row["ok"]]
    return {
        "attempted": len(rows),
        "failed": len(failed),
        "failed by check": dict(Counter(r["check"] for r in failed)),
        "failures": [f"{row['network']}, {row['check']}: {row['why']}" for row in failed],
    }
