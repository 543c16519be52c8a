"""Losses: cross entropy, online hard example mining, and STDC's detail guidance with its targets.

Labels are int64 [B, H, W], 255 where ignored; logits are [B, C, H, W], at the labels' size.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from nasseg.data.dataset import DataSet
from nasseg.data.split import Split
from nasseg.errors import UserError
from nasseg.measure.accuracy import IGNORE
from nasseg.train.recipe import OHEM, DetailForm, Recipe

EDGE = 0.1  # STDC, Section 3.2.2: from this response on, Laplacian or fused, a pixel is detail
SMOOTHING = 1.0  # epsilon of Eq. 5
_LEAST = 1e-12  # least sum of weights, because all may be 0


def segmentation_loss(
    logits: Tensor, labels: Tensor, ohem: OHEM | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Return the cross entropy over all labelled pixels, or the hard ones, as a mean with the weights [C]."""
    if ohem is None:
        return cross_entropy(logits, labels, class_weights)
    losses = F.cross_entropy(_in_planes(logits), labels, ignore_index=IGNORE, reduction="none")
    if labels.device.type != "cpu":
        return unread_mean_of_hard(losses, labels, ohem, class_weights)
    known = labels != IGNORE
    kept, weights = losses[known], None if class_weights is None else class_weights[labels[known]]
    counted = labels.numel() if ohem.share_of == "all" else len(kept)
    return mean_of_hard(kept, ohem.threshold, max(1, int(ohem.at_least * counted)), weights)


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean over the labelled pixels; zero if there are none."""
    total = F.cross_entropy(_in_planes(logits), labels, class_weights, ignore_index=IGNORE, reduction="sum")
    known = labels != IGNORE
    if class_weights is None:
        return total / known.sum().clamp(min=1)
    if labels.device.type != "cpu":
        return total / _weight_of_each(labels, class_weights).sum().clamp(min=_LEAST)
    return total / class_weights[labels[known]].sum().clamp(min=_LEAST)


def class_weights(recipe: Recipe, data: DataSet) -> Tensor | None:
    """Return a recipe's weights of the classes, [C], or None.

    Raises:
        UserError: their number is not that of the classes.
    """
    given = recipe.class_weights
    if given is None:
        return None
    if given == "inverse_log":
        return 1 / (1.02 + class_shares(data.train, data.num_classes)).log()
    check_class_weights(recipe, data)
    return torch.tensor(given)


def check_class_weights(recipe: Recipe, data: DataSet) -> None:
    """Check that a recipe lists one weight for each class.

    Raises:
        UserError: it does not.
    """
    given = recipe.class_weights
    if isinstance(given, tuple) and len(given) != data.num_classes:
        raise UserError(
            f"class_weights has {len(given)} values, but {data.name} has {data.num_classes} classes: give one for "
            "each class, or inverse_log"
        )


@lru_cache(maxsize=1)  # one training after another uses the same data
def class_shares(split: Split, num_classes: int) -> Tensor:
    """Return each class's share of a split's labelled pixels, [C]."""
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for number in range(len(split)):
        counts += split.labels[number].flatten().bincount(minlength=IGNORE + 1)[:num_classes]
    return counts / counts.sum().clamp(min=1)


def _in_planes(logits: Tensor) -> Tensor:
    """Return logits in the layout that is fastest for the CPU's softmax. Their gradient returns in the original layout.

    Otherwise the backward pass through the resize of channels_last logits takes twice as long, with the same result.
    """
    if logits.device.type == "cpu" and logits.requires_grad and not logits.is_contiguous():
        logits.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return logits.contiguous()


def mean_of_hard(losses: Tensor, threshold: float, at_least: int, weights: Tensor | None = None) -> Tensor:
    """Return the mean of the losses [N] above the threshold, or of the `at_least` highest ones if these are more.

    weights: of the losses in the mean.
    """
    if not len(losses):
        return losses.sum()
    hard, least = (losses > threshold).nonzero().flatten(), min(at_least, len(losses))
    if len(hard) < least:
        hard = losses.topk(least).indices
    if weights is None:
        return losses[hard].mean()
    return (losses[hard] * weights[hard]).sum() / weights[hard].sum().clamp(min=_LEAST)


def unread_mean_of_hard(losses: Tensor, labels: Tensor, ohem: OHEM, class_weights: Tensor | None = None) -> Tensor:
    """Return `mean_of_hard` of the labelled pixels' losses [B, H, W], without reading how many there are.

    Each such read waits for the GPU, and so does `torch.where` with a plain number. This computes both means and
    selects one.
    """
    known, losses = labels != IGNORE, losses.flatten()
    losses = losses.masked_fill(~known.flatten(), -1.0)  # below every loss
    count, share = known.sum(), ohem.at_least * labels.numel()
    least = torch.full_like(count, int(share)) if ohem.share_of == "all" else (ohem.at_least * count.double()).long()
    least = torch.minimum(least.clamp(min=1), count)
    highest, places = losses.topk(max(1, int(share)))
    hard, among_least = losses > ohem.threshold, torch.arange(len(highest), device=losses.device) < least
    of_hard = of_highest = torch.ones((), device=losses.device)
    if class_weights is not None:
        of_hard = _weight_of_each(labels, class_weights).flatten()
        of_highest = of_hard[places]
    means = [
        (values * weight).masked_fill(~chosen, 0).sum() / (chosen * weight).sum().clamp(min=_LEAST)
        for chosen, values, weight in ((hard, losses, of_hard), (among_least, highest, of_highest))
    ]
    return torch.where(hard.sum() >= least, means[0], means[1])


def _weight_of_each(labels: Tensor, class_weights: Tensor) -> Tensor:
    """Return the weight of each pixel's class, 0 for ignored pixels."""
    known = labels != IGNORE
    return class_weights[labels.masked_fill(~known, 0)].masked_fill(~known, 0)


