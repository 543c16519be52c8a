"""The images of each step: in random order, some drawn evenly over the classes, some pseudo-labelled."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasseg.data.dataset import PSEUDO, DataSet
from nasseg.data.split import Batch, Split
from nasseg.errors import UserError
from nasseg.train.recipe import Recipe
from nasseg.train.views.class_uniform import class_centres


class Rounds:
    """Endless indices: every sample once, in random order, then again. Batches may span two rounds."""

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self.count, self.size, self.generator = count, size, generator
        self.order = torch.empty(0, dtype=torch.int64)

    def next(self) -> Tensor:
        while len(self.order) < self.size:
            self.order = torch.cat([self.order, torch.randperm(self.count, generator=self.generator)])
        chosen, self.order = self.order[: self.size], self.order[self.size :]
        return chosen


class Batches:
    """The batches of a training, on its device, drawn by one generator.

    Raises:
        UserError: the recipe and the data do not agree on pseudo-labels, or the images do not fit together.
    """

    def __init__(self, data: DataSet, recipe: Recipe, generator: torch.Generator, device: torch.device) -> None:
        require_agreement(data, recipe)
        self.device, self.generator, self.share = device, generator, recipe.class_uniform or 0.0
        self.split = data.train.to(device)
        self.rounds = Rounds(len(self.split), recipe.batch_size - recipe.pseudo_count, generator)
        self.centres = class_centres(data.train) if self.share else None
        self.pseudo: Split | None = None
        if recipe.pseudo_count:
            self.pseudo = data.split(PSEUDO).to(device)
            self.pseudo_rounds = Rounds(len(self.pseudo), recipe.pseudo_count, generator)
            # Spread evenly among the others, because a step may be split into parts.
            places = [(torch.arange(n) + 0.5) / n for n in (self.rounds.size, recipe.pseudo_count)]
            self.mixed = torch.cat(places).argsort(stable=True)

    def next(self) -> tuple[Batch, Tensor | None]:
        """Return images and labels as Split.batch does, and the places that views must hold, [B, 2] or none."""
        chosen, places = self.rounds.next(), None
        if self.centres is not None:
            chosen, places = chosen.clone(), torch.full((len(chosen), 2), torch.nan)
            even = torch.rand(len(chosen), generator=self.generator) < self.share
            chosen[even], places[even] = self.centres.draw(int(even.sum()), self.generator)
        batch = self.split.batch(chosen, self.device)
        if self.pseudo is None:
            return batch, places
        others = self.pseudo.batch(self.pseudo_rounds.next(), self.device)
        if places is not None:
            places = torch.cat([places, torch.full((self.pseudo_rounds.size, 2), torch.nan)])[self.mixed]
        return self._together(batch, others), places

    def _together(self, batch: Batch, others: Batch) -> Batch:
        images, labels = self._mix(batch[0], others[0]), self._mix(batch[1], others[1])
        if isinstance(batch[0], Tensor) and isinstance(others[0], Tensor):
            return torch.stack(images), torch.stack(labels)
        return images, labels

    def _mix(self, some: Sequence[Tensor] | Tensor, others: Sequence[Tensor] | Tensor) -> list[Tensor]:
        both = [*some, *others]
        return [both[number] for number in self.mixed.tolist()]

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {"order": self.rounds.order}
        return found if self.pseudo is None else {**found, "pseudo_order": self.pseudo_rounds.order}

    def load(self, state: dict[str, Any]) -> None:
        self.rounds.order = state["order"]
        if self.pseudo is not None:
            self.pseudo_rounds.order = state["pseudo_order"]


def require_agreement(data: DataSet, recipe: Recipe) -> None:
    """Check that a recipe draws from pseudo-labelled images if and only if the data have them.

    Raises:
        UserError: it does not, or these images have another size.
    """
    if (PSEUDO in data.sources) != (recipe.pseudo is not None):
        raise UserError(
            "the recipe draws a share of each step from pseudo-labelled images (pseudo), but the data have none: "
            "make them with `nasseg label`, and name them with --pseudo FOLDER"
            if recipe.pseudo
            else "the data have pseudo-labelled images, but the recipe draws none: set its `pseudo` (0.5: half "
            "of each step)"
        )
    if recipe.pseudo is None:
        return
    train, pseudo = data.train, data.split(PSEUDO)
    if train.size != pseudo.size:
        sizes = [f"{width} x {height}" for height, width in (pseudo.size, train.size)]
        raise UserError(
            f"pseudo-labelled images are {sizes[0]}, those of {data.name} {sizes[1]}: set the size that networks "
            "see, `size: [HEIGHT, WIDTH]`, in the data"
        )
