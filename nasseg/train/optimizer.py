"""The optimiser, its choice of weights to decay, and the moving average of the weights."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nasseg.errors import MisfitError, unknown
from nasseg.train.recipe import Recipe

HEADS = "heads"  # the recipe's, as a part with its own rate
FACTOR = "factor"  # factor of a group's learning rate

_DECAYS: dict[str, Callable[[nn.Module, Tensor], bool]] = {
    "weights": lambda _layer, weight: weight.ndim > 1,
    "convolutions": lambda layer, _weight: isinstance(layer, _ConvNd),
    "not_batch_norm": lambda layer, _weight: not isinstance(layer, _BatchNorm),
    "all": lambda _layer, _weight: True,
}


def make_optimizer(model: nn.Module, recipe: Recipe, heads: nn.Module | None = None) -> torch.optim.Optimizer:
    """Return the recipe's optimiser.

    It has two groups of weights, those that decay first, then two for each part with its own rate.

    heads: the recipe's training heads.

    Raises:
        MisfitError: a rate is set for a part that the network does not have.
    """
    factors = recipe.learning_rate_of or {}
    parts = dict(model.named_children()) | ({} if heads is None else {HEADS: heads})
    for name in factors:
        if name not in parts:
            raise MisfitError(str(unknown("part of the network (learning_rate_of)", name, parts)))
    own = [parts[name] for name in factors]
    groups = _groups([model, *([heads] if heads else [])], recipe, {id(w) for part in own for w in part.parameters()})
    for part, factor in zip(own, factors.values(), strict=True):
        groups += [{**group, FACTOR: factor} for group in _groups([part], recipe, set())]
    # If the loss scaler skips its first step, fused SGD continues with a momentum that was never written.
    fused = recipe.precision != "fp16"
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=fused)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.learning_rate, fused=fused)


def _groups(models: list[nn.Module], recipe: Recipe, without: set[int]) -> list[dict[str, Any]]:
    """Return the weights that decay and those that do not, leaving out some by their id."""
    decays = _DECAYS[recipe.weight_decay_on]
    chosen: dict[bool, dict[int, nn.Parameter]] = {True: {}, False: {}}
    for layer in (layer for model in models for layer in model.modules()):
        for weight in layer.parameters(recurse=False):
            if id(weight) not in without:
                chosen[decays(layer, weight)][id(weight)] = weight  # once, if layers share it
    return [
        {"params": list(chosen[True].values()), "weight_decay": recipe.weight_decay},
        {"params": [w for key, w in chosen[False].items() if key not in chosen[True]], "weight_decay": 0.0},
    ]


class Average:
    """An exponential moving average of a model's weights and statistics; its first steps weigh more.

    The model's tensors are looked up once: they may be changed in place, as optimisers and load_state_dict do, but not
    replaced.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        current = model.state_dict()
        self.state = deepcopy(current)
        pairs = [(self.state[name], tensor) for name, tensor in current.items()]
        self.moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self.counted = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after a step, counted from 1."""
        averages, current = zip(*self.moving, strict=True)
        torch._foreach_lerp_(averages, current, 1 - min(self.decay, step / (step + 9)))
        for kept, now in self.counted:
            kept.copy_(now)
