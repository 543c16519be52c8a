"""Tests in this folder need a CUDA device; without one they are skipped and say so."""

import pytest
import torch

from nasseg.records import LatencyProtocol

SIZE = (256, 512)


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch sees none")
    return "cuda"


@pytest.fixture
def protocol(device: str) -> LatencyProtocol:
    """A quick one; tests replace what they are about."""
    return LatencyProtocol(
        device=device, input_size=SIZE, num_classes=19, warmup=10, min_replicates=50, min_seconds=0.2
    )
