"""Weights on disk: written whole or not at all, named by their hash, read without running what is in the file."""

import hashlib
import io
from pathlib import Path

import torch
from torch import nn

from nasseg.files import written_whole


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the state_dict atomically; returns the SHA-256 of the file.

    Raises:
        OSError: it cannot be written (a full disk); what was there before is still there.
    """
    content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without a reason
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, content)
    with written_whole(path) as partial:
        partial.write_bytes(content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()
