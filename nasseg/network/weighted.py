"""Networks with the requested weights: those of something trained, of a file, or random ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasseg.errors import UserError
from nasseg.network.address import Resolved, resolve
from nasseg.study.store.trained import init_file
from nasseg.train.key_maps import read_rules
from nasseg.train.weights import Loaded, load_strictly, load_whole


@dataclass(frozen=True)
class Weighted:
    """A network and where its weights come from. sha256: of their file; empty if they are random.

    init, rules: a file that fills the whole network, and the rules from its names to the network's.
    """

    resolved: Resolved
    content: bytes | None = None
    sha256: str = ""
    init: Path | None = None
    rules: Mapping[str, str] | None = None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, if known."""
        accuracy = self.resolved.measurement.accuracy if self.resolved.measurement else None
        return tuple(accuracy.class_iou) if accuracy and self.init is None else None

    def build(self, num_classes: int) -> tuple[nn.Module, Loaded | None]:
        """Return the network in eval mode, and what was loaded of `init`. Random weights are always the same.

        Raises:
            UserError: the weights do not belong to this network.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: nn.Module = self.resolved.arch.build(num_classes).eval()
        if self.init is not None:
            return model, load_whole(model, self.init, self.rules)
        return (model if self.content is None else load_strictly(model, self.content, "the weights")), None


def find_weighted(
    address: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    init: str | Path | None = None,
    init_map: Path | None = None,
    storage: str | None = None,
) -> Weighted:
    """Return the network at an address with its weights, or with those of `init` (a file, or an address).

    Raises:
        UserError: nothing is there, or its weights are not available.
    """
    resolved = resolve(address, overrides, storage)
    if init is not None:
        file = init_file(init, storage)
        return Weighted(resolved, None, "", file, read_rules(init_map) if init_map else None)
    if init_map is not None:
        raise UserError("a map of names needs a file of weights: add --init")
    if resolved.trained is None or not resolved.trained.is_trained:
        return Weighted(resolved)
    if overrides:
        raise UserError(f"{address} is trained, and its weights do not fit other fields: leave out the settings")
    return Weighted(resolved, resolved.trained.weights(), resolved.trained.sha256)
