"""A figure of your own: the energy of an image on a CPU, by the counter of its package (Intel and AMD, on Linux).

For a GPU there is a figure already: `energy_mj`.
"""

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

COUNTER = Path(os.environ.get("ENERGY_COUNTER", "/sys/class/powercap/intel-rapl:0/energy_uj"))  # microjoules
SECONDS = 1.0


def millijoules(model: nn.Module, measurement: Any) -> float:
    """Return the energy of an image in mJ, of the whole package, over a second of runs."""
    image = torch.zeros(1, 3, *measurement.cost.protocol.input_size)
    with torch.inference_mode():
        model(image)  # the first run prepares
        before, began, images = _read(), time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            model(image)
            images += 1
        used = _read() - before
    if used < 0:  # it begins anew at some thousand joules
        used += int(COUNTER.with_name("max_energy_range_uj").read_text())
    return used / 1e3 / images


def _read() -> int:
    try:
        return int(COUNTER.read_text())
    except OSError as error:
        raise RuntimeError(
            f"no energy counter to read: {error}; run this as root, or name a file in ENERGY_COUNTER"
        ) from None
