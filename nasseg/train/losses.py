"""Losses: cross entropy, online hard example mining, and STDC's detail guidance with its targets.

Labels are int64 [B, H, W] and 255 where ignored; logits are [B, C, H, W], at the size of the labels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nasseg.measure.accuracy import IGNORE
from nasseg.train.recipe import OHEM, DetailForm

EDGE = 0.1  # STDC, Section 3.2.2: a Laplacian response, and a fused one, from which a pixel is detail
SMOOTHING = 1.0  # epsilon of Eq. 5


def segmentation_loss(logits: Tensor, labels: Tensor, ohem: OHEM | None = None) -> Tensor:
    """Return the cross entropy over all labelled pixels, or over the hard ones."""
    if ohem is None:
        return cross_entropy(logits, labels)
    losses = F.cross_entropy(_in_planes(logits), labels, ignore_index=IGNORE, reduction="none")
    kept = losses[labels != IGNORE]
    counted = labels.numel() if ohem.share_of == "all" else len(kept)
    return mean_of_hard(kept, ohem.threshold, max(1, int(ohem.at_least * counted)))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the labelled pixels; zero if there are none."""
    total = F.cross_entropy(_in_planes(logits), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def _in_planes(logits: Tensor) -> Tensor:
    """Return logits in the layout in which the CPU's softmax is fastest; their gradient returns in the original layout.

    Otherwise the backward pass through the resize of channels_last logits takes twice as long, for the same numbers.
    """
    if logits.device.type == "cpu" and logits.requires_grad and not logits.is_contiguous():
        logits.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return logits.contiguous()


def mean_of_hard(losses: Tensor, threshold: float, at_least: int) -> Tensor:
    """Return the mean of the losses [N] above the threshold, or of the `at_least` highest ones if those are more."""
    if not len(losses):
        return losses.sum()
    hard, least = losses[losses > threshold], min(at_least, len(losses))
    return hard.mean() if len(hard) >= least else losses.topk(least).values.mean()


@torch.no_grad()
def detail_maps(labels: Tensor, strides: tuple[int, ...], form: DetailForm = "printed") -> Tensor:
    """Return where the Laplacian of the labels exceeds 0.1, at every `stride`-th pixel: [B, strides, H, W] of 0, 1.

    The kernel is 8 in the middle of -1, so of two different neighbours the one with the higher class is the edge.
    printed: ignored pixels and the outside of the image make no edge. released: the outside is class 0 and ignored
    pixels are class 255, so that frame and borders are marked. Maps of strides above 1 return to the labels' size by
    nearest neighbour.
    """
    known = (labels != IGNORE).float().unsqueeze(1)
    classes = labels.unsqueeze(1) * known if form == "printed" else labels.unsqueeze(1).float()
    ring = torch.ones(1, 1, 3, 3, device=labels.device)
    neighbours = F.conv2d(known, ring, padding=1) if form == "printed" else 9
    edges = (classes * neighbours - F.conv2d(classes, ring, padding=1) > EDGE).float()
    maps = [F.interpolate(edges[..., ::s, ::s], size=labels.shape[1:], mode="nearest") for s in strides]
    return torch.cat(maps, dim=1)


def detail_loss(logits: Tensor, target: Tensor, labels: Tensor, form: DetailForm = "printed") -> Tensor:
    """Return dice and binary cross entropy (Eq. 4) of detail logits and target, all [B, H, W].

    printed: over the labelled pixels. released: over all.
    """
    kept = (labels != IGNORE).float() if form == "printed" else torch.ones_like(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * kept
    return dice_loss(logits.sigmoid() * kept, target * kept, form) + entropy.sum() / kept.sum().clamp(min=1)


def dice_loss(predicted: Tensor, target: Tensor, form: DetailForm = "printed") -> Tensor:
    """Return the dice loss of each map, averaged over the batch: [B, H, W] of probabilities and of 0, 1.

    printed: the area is of squares, as in Eq. 5. released: it is not.
    """
    p, g = predicted.flatten(1), target.flatten(1)
    overlap, area = 2 * (p * g).sum(1), (p.square() if form == "printed" else p).sum(1) + g.square().sum(1)
    return (1 - (overlap + SMOOTHING) / (area + SMOOTHING)).mean()
