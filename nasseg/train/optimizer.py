"""What moves the weights: the optimiser with its choice of what decays, and the moving average of the weights."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nasseg.train.recipe import Recipe

_DECAYS: dict[str, Callable[[nn.Module, Tensor], bool]] = {
    "weights": lambda _layer, weight: weight.ndim > 1,
    "convolutions": lambda layer, _weight: isinstance(layer, _ConvNd),
    "not_batch_norm": lambda layer, _weight: not isinstance(layer, _BatchNorm),
    "all": lambda _layer, _weight: True,
}


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over two groups of weights, those that decay first."""
    decays = _DECAYS[recipe.weight_decay_on]
    chosen: dict[bool, dict[int, nn.Parameter]] = {True: {}, False: {}}
    for layer in model.modules():
        for weight in layer.parameters(recurse=False):
            chosen[decays(layer, weight)][id(weight)] = weight  # once, if layers share it
    groups = [
        {"params": list(chosen[True].values()), "weight_decay": recipe.weight_decay},
        {"params": [w for key, w in chosen[False].items() if key not in chosen[True]], "weight_decay": 0.0},
    ]
    # Fused SGD whose first step the loss scaler skips goes on with a momentum that was never written.
    fused = recipe.precision != "fp16"
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


class Average:
    """An exponential moving average of a model's weights and statistics; its first steps weigh more."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = deepcopy(model.state_dict())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After each step, the first being 1."""
        decay = min(self.decay, step / (step + 9))
        current = model.state_dict()
        moving = [name for name, tensor in current.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in moving], [current[name] for name in moving], 1 - decay)
        for name, tensor in current.items():
            if not tensor.is_floating_point():
                self.state[name].copy_(tensor)
