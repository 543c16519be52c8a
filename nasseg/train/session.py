"""What every training shares: its recipe, its device, its turns on the device, and what counts as out of memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import ceil, inf
from pathlib import Path
from typing import Any

import torch

from nasseg.data.dataset import DataSet
from nasseg.errors import UserError
from nasseg.files import read_yaml
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.signals import interrupts
from nasseg.train.recipe import Recipe, load_recipe

# What torch's CPU allocator says, and what oneDNN says when the scratch memory of a convolution cannot be had: of 37
# limits on memory from 380 MB to 1.1 GB, BiSeNetV2's training step met the second at one.
_OUT_OF_MEMORY = ("can't allocate memory", "could not create a primitive")


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error says, by its type or in the words of torch and oneDNN."""
    named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return named or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def recipe_of(
    recipe: Recipe | str | Path | Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    epochs: float | None,
    data: DataSet,
) -> Recipe:
    """A recipe with some of its settings, or its length, replaced; in fewer steps the warm-up keeps its share of them.

    Raises:
        UserError: there is no such recipe, or a setting is refused.
    """
    if isinstance(recipe, str | Path) and Path(recipe).suffix in (".yaml", ".yml"):
        recipe = read_yaml(Path(recipe)).data
    chosen = load_recipe(str(recipe) if isinstance(recipe, Path) else recipe)
    replaced = dict(settings or {})
    if epochs is not None:
        if not 0 < epochs < inf:
            raise UserError(f"epochs must be finite and above 0, got {epochs:g}")
        steps = ceil(epochs * len(data.train) / int(replaced.get("batch_size", chosen.batch_size)))
        replaced["steps"] = steps
        if steps < chosen.steps:  # else most of a short run would be its warm-up
            replaced.setdefault("warmup_steps", chosen.warmup_steps * steps // chosen.steps)
    if not replaced:
        return chosen
    try:
        return load_recipe({**chosen.model_dump(), **replaced})
    except UserError as error:
        raise UserError(f"{error} (with {', '.join(f'{key}={value}' for key, value in replaced.items())})") from None


def check_device(device: str) -> None:
    """Whether a network can be trained there.

    Raises:
        UserError: it cannot.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {device} is not to be had: torch sees {torch.cuda.device_count()} here; use cpu")


@contextmanager
def working(device: str, threads: int) -> Iterator[Callable[[], Any]]:
    """Gives the guard of steps: it keeps latency measurements apart, and lets Ctrl-C and SIGTERM in between them."""
    lock, before = DeviceLock(device), torch.get_num_threads()

    with ExitStack() as stack:
        stack.callback(lock.close)
        stack.callback(torch.set_num_threads, before)
        torch.set_num_threads(threads)
        look = stack.enter_context(interrupts())

        @contextmanager
        def guard() -> Iterator[None]:
            look()
            with lock.computing():
                yield

        yield guard
