"""Calibrate the BatchNorms of a network with random weights, so that it stays within fp16.

As built, they change nothing, and the sums of a deep network exceed 65,504 before its end: fp16 then computes with
infinities.
"""

import torch
from torch import nn

from nasseg.families.layers import train_mode
from nasseg.records import Size


@torch.no_grad()
def calibrate_batch_norms(model: nn.Module, input_size: Size, device: torch.device | str) -> None:
    """Give each BatchNorm that has seen no data the statistics of a noise image, in one fp32 pass on a device.

    Trained BatchNorms keep theirs.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not m.num_batches_tracked]
    if not norms:
        return
    image = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(0))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics become those of this pass
    model.to(device)
    with train_mode(*norms):
        model(image.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
