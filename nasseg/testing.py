"""The rules that every family keeps, as checks of one architecture, for nasseg's families and yours."""

import dataclasses
import json
from collections.abc import Callable
from math import ceil, floor
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasseg.errors import UserError
from nasseg.families.arch import Arch, Segmenter
from nasseg.families.graph.recorder import record
from nasseg.families.layers import train_mode
from nasseg.measure.cost import measure_cost

# Both sides of 88 x 120 can be halved as often as those of 360 x 480.
SIZES = ((32, 32), (33, 47), (97, 161), (88, 120), (33, 250))
TRAINING = ((2, (64, 96)), (1, (32, 32)), (1, (97, 161)), (1, (33, 47)), (1, (88, 120)), (2, (33, 250)))
ODD = (97, 161)


def check_family(family: type[Arch], **params: Any) -> None:
    """Run every check on `family(**params)`. Choose a small form: it runs on the CPU (seconds to a minute).

    Raises:
        AssertionError: a rule is broken; the message names the check, whose docstring states the rule.
    """
    arch = family.from_params(params)
    for check in CHECKS:
        try:
            check(arch)
        except Exception as error:
            rule = (check.__doc__ or "").partition("\n")[0].removeprefix("Check that ")
            raise AssertionError(f"{family.__name__}: {check.__name__}: {rule} {error}") from error


def check_params(arch: Arch) -> None:
    """Check that an arch survives params and JSON unchanged, and is frozen."""
    same = type(arch).from_params(json.loads(json.dumps(arch.params())))
    assert same == arch, f"from_params(params()) gives {same}, not {arch}"
    try:
        arch.input_scale = 2.0  # type: ignore[misc]
    except dataclasses.FrozenInstanceError:
        return
    raise AssertionError("declare the class with @dataclass(frozen=True, kw_only=True)")


def check_bad_params(arch: Arch) -> None:
    """Check that unknown names and impossible values raise a UserError that names the family."""
    bad: tuple[tuple[str, Any, str], ...] = (
        ("input_scal", 1.0, "did you mean 'input_scale'"),
        ("input_scale", "big", "must be of type float"),
        ("input_scale", True, "must be of type float"),
        ("input_scale", 0.0, "above 0"),
        ("input_scale", float("nan"), "above 0"),
    )
    for name, value, message in bad:
        answer = "it is accepted"
        try:
            type(arch).from_params({**arch.params(), name: value})
        except UserError as error:
            answer = str(error)
        assert message in answer, f"{name} = {value!r}: {answer}"
        assert arch.family in answer, f"{name} = {value!r}: {answer}"


def check_logits(arch: Arch) -> None:
    """Check that logits are finite and have the input's size, odd sizes too."""
    for scale in (1.0, 0.5):
        model = _scaled(arch, scale).build(5).eval()
        for size in SIZES:
            with torch.inference_mode():
                logits = model(torch.randn(2, 3, *size))
            assert logits.shape == (2, 5, *size), f"{tuple(logits.shape)} for an input of {size}"
            assert logits.isfinite().all(), f"not finite for an input of {size}"


def check_gradients(arch: Arch) -> None:
    """Check that gradients are finite and reach every weight, also with a single image."""
    for batch, size in TRAINING:
        check_training(arch, batch, size)
    check_training(_scaled(arch, 0.5), 1, (33, 47))


def check_training(arch: Arch, batch: int, size: tuple[int, int]) -> None:
    """Check one training step of one batch."""
    model = _seeded(arch, 3)
    with train_mode(model):
        model(torch.randn(batch, 3, *size)).square().mean().backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missing, f"no gradient at {batch} x {size} for {missing}"
    grads = {name: weight.grad for name, weight in model.named_parameters()}
    wild = [name for name, grad in grads.items() if grad is not None and not grad.isfinite().all()]
    assert not wild, f"not finite at {batch} x {size}: {wild}"


