"""mIoU and related figures, from one confusion matrix over a whole split."""

import torch
from torch import Tensor

from nasseg.errors import UserError

IGNORE = 255


class ConfusionMatrix:
    """Pixels by true class (rows) and predicted class (columns), gathered batch by batch on the device of the logits.

    Pixels labelled 255 do not count. The last column counts pixels without a prediction, because a logit is NaN; they
    count as wrong. mIoU is the mean over the classes that occur in labels or predictions; it equals torchmetrics'
    MulticlassJaccardIndex(average="macro", ignore_index=255), and is not a mean over images.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: Tensor = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits [B, num_classes, H, W], labels [B, H, W] of any integer type."""
        batch, _, *size = logits.shape
        if logits.shape[1] != self.num_classes or labels.shape != (batch, *size):
            raise UserError(
                f"labels [B, H, W] and logits [B, {self.num_classes}, H, W] are needed, "
                f"got {list(labels.shape)} and {list(logits.shape)}"
            )
        highest, predicted = logits.max(1)  # three times as fast as argmax on the CPU; NaN if any logit is
        predicted = torch.where(highest.isnan(), self.num_classes, predicted)
        columns = self.num_classes + 1
        known, ignored, end = (row * columns for row in (self.num_classes, IGNORE, IGNORE + 1))
        # Ignored pixels are counted, too, in a row of their own: to leave them out first takes twice as long.
        counts = torch.bincount((labels.long() * columns + predicted).flatten(), minlength=end)
        if len(counts) > end or counts[known:ignored].any():
            raise UserError(f"a label is above {self.num_classes - 1}: {int(labels[labels != IGNORE].max())}")
        self.counts = self.counts.to(counts.device) + counts[:known].view(self.num_classes, columns)

    @property
    def unpredicted(self) -> int:
        """The number of labelled pixels without a prediction, because a logit is NaN."""
        return int(self.counts[:, -1].sum())

    @property
    def class_iou(self) -> list[float | None]:
        """Intersection over union of each class, 0..100; None for a class that is neither labelled nor predicted."""
        counts = self.counts.cpu().double()
        hits = counts.diag()
        unions = counts[:, :-1].sum(0) + counts.sum(1) - hits
        return [float(100 * hit / union) if union > 0 else None for hit, union in zip(hits, unions, strict=True)]

    @property
    def miou(self) -> float:
        """The mean of the classes' IoU, 0..100."""
        self._require_pixels()
        known = [iou for iou in self.class_iou if iou is not None]
        return sum(known) / len(known)

    @property
    def pixel_accuracy(self) -> float:
        """The share of labelled pixels with the right class, 0..100."""
        self._require_pixels()
        return 100 * int(self.counts.diag().sum()) / int(self.counts.sum())

    def _require_pixels(self) -> None:
        if not self.counts.any():
            raise UserError("accuracy needs labelled pixels, and all of them are 255 (ignored): check the labels")
