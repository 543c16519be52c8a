"""The environment in which a number was measured."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from nasseg.records import Accelerator, Environment
from nasseg.version import __version__


@cache
def environment(device: str = "cuda") -> Environment:
    """Return versions, processor, and the GPU if there is one.

    device: where it was computed, to distinguish several GPUs.
    """
    import torch  # slow to import; readers of a study do not need it

    gpu = (device if device.startswith("cuda") else "cuda") if torch.cuda.is_available() else None
    return Environment(
        nasseg=__version__,
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name(gpu) if gpu else None,
        accelerator=_accelerator(gpu) if gpu else None,
    )


def _accelerator(device: str) -> Accelerator:
    import torch

    from nasseg.measure.nvml import find_gpu, uuid_of

    gpu, cudnn = find_gpu(device), torch.backends.cudnn.version()
    return Accelerator(
        uuid=uuid_of(device),
        cudnn=None if cudnn is None else str(cudnn),
        driver=gpu.driver if gpu else None,
        power_limit_watts=gpu.power_limit_watts if gpu else None,
        mig=gpu.mig if gpu else None,
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of this code's checkout, with `+changes` if files differ; None without a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
