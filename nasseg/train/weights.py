"""Weights on disk: written whole or not at all, named by their hash, read without running what is in the file."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from nasseg.files import written_whole


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the state_dict atomically; returns the SHA-256 of the file."""
    with written_whole(path) as partial:
        torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, partial)
        return hashlib.sha256(partial.read_bytes()).hexdigest()
