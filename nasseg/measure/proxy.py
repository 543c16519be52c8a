"""Proxies: figures of an untrained network that are said to predict its accuracy, for use as a study's own figures.

    figures: {naswot: {function: "nasseg.measure.proxy:naswot", direction: maximize, phase: latency}}

They cost one pass. Each is called as function(model, measurement) and sees the same noise, whatever the data are. The
initial weights, from the trial's seed, also affect it. The report says how well each ranks in a study; a limit on one
screens candidates. On the 286 points of a space of all families, which are 280 small networks (reports/replay), NASWOT
ranks best of the three, but worse than multiply-adds: do not screen by any of them without evidence of your own.

Sources: synflow, Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow",
2020; NASWOT, Mellor et al., "Neural Architecture Search without Training", 2021; gradient norm, as in Abdelfattah et
al., "Zero-Cost Proxies for Lightweight NAS", 2021.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nasseg.families.layers import train_mode
from nasseg.records import Measurement

IMAGES = 16
SIZE = (64, 128)


def naswot(model: nn.Module, _measurement: Measurement) -> float:
    """Return log |K|, where K[i, j] is the number of rectifiers that agree on images i and j, on or off.

    The more the images' codes differ, the larger it is.
    """
    network = _fresh(model)
    # In training mode, because with initial statistics BatchNorm would leave most rectifiers in the same state.
    with train_mode(network), torch.no_grad(), _Codes() as codes:
        network(_noise(IMAGES))
    return float(torch.linalg.slogdet(codes.kernel)[1])


class _Codes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.zeros(IMAGES, IMAGES, dtype=torch.float64)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        # Some networks also rectify weights, such as BiFPN's fusion weights; these have no images.
        if function.overloadpacket.__name__.rstrip("_") in _RECTIFIERS and output.dim() == 4:
            code = (output.flatten(1) > 0).float()
            self.kernel += (code @ code.T + (1 - code) @ (1 - code).T).double()
        return output


_RECTIFIERS = ("relu", "_prelu_kernel", "silu", "hardswish", "hardtanh")


def synflow(model: nn.Module, _measurement: Measurement) -> float:
    """Return log sum |weight x gradient| of the network with absolute weights, on an image of ones.

    BatchNorm does nothing.
    """
    network = _fresh(model).double().eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.abs_()
    network(torch.ones(1, 3, *SIZE, dtype=torch.float64)).sum().backward()
    flow = sum(float((p.detach() * p.grad).abs().sum()) for p in network.parameters() if p.grad is not None)
    return math.log(flow) if flow > 0 else -math.inf


def gradient_norm(model: nn.Module, _measurement: Measurement) -> float:
    """Return the log of the norm of all gradients of the cross entropy to random labels."""
    network = _fresh(model)
    with train_mode(network):
        logits = network(_noise(8))
    labels = torch.randint(logits.shape[1], (8, *SIZE), generator=torch.Generator().manual_seed(1))
    F.cross_entropy(logits, labels).backward()
    squares = sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
    return 0.5 * math.log(squares) if squares > 0 else -math.inf


def _fresh(model: nn.Module) -> nn.Module:
    """Copy the model, so that the one to be timed keeps its state."""
    return copy.deepcopy(model).requires_grad_(True)


def _noise(images: int) -> Tensor:
    return torch.randn(images, 3, *SIZE, generator=torch.Generator().manual_seed(0))
