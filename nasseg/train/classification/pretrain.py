"""Pre-train a classifier on a folder of images, for `nasseg pretrain`.

A run is a folder. While it trains, it holds `checkpoint.pt`, from which it resumes to the same weights. When it is
done, it holds `last.pt`, `best.pt` (the weights with the highest top-1 on the validation split) and `pretrained.json`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from nasseg.data.dataset import DataSet
from nasseg.errors import UserError
from nasseg.families import Arch
from nasseg.files import written_whole
from nasseg.records import digest
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.classification.classify import ClassifierOf, Classifying, require_whole_images
from nasseg.train.classification.images import image_folder
from nasseg.train.loop import Guard
from nasseg.train.recipe import Recipe
from nasseg.train.run import CHECKPOINT_MINUTES, EVALUATIONS, alone
from nasseg.train.session import Failed, TrainedNetwork, check_device, failures, recipe_of, train_network, working
from nasseg.train.weights import save_weights, weights_hash

RUNS = Path("runs/pretrain")
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The result of a run. top1: of the last and of the best weights, in percent of the validation images."""

    folder: Path
    top1: float
    best_top1: float
    best_step: int


def pretrain(
    arch: Arch,
    root: Path,
    recipe: Recipe | str | Path | Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    epochs: float | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    threads: int = 1,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    tell: Tell = lambda _line: None,
    on_progress: Callable[[int, int, str], None] = lambda _step, _of, _line: None,
) -> Pretrained | None:
    """Train the classifier published with an encoder; return None if it was interrupted.

    root: see nasseg.train.classification.images. recipe, settings, epochs: as for `nasseg train`. A finished run is
    read, not trained again. on_progress: called with the step, the number of steps, and both in words.

    Raises:
        UserError: an argument is refused, there is no classifier, pictures or weights cannot be used, training diverged
            or does not fit into memory, an unfinished run exists but `resume` is not set, or a file cannot be written.
    """
    check_device(device)
    classifier, data = ClassifierOf(arch), image_folder(root.expanduser())
    chosen = recipe_of(recipe, settings, epochs, cast(DataSet, data))
    require_whole_images(chosen)
    identity = {
        "classifier": classifier.identity,
        "recipe": chosen.hash,
        "data": data.fingerprint,
        "seed": seed,
        "starting weights": weights_hash(chosen.init) if chosen.init else "",
    }
    folder = RUNS / f"{arch.family}-{digest(identity, 12)}-s{seed}"
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise UserError(f"{folder} holds an unfinished run: add --resume, or remove the folder")
    tell(f"{len(data.train):,} pictures of {data.num_classes} classes: {folder}")

    def step(done: int, loss: float) -> None:
        on_progress(done, chosen.steps, f"step {done:,} of {chosen.steps:,}, loss {loss:.3f}")

    try:
        with alone(folder), failures("; try `accumulation` in the recipe", device), working(device, threads) as guard:
            if (folder / "pretrained.json").exists():
                return _stored(folder)
            trained = train_network(
                classifier,
                cast(DataSet, data),
                chosen,
                seed=seed,
                guard=guard,
                tell=tell,
                device=device,
                kind=Classifying,
                on_step=step,
                evaluate_every=-(-chosen.steps // EVALUATIONS),
                on_evaluated=lambda at, top1: tell(f"step {at:,}: top-1 {top1:.2f} %"),
                checkpoints=Checkpoints(checkpoint, identity, every_seconds=60 * checkpoint_minutes, on_damaged=tell),
            )
            result = _keep(folder, trained, identity, chosen, guard)
            checkpoint.unlink(missing_ok=True)
            return result
    except KeyboardInterrupt:
        return None
    except Failed as error:
        raise UserError(str(error)) from None
    except OSError as error:
        where = f"{error.filename or folder}: {error.strerror or error}"
        raise UserError(f"{where}; the last checkpoint is kept: fix this and add --resume") from None


def _keep(
    folder: Path, trained: TrainedNetwork, identity: Mapping[str, Any], recipe: Recipe, guard: Guard
) -> Pretrained:
    """Write the run's files. The result comes last, because it marks the run as done."""
    best = trained.result.best
    assert best is not None
    with guard():
        save_weights(trained.model, folder / "last.pt")
        trained.model.load_state_dict(best.weights)
        save_weights(trained.model, folder / "best.pt")
    result = Pretrained(folder=folder, top1=trained.result.miou, best_top1=best.miou, best_step=best.step)
    told = {
        **asdict(result),
        "folder": str(folder),
        "identity": identity,
        "recipe": recipe.model_dump(mode="json"),
        "deviations": recipe.deviations,
        "evaluated": trained.result.evaluated,
        "curve": trained.result.curve,
        "torch": torch.__version__,
    }
    with written_whole(folder / "pretrained.json") as partial:
        partial.write_text(json.dumps(told, indent=1) + "\n")
    return result


def _stored(folder: Path) -> Pretrained:
    path = folder / "pretrained.json"
    try:
        found = json.loads(path.read_bytes())
        return Pretrained(folder=folder, **{name: found[name] for name in ("top1", "best_top1", "best_step")})
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; remove it to train again") from None
