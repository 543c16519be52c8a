"""Train runs from an address, a recipe and a data set, for `nasseg train`."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.network.address import resolve
from nasseg.records import NOT_IN_REDUCED, Accuracy
from nasseg.study.store.trained import with_init_file
from nasseg.train.key_maps import read_rules
from nasseg.train.recipe import Recipe
from nasseg.train.run import CHECKPOINT_MINUTES, Run, RunProgress, RunResult, Tell, train_one
from nasseg.train.session import Failed, check_device, recipe_of, working
from nasseg.train.weights import weights_hash

RUNS = Path("runs/train")


@dataclass(frozen=True)
class Trained:
    """The requested runs, the results of finished ones, and the failures (by seed).

    interrupted: whether it stopped before the last run.
    """

    runs: tuple[Run, ...]
    results: tuple[RunResult, ...]
    failures: dict[int, str]
    interrupted: bool = False


def train_address(
    address: str,
    *,
    data: str | Path,
    recipe: Recipe | str | Path | Mapping[str, Any],
    recipe_settings: Mapping[str, Any] | None = None,
    epochs: float | None = None,
    seeds: int = 1,
    first_seed: int = 0,
    init: str | Path | None = None,
    init_map: Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    folder: Path = RUNS,
    storage: str | None = None,
    tell: Tell = lambda _line: None,
    on_progress: Callable[[RunProgress], None] = lambda _progress: None,
) -> Trained:
    """Train the arch at an address (see nasseg.network.address) with `seeds` seeds, one after another.

    recipe: a name, a YAML file of settings, or the settings. For a trial, its space's settings of the recipe replace
    some of them; recipe_settings replace any. init: starting weights, a file or the address of something trained;
    init_map: a file of rules from their names to the network's. epochs: instead of the recipe's steps, over the
    training split (see recipe_of). threads: of the CPU; the same number gives the same weights. Runs are below
    `folder`; a finished one is read, not trained again. Ctrl-C and SIGTERM end it at the end of a step, with a
    checkpoint (a second signal at once); `resume` continues from it.

    Raises:
        UserError: nothing is at the address, an argument is refused, data or weights cannot be used, an unfinished run
            exists but `resume` is not set, or a file cannot be written.
    """
    check_device(device)
    if seeds < 1 or threads < 1:
        raise UserError(f"at least one seed and one thread are needed, got {seeds} and {threads}")
    resolved = resolve(address, overrides, storage)
    arch, own_recipe = resolved.arch, resolved.trained.recipe if resolved.trained else {}
    if own_recipe:
        tell(f"as {address} was trained: {', '.join(f'{name} {value}' for name, value in own_recipe.items())}")
    loaded = load_data(data, **(data_options or {}))
    settings = {**own_recipe, **(recipe_settings or {}), **({"init": str(init)} if init else {})}
    if init_map:
        settings["init_map"] = read_rules(init_map)
    chosen = with_init_file(recipe_of(recipe, settings, epochs, loaded), storage)
    start = f"-i{weights_hash(chosen.init)[:8]}" if chosen.init else ""
    runs = tuple(
        Run(
            arch=arch,
            data=loaded,
            recipe=chosen,
            seed=seed,
            family=resolved.family,
            code=resolved.code,
            device=device,
            folder=folder / f"{arch.id}-{chosen.hash}-{loaded.fingerprint}{start}-s{seed}",
            checkpoint_minutes=checkpoint_minutes,
        )
        for seed in range(first_seed, first_seed + seeds)
    )
    for run in runs:
        if run.checkpoint.exists() and not resume:
            raise UserError(f"{run.folder} holds an unfinished run: add --resume, or remove the folder")
    results: list[RunResult] = []
    failures: dict[int, str] = {}
    try:
        with working(device, threads) as guard:
            for run in runs:
                tell(f"seed {run.seed}: {run.folder}")
                try:
                    results.append(train_one(run, guard=guard, tell=tell, on_progress=on_progress))
                except Failed as error:
                    failures[run.seed] = str(error)
                    tell(f"seed {run.seed} failed: {error}")
    except KeyboardInterrupt:
        return Trained(runs, tuple(results), failures, interrupted=True)
    return Trained(runs, tuple(results), failures)


@dataclass(frozen=True)
class Metric:
    """A figure in percent, run by run: of last.pt and best.pt on the validation split, of best.pt on the held-out one.

    None if it is not known: a class that does not occur.
    """

    name: str
    last: tuple[float | None, ...]
    best: tuple[float | None, ...]
    held_out: tuple[float | None, ...] = ()


def metrics(results: Sequence[RunResult]) -> list[Metric]:
    """Return the rows that `nasseg train` prints.

    They are mIoU, mIoU^R if it leaves out a class, pixel accuracy, and IoU by class.
    """
    classes = list(results[0].last.class_iou) if results else []

    def metric(name: str, of: Callable[[Accuracy], float | None]) -> Metric:
        held_out = [result.held_out for result in results if result.held_out is not None]
        return Metric(
            name,
            tuple(of(result.last) for result in results),
            tuple(of(result.best) for result in results),
            tuple(map(of, held_out)),
        )

    found = [metric("mIoU", lambda a: a.miou)]
    if NOT_IN_REDUCED & {*classes}:
        found.append(metric("mIoU^R", lambda a: a.miou_reduced))
    found.append(metric("pixel accuracy", lambda a: a.pixel_accuracy))
    return found + [metric(f"IoU {name}", lambda a, name=name: a.class_iou[name]) for name in classes]  # type: ignore[misc]


def spread(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation in words, `41.2 ± 0.5`: only the mean for one value, nothing for none."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{statistics.fmean(known):.2f}"
    return f"{mean} ± {statistics.stdev(known):.2f}" if len(known) > 1 else mean
