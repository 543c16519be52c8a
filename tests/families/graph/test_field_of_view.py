"""Field of view by RegSeg's Eqs 1-2 against what the gradient of the image says, every family alike."""

import json
from collections import defaultdict

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nasseg.families import FAMILIES, make_arch
from nasseg.families.graph.recorder import _kind, _tensors, record
from nasseg.measure.cost import field_of_view
from tests.families.cheap import CHEAP
from tests.families.test_conformance import COMMITTED_IDS
from tests.slow import slow

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
    pooling window is their mean, and what is averaged over the whole image is 1.

    `ends`: maps that go no further down, since they are upsampled or meet one that was.
    """

    def __init__(self):
        super().__init__()
        self.ends, self.past = [], []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = _kind(func)
        if kind in ("batch_norm", "relu", "silu", "sigmoid", "prelu"):
            return args[0]
        if kind == "max_pool2d":
            kernel, stride, padding = args[1], kwargs.get("stride", args[2:3] or None), kwargs.get("padding", 0)
            stride = stride[0] if isinstance(stride, tuple) and len(stride) == 1 else stride
            result = F.avg_pool2d(args[0], kernel, stride, args[3] if len(args) > 3 else padding)
        else:
            result = func(*args, **kwargs)
        if kind == "adaptive_avg_pool2d":
            return torch.ones_like(result)
        maps = [x for x in _tensors([args, kwargs]) if x.dim() == 4 and x.requires_grad]
        up = kind == "conv_transpose" or (kind == "interpolate" and result.shape[-1] > args[0].shape[-1])
        if up or any(x is past for x in maps for past in self.past):
            self.ends += [x for x in maps if not any(x is past for past in self.past)]
            self.past.append(result)
        return result


def extent(model, width):
    """Pixels across that one value in the middle of any map depends on that is not upsampled yet."""
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1 / parameter[0].numel() if parameter.dim() > 1 else 0)
        parameter.requires_grad_(False)
    image = torch.ones(1, 3, 32, width, dtype=torch.float64, requires_grad=True)
    with AllSeeing() as seeing:
        logits = model(image)
    widest = 0
    for feature in [*seeing.ends, *([] if any(logits is past for past in seeing.past) else [logits])]:
        if feature.shape[-1] == 1 or feature is image:
            continue
        middle = feature[..., feature.shape[-1] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
        seen = gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        assert seen[0] > 0, "the image is not wide enough to see the field"
        assert seen[-1] < width - 1
        widest = max(widest, int(seen[-1] - seen[0]) + 1)
    return widest


@pytest.mark.parametrize(
    ("family", "changes"),
    [each if each in [("regseg", {}), ("dabnet", {})] else slow(*each) for each in SETTINGS],
    ids=str,
)
def test_the_field_of_view_is_what_the_gradient_sees(family, changes):
    arch = make_arch(family, **{**CHEAP[family], **changes})
    field = field_of_view(record(arch.build_meta(3), (512, 1024)))
    width = -(-(2 * field + 128) // 64) * 64
    model = arch.build(3).double().eval()
    seen = extent(model, width)
    assert seen == field


@pytest.mark.slow
def test_one_id_has_one_field_of_view():
    """The graph decides it, not what its modules are called."""
    rows = defaultdict(list)
    for name, identity in json.loads(COMMITTED_IDS.read_text()).items():
        rows[identity].append(make_arch(name))
    shared = [archs for archs in rows.values() if len(archs) > 1]
    assert len(shared) > 5
    for archs in shared:
        assert len({field_of_view(arch.graph(19, (512, 1024))) for arch in archs}) == 1, archs