@torch.no_grad()
def detail_maps(labels: Tensor, strides: tuple[int, ...], form: DetailForm = "printed") -> Tensor:
    """Return where the Laplacian of the labels exceeds 0.1, at every `stride`-th pixel: [B, strides, H, W] of 0 and 1.

    The kernel is 8 surrounded by -1, so of two different neighbours the one with the higher class is the edge. printed:
    ignored pixels and the image's outside make no edge. released: the outside is class 0 and ignored pixels are class
    255, so that frame and borders are marked. Maps of strides above 1 return to the labels' size by nearest neighbour.
    """
    known = (labels != IGNORE).float().unsqueeze(1)
    classes = labels.unsqueeze(1) * known if form == "printed" else labels.unsqueeze(1).float()
    ring = torch.ones(1, 1, 3, 3, device=labels.device)
    neighbours = F.conv2d(known, ring, padding=1) if form == "printed" else 9
    edges = (classes * neighbours - F.conv2d(classes, ring, padding=1) > EDGE).float()
    maps = [F.interpolate(edges[..., ::s, ::s], size=labels.shape[1:], mode="nearest") for s in strides]
    return torch.cat(maps, dim=1)


def detail_loss(logits: Tensor, target: Tensor, labels: Tensor, form: DetailForm = "printed") -> Tensor:
    """Return the dice loss and binary cross entropy (Eq. 4) of detail logits and target, all [B, H, W].

    printed: over the labelled pixels. released: over all pixels.
    """
    kept = (labels != IGNORE).float() if form == "printed" else torch.ones_like(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * kept
    return dice_loss(logits.sigmoid() * kept, target * kept, form) + entropy.sum() / kept.sum().clamp(min=1)


def dice_loss(predicted: Tensor, target: Tensor, form: DetailForm = "printed") -> Tensor:
    """Return the dice loss of each map, averaged over the batch: [B, H, W] of probabilities and of 0, 1.

    printed: areas are sums of squares, as in Eq. 5. released: they are plain sums.
    """
    p, g = predicted.flatten(1), target.flatten(1)
    overlap, area = 2 * (p * g).sum(1), (p.square() if form == "printed" else p).sum(1) + g.square().sum(1)
    return (1 - (overlap + SMOOTHING) / (area + SMOOTHING)).mean()
