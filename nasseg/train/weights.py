"""Weights on disk: written whole or not at all, named by their hash, read without running what is in the file."""

import hashlib
import os
from pathlib import Path

import torch
from torch import nn


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the state_dict atomically; returns the SHA-256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return digest
