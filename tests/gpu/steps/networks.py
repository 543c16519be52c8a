"""Every published variant forward, backward, in bf16 and fp16 and as a CUDA graph; a step of every recipe."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nasseg.data.dataset import DataSet, load_data
from nasseg.families import Arch
from nasseg.measure.latency.backends import example, numerics, prepare, runner
from nasseg.records import LatencyProtocol
from nasseg.train.loop import train
from nasseg.train.losses import segmentation_loss
from nasseg.train.recipe import Recipe, published_recipes
from tests.gpu.common import CLASSES, Items, Options, Row, of_family, published, some, wait


def protocol_of(options: Options, **settings: Any) -> LatencyProtocol:
    return options.protocol(**{"cudnn_benchmark": False, **settings})


def _logits(logits: Tensor, arch: Arch, protocol: LatencyProtocol) -> None:
    whole = getattr(arch, "form", "") == "classifier"  # it answers for whole images
    expected = (protocol.batch, CLASSES, *(() if whole else protocol.input_size))
    assert logits.shape == expected, f"logits are {tuple(logits.shape)}"
    assert logits.isfinite().all(), "logits are not finite"


def forward(arch: Arch, options: Options, **settings: Any) -> None:
    """The inference form on one image."""
    protocol = protocol_of(options, **settings)
    with numerics(protocol), torch.inference_mode():
        _logits(prepare(arch, protocol)(example(protocol)), arch, protocol)


def backward(arch: Arch, options: Options, autocast: torch.dtype | None = None) -> None:
    """A loss on two images: every weight has a finite gradient."""
    protocol = protocol_of(options, batch=2, input_size=(64, 128) if options.tiny else (256, 512))
    with numerics(protocol):
        model = prepare(arch, protocol).train()
        with torch.autocast(options.device.partition(":")[0], autocast or torch.bfloat16, enabled=autocast is not None):
            logits = model(example(protocol))
        _logits(logits.detach(), arch, protocol)
        labels = torch.randint(0, CLASSES, (2, *logits.shape[2:]), device=options.device)
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
    arch, weighted = of_family(family, options), recipe.class_weights is not None
    settings: dict[str, Any] = {"init": None, "class_weights": "inverse_log" if weighted else None}
    settings |= {"crop_size": (64, 128), "batch_size": 2, "accumulation": 1} if options.tiny else {}
    chosen = recipe.model_copy(update={"eval_batch_size": 1, **settings})
    torch.manual_seed(0)
    train(arch.build(data.num_classes), data, chosen, seed=0, device=options.device, until=1)


def recipes_of(family: str) -> list[str]:
    """Those of the family's paper, and the short ones of no paper; not those for other data than labelled images."""
    return [
        name
        for name, recipe in published_recipes().items()
        if name.partition("-")[0] in (family, "short") and not {"label_smoothing", "pseudo"} & {*recipe.settings}
    ]


def attempt(check: Callable[[], None], options: Options) -> Row:
    """Return the most memory that a check took; it raises where something is wrong."""
    if options.cuda:
        torch.cuda.reset_peak_memory_stats(options.device)
    try:
        check()
        wait(options.device)
    finally:
        if options.cuda:
            torch.cuda.empty_cache()
    return {"peak_mib": round(torch.cuda.max_memory_allocated(options.device) / 2**20) if options.cuda else 0}


def skipped(name: str, options: Options) -> bool:
    return name == "CUDA graph" and not options.cuda


def items(options: Options) -> Items:
    data = load_data("scenes", size=(64, 128) if options.tiny else (256, 512), train=4 if options.tiny else 48, val=1)
    for family in some(options):  # first: there are few, and they need most memory
        for name in recipes_of(family)[-2 if options.tiny else 0 :]:
            check = partial(recipe_step, Recipe(name=name), family, options, data)
            yield f"{family}, a step of {name}", partial(attempt, check, options)
    for network, arch in published(options).items():
        for name, check in CHECKS.items():
            if not skipped(name, options):
                yield f"{network}, {name}", partial(attempt, partial(check, arch, options), options)


def summary(rows: dict[str, Row], _options: Options) -> Row:
    return {"passed": dict(Counter(key.rsplit(", ", 1)[1] for key in rows))}
