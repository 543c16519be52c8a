"""Field of view by RegSeg's Eqs 1-2 against what the gradient of the image says, every family alike."""

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nasseg.families import FAMILIES, make_arch
from nasseg.families.graph.recorder import _kind, record
from nasseg.measure.cost import field_of_view
from tests.families.cheap import CHEAP

SETTINGS = [
    *((family, {"name": "resnet18"} if family == "backbone" else {}) for family in FAMILIES),
    ("bisenetv2", {"depth": 2}),
    ("bisenetv2", {"depthwise": "single5x5"}),
    ("bisenetv2", {"gather": "1x1"}),
    ("stdc", {"blocks": 2}),
    ("stdc", {"blocks": 6}),
    ("stdc", {"module": "printed"}),
    ("eseg", {"lowest_level": 3, "highest_level": 7}),
    ("regseg", {"dilations": "(1,1)+2*(1,2)"}),
    ("regseg", {"dilations": "(1,1)+(1,2)+4*(1,4)+7*(1,3,6,12)"}),
    ("dabnet", {"block2_dilations": "(1)+(3)+(9)"}),
    ("dabnet", {"first_dilation": 2}),
]


class AllSeeing(TorchFunctionMode):
    """Every convolution and pooling sees its whole kernel: activations and BatchNorm are identities, the largest of a
    pooling window is their mean, and what is averaged over the whole image is 1."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = _kind(func)
        if kind in ("batch_norm", "relu", "silu", "sigmoid", "prelu"):
            return args[0]
        if kind == "max_pool2d":
            kernel, stride, padding = args[1], kwargs.get("stride", args[2:3] or None), kwargs.get("padding", 0)
            stride = stride[0] if isinstance(stride, tuple) and len(stride) == 1 else stride
            return F.avg_pool2d(args[0], kernel, stride, args[3] if len(args) > 3 else padding)
        result = func(*args, **kwargs)
        return torch.ones_like(result) if kind == "adaptive_avg_pool2d" else result


def extent(model, width):
    """Pixels across that one output in the middle of any feature of the encoder depends on."""
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1 / parameter[0].numel() if parameter.dim() > 1 else 0)
    image = torch.ones(1, 3, 32, width, dtype=torch.float64, requires_grad=True)
    with AllSeeing():
        features = model.encoder(image)
    widest = 0
    for feature in features.values():
        if not feature.requires_grad or feature.shape[-1] == 1:
            continue
        middle = feature[..., feature.shape[-1] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
        seen = gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        assert seen[0] > 0, "the image is not wide enough to see the field"
        assert seen[-1] < width - 1
        widest = max(widest, int(seen[-1] - seen[0]) + 1)
    return widest


@pytest.mark.parametrize(("family", "changes"), SETTINGS, ids=str)
def test_the_field_of_view_is_what_the_gradient_sees(family, changes):
    arch = make_arch(family, **{**CHEAP[family], **changes})
    field = field_of_view(record(arch.build_meta(3), (512, 1024)))
    width = -(-(2 * field + 128) // 64) * 64
    model = arch.build(3).double().eval()
    seen = extent(model, width)
    assert seen == field
