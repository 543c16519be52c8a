"""The reference network: small and fixed, timed in turns with each network of a study.

A machine's speed drifts, by a third and more within minutes, and latencies drift with it. The ratio of two networks'
times, measured in the same fraction of a second, does not. So a study keeps this network's time, measured once when it
begins, and each latency is that time multiplied by the ratio.

It is like other segmentation networks: dense, grouped and depthwise convolutions at strides 2 to 8, and a final
upsampling. It must never change: a new one needs a new number in `nasseg.records.IN_TURNS`.
"""

from torch import Tensor, nn
from torch.nn import functional


class Reference(nn.Module):
    """Reference network 1: [B, 3, H, W] -> [B, num_classes, H, W]."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(3, 16, stride=2),
            _layer(16, 32, stride=2),
            *(nn.Sequential(_layer(32, 32), _layer(32, 32, groups=32), _layer(32, 32, kernel=1)) for _ in range(2)),
            _layer(32, 64, stride=2),
            *(nn.Sequential(_layer(64, 64, 1), _layer(64, 64, groups=4), _layer(64, 64, 1)) for _ in range(3)),
            nn.Conv2d(64, num_classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return functional.interpolate(self.body(image), image.shape[-2:], mode="bilinear", align_corners=False)


class ReferenceArch:
    """A builder of the reference network, timed like an Arch."""

    id = "reference network 1"

    def build(self, num_classes: int) -> nn.Module:
        """Return the network."""
        return Reference(num_classes)


def _layer(width_in: int, width: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
