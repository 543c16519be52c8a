"""Trained networks by address: the network, its figures, and the file of its weights.

- `runs/train/...`, a folder of `nasseg train` (its best.pt) or one of its files;
- `STUDY#TRIAL`, of a search, or of what `nasseg finish` (`STUDY@finish#TRIAL`) or a table trained;
- `TABLE#ROW`, a table's row by name, as last trained (the first of several seeds).

If a training kept its best weights, the address means these, and the accuracy is theirs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from nasseg.errors import UserError
from nasseg.records import Accuracy, Measurement
from nasseg.study.recipe_parameters import settings_of
from nasseg.train.recipe import Recipe
from nasseg.train.run import RunResult, stored_result

WEIGHTS = (".pt", ".pth")
_ONLY_FRONT = "a search keeps those of its front (`keep: all` in the study: of every network)"


@dataclass(frozen=True)
class Trained:
    """A network at an address. measurement: its accuracy, if there is one, is of the weights in `path`.

    path: None if it was not trained (why_not is empty), or its weights were not kept (why_not says why). code: the
    user's own code that its study names, hash by source; None if no hash is known. trained_on: splits of its data's
    layout, if several were joined for training. recipe: the settings in its study's recipe that its space chose.
    """

    address: str
    settings: dict[str, Any]
    measurement: Measurement | None
    path: Path | None = None
    sha256: str = ""
    why_not: str = ""
    code: Mapping[str, str] | None = None
    trained_on: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        return self.path is not None or bool(self.why_not)

    def weights(self) -> bytes:
        """Return the content of the weights' file.

        Raises:
            UserError: there is none, it cannot be read, or it is not what was evaluated.
        """
        if self.path is None:
            if not self.why_not:
                raise UserError(f"{self.address} was not trained, so it has no weights: train it first")
            raise UserError(f"{self.address} was trained, but its weights were not kept: {self.why_not}")
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read the weights of {self.address}, {self.path.resolve()}: {error.strerror}; "
                f"{_ONLY_FRONT}. Run this in the folder where the "
                "training ran, or copy its runs folder here"
            ) from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise UserError(
                f"{self.path} is not what {self.address} was evaluated with: its SHA-256 is not the one recorded"
            )
        return content


def is_trained_address(address: str) -> bool:
    """Return whether an address is of something measured or trained, not of a network."""
    return "#" in address or is_run(address)


def is_run(address: str) -> bool:
    """Return whether there is a run of `nasseg train` at an address."""
    path = Path(address)
    folder = path.parent if path.suffix in WEIGHTS else path
    try:
        return (folder / "result.json").is_file()
    except OSError:  # a name that is too long for a file
        return False


def find_trained(address: str, storage: str | None = None) -> Trained:
    """Return what is at an address of one of the kinds above.

    Raises:
        UserError: nothing is there.
    """
    return _of_run(address) if is_run(address) else _of_trial(address, storage)


def init_file(init: str | Path, storage: str | None = None) -> Path:
    """Return the file of weights at a path, or at an address of something trained.

    Raises:
        UserError: nothing is there, or the weights are not what was evaluated.
    """
    if Path(init).is_file():
        return Path(init)
    found = find_trained(str(init), storage) if "#" in str(init) or Path(init).is_dir() else None
    if found is None:
        raise UserError(f"cannot read the weights {init}: there is no such file; give a file, or a trained network")
    found.weights()
    assert found.path is not None
    return found.path


def with_init_file(recipe: Recipe, storage: str | None = None) -> Recipe:
    """Return a recipe whose starting weights, if it has any, are a file: it may name something trained.

    Raises:
        UserError: as init_file.
    """
    if recipe.init is None:
        return recipe
    return recipe.model_copy(update={"init": str(init_file(recipe.init, storage))})


def _of_run(address: str) -> Trained:
    path = Path(address)
    folder, name = (path.parent, path.name) if path.suffix in WEIGHTS else (path, "best.pt")
    result = stored_result(folder)
    assert result is not None
    if name not in result.weights:
        known = ", ".join(sorted(result.weights))
        raise UserError(f"the run {folder} has the weights {known}, but no {name}")
    found = Trained(address, result.arch, _figures(result, name), folder / name, result.weights[name])
    return replace(found, trained_on=result.trained_on)


def _figures(result: RunResult, name: str) -> Measurement:
    return replace(result.measurement, accuracy=result.best) if name == "best.pt" else result.measurement


def _of_trial(address: str, storage: str | None, seen: tuple[str, ...] = ()) -> Trained:
    # Optuna is slow to import, and only these addresses need it.
    from nasseg.study.store.read_study import open_record
    from nasseg.study.store.trial_attributes import ACCURACY_FROM, ARCH, REUSED_FROM, TAKEN_FROM, TRAINING

    name, _, which = address.partition("#")
    if not which.isdecimal() or len(which) > 9:
        return _of_row(name, which, storage)
    record = open_record(name, storage)
    trials = {trial.number: trial.user_attrs for trial in record.trials()}
    attributes = trials.get(int(which), {})
    if ARCH not in attributes:
        raise UserError(f"study {name!r} has no trial {which}; it holds {len(trials)}, numbered from 0")
    source = attributes.get(TAKEN_FROM) or attributes.get(ACCURACY_FROM)
    if REUSED_FROM in attributes:
        source = f"{name}#{attributes[REUSED_FROM]}"
    of_study = record.attributes()
    code = of_study.get("identity", {}).get("own code", None if "table" in of_study else {})
    found = replace(
        _trained(address, attributes, of_study, name),
        code=code,
        trained_on=tuple(of_study.get("trained_on", ())),
        recipe=settings_of(of_study.get("space_file", ""), json.loads(attributes.get(TRAINING, "{}"))),
    )
    if not source or not found.is_trained:
        return found
    try:
        if source in (address, *seen):
            raise UserError(f"these trials name each other as their source: {', '.join([*seen, address])}")
        kept = _of_trial(source, storage, (*seen, address))
    except UserError as error:
        return replace(found, path=None, why_not=f"they are those of {source}: {error}")
    return replace(found, path=kept.path, sha256=kept.sha256, why_not=kept.why_not)


def _of_row(name: str, row: str, storage: str | None) -> Trained:
    """Return the row of a table by name, from the table's study that was begun last."""
    from nasseg.study.store.record import Record, study_names
    from nasseg.study.store.storage import default_url, is_there, open_storage

    url = storage or default_url(name)
    opened = open_storage(url, create=False) if is_there(url) else None
    studies = [Record(opened, study) for study in study_names(opened) if study.startswith(f"{name}@")] if opened else []
    rows: set[str] = set()
    for record in sorted(studies, key=lambda one: str(one.attributes().get("created", "")), reverse=True):
        done = [trial for trial in record.trials() if trial.values and "seed" in trial.params]
        rows |= {trial.params["row"] for trial in done}
        of_row = [trial for trial in done if trial.params["row"] == row]
        if of_row:
            first = min(of_row, key=lambda trial: int(trial.params["seed"]))
            return _of_trial(f"{record.name}#{first.number}", storage)
    known = f"; trained are {', '.join(sorted(rows))}" if rows else ""
    raise UserError(
        f"there is no trial and no trained row {row!r} of {name!r}: an address is STUDY#NUMBER or TABLE#ROW{known}"
    )