def check_features(arch: Arch) -> None:
    """Check that features and the decoder's output are as declared, and that the logits depend on every weight."""
    model = arch.build_meta(5)
    with torch.no_grad():
        maps = dict(model.forward_features(torch.empty(1, 3, *ODD, device="meta")))
    model.decoder.register_forward_hook(lambda _module, _inputs, made: maps.update(decoder=made))
    graph = record(model, ODD)
    used = {w.index for operator in graph.reachable() for w in operator.weights if w and w.trainable}
    index, number = graph.outputs["logits"]
    logits = graph.operators[index].output_shapes[number]
    assert logits in ((1, 5, *ODD), (1, 5)), (
        f"logits {logits} for an image of {ODD}: neither a map's nor a classifier's"
    )
    total = len(list(model.parameters()))
    assert len(used) == total, f"the logits depend on {len(used)} of {total} weights"
    declared = {**(model.context or model.encoder).features, "decoder": model.decoder.feature}
    assert set(maps) == set(declared), f"maps {sorted(maps)}, declared {sorted(declared)}"
    sides = [floor(side * arch.input_scale) for side in ODD]
    for name, x in maps.items():
        expected = (1, declared[name].channels, *(ceil(side / declared[name].stride) for side in sides))
        assert tuple(x.shape) == expected, f"{name} is {tuple(x.shape)}, declared {expected}"


def check_training_heads(arch: Arch) -> None:
    """Check that a head on any feature trains with the network and does not change its logits."""
    model, image = _seeded(arch, 3), torch.randn(2, 3, 64, 96)
    features = (model.context or model.encoder).features
    heads = {name: nn.Conv2d(feature.channels, 3, 1) for name, feature in features.items()}
    with train_mode(model):
        maps = model.forward_features(image)
        extra = torch.stack([head(maps[name]).square().mean() for name, head in heads.items()]).sum()
        (_logits(model, maps, image).square().mean() + extra).backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missing, f"no gradient for {missing}"
    model.eval()
    with torch.inference_mode():
        maps = model.forward_features(image)
        for name, head in heads.items():
            head(maps[name])
        assert torch.equal(_logits(model, maps, image), model(image)), "reading a feature changed the logits"


def check_eval(arch: Arch) -> None:
    """Check that in eval mode the same input gives the same logits, and that images of a batch do not mix."""
    model, images = _seeded(arch, 4).eval(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        together = model(images)
        assert torch.equal(together, model(images)), "two runs differ"
        alone = torch.cat([model(images[:1]), model(images[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def check_id(arch: Arch) -> None:
    """Check that the id depends on what changes the inference graph, and not on a build, a seed or the classes."""
    other = type(arch).from_params(arch.params())
    _seeded(other, 3)
    assert other.id == arch.id, "two equal archs have two ids"
    assert _scaled(arch, 0.37).id != arch.id, "input_scale does not change the id: pass it to Segmenter"


def check_cost(arch: Arch) -> None:
    """Check that the predicted cost equals torch's count on the built model."""
    model = arch.build(7).eval()  # not on the meta device, where torch takes longer than computing it
    for size in ((64, 96), ODD):
        cost = measure_cost(arch, size, 7)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, *size))
        counted = counter.get_total_flops()
        assert counted == 2 * cost.macs, f"{2 * cost.macs} FLOPs predicted at {size}, torch counts {counted}"
        weights = sum(weight.numel() for weight in model.parameters())
        assert cost.params == weights, f"{cost.params} parameters predicted, {weights} built"


CHECKS: tuple[Callable[[Arch], None], ...] = (
    check_params,
    check_bad_params,
    check_logits,
    check_gradients,
    check_features,
    check_training_heads,
    check_eval,
    check_id,
    check_cost,
)


def _scaled(arch: Arch, scale: float) -> Arch:
    return type(arch).from_params({**arch.params(), "input_scale": scale})


def _seeded(arch: Arch, num_classes: int) -> Segmenter:
    torch.manual_seed(0)
    return arch.build(num_classes)


def _logits(model: Segmenter, maps: Any, image: torch.Tensor) -> torch.Tensor:
    return model.fit(model.head(model.decoder(maps)), image)