def _trained(address: str, attributes: dict[str, Any], of_study: dict[str, Any], name: str) -> Trained:
    """Return what a trial's own attributes say. The weights are best.pt if it kept them."""
    from nasseg.study.store.storage import TABLE_RUNS, runs_folder
    from nasseg.study.store.trial_attributes import (
        ARCH,
        BEST,
        BEST_SHA256,
        EVAL_KEY,
        HELD_OUT,
        MEASUREMENT,
        WEIGHTS_ERROR,
        WEIGHTS_SHA256,
    )
    from nasseg.study.store.weight_store import LAST, WeightStore, recorded_place

    settings = json.loads(attributes[ARCH])
    text = attributes.get(MEASUREMENT)
    measurement = Measurement.from_json(text) if text else None
    if measurement is None or measurement.accuracy is None:
        return Trained(address, settings, measurement)
    if WEIGHTS_SHA256 not in attributes:
        kept = "none were recorded" if "table" in of_study else f"{_ONLY_FRONT}; `nasseg finish {address}` trains it"
        return Trained(address, settings, measurement, why_not=attributes.get(WEIGHTS_ERROR, kept))
    file, sha256 = LAST, attributes[WEIGHTS_SHA256]
    if BEST in attributes and BEST_SHA256 in attributes:
        best = TypeAdapter(Accuracy).validate_json(attributes[BEST])
        file, sha256, measurement = "best.pt", attributes[BEST_SHA256], replace(measurement, accuracy=best)
    place: Path | str = TABLE_RUNS if "table" in of_study else runs_folder(name)
    if "weights" in of_study:
        place = recorded_place(of_study["weights"], name)
    folder = WeightStore(place).folder(attributes[EVAL_KEY])
    tested = folder.with_name(f"{folder.name}-tested")  # a row that was evaluated on the held-out split, too
    folder = tested if HELD_OUT in attributes and tested.is_dir() else folder
    return Trained(address, settings, measurement, folder / file, sha256)
