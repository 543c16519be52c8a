"""Finish a study: train the front's networks longer with several seeds, time them again, test them once.

The results form a sibling study, `<name>@finish`, in the same storage, with a trial for each network and seed. The
trial's measurement is of the last weights on the validation split, as in a search. It also has the accuracy of the best
weights on that split (`best`) and on the held-out split (`held_out`), which nothing else uses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasseg.analyse.trials import outcome
from nasseg.data.dataset import DataSet
from nasseg.errors import UserError
from nasseg.files import parse_yaml
from nasseg.measure.accuracy import IGNORE
from nasseg.records import StudyRecord, TrialRow
from nasseg.study.data_file import DataFile
from nasseg.study.finish.members import front_members, trained_member
from nasseg.study.finish.retrain import Retraining, recipe_of_trial
from nasseg.study.finish.sibling import sibling
from nasseg.study.recipe_parameters import stored_space
from nasseg.study.store.read_study import latest_of, open_record
from nasseg.study.store.record import Record
from nasseg.study.store.storage import storage_faults
from nasseg.study.store.trained import with_init_file
from nasseg.study.store.trial_attributes import OF_TRIAL
from nasseg.train.recipe import Recipe, load_recipe
from nasseg.train.run import HeldOut, RunProgress, Tell
from nasseg.train.session import check_device, recipe_of, working
from nasseg.train.weights import weights_hash

LONGER = 5  # times the steps of the search's recipe, if neither a recipe nor a length is given


@dataclass(frozen=True)
class Finished:
    """The result of finishing. notes: remarks for the reader, one per line."""

    record: StudyRecord
    searched: StudyRecord
    notes: tuple[str, ...]
    interrupted: bool = False


def finish_study(
    study: str | Path,
    *,
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    recipe_settings: Mapping[str, Any] | None = None,
    epochs: float | None = None,
    seeds: int = 3,
    purpose: str = "finish",
    data: Path | None = None,
    device: str | None = None,
    threads: int = 1,
    storage: str | None = None,
    command: str = "",
    tell: Tell = lambda _line: None,
    on_progress: Callable[[str, RunProgress], None] = lambda _network, _progress: None,
) -> Finished:
    """Train the front of a search again with seeds 0..seeds-1, resuming an earlier call.

    study: `STUDY#21` means one trial of it. The front is that of the finished trials within the study's limits. Each
    call first times each network again under the study's protocol. One that is now over a limit is recorded, and not
    trained. If the data have a held-out split (`test`; procedural scenes get one as large as the validation split),
    each run's best weights are evaluated on it once. recipe: by default the search's own, LONGER times as long. device:
    to train on; default: that of the study's latencies. purpose: another one makes another sibling study, for another
    recipe. `on_progress(network, progress)` is called with steps.

    Raises:
        UserError: there is nothing to finish, an argument is refused, the data are not the search's, the sibling was
            begun with other settings, or a file cannot be read or written.
    """
    if seeds < 1 or threads < 1:
        raise UserError(f"at least one seed and one thread are needed, got {seeds} and {threads}")
    name, _, number = str(study).partition("#")
    source = open_record(name, storage)
    searched = latest_of(source)
    front = front_members(searched)
    members = [trained_member(searched, number)] if number else front
    loaded, held_out, notes = data_of(searched, data)
    _check_settings(searched, recipe_settings or {})
    recipe, recipe_settings = (recipe, recipe_settings) if recipe else _longer(searched, recipe_settings, epochs)
    chosen = with_init_file(recipe_of(recipe, recipe_settings, epochs, loaded), storage)
    for member in members:
        recipe_of_trial(searched, member, chosen)  # refusals come before anything is timed
    device = device or _training_device(members)
    check_device(device)
    with storage_faults():
        record = _sibling(source, searched, chosen, purpose, loaded, held_out, command)
        with working(device, threads) as guard:
            work = Retraining(
                searched, record, members, front, loaded, held_out, chosen, device, guard, tell, on_progress
            )
            try:
                notes += work.run(seeds)
            except KeyboardInterrupt:
                return Finished(latest_of(record), searched, tuple(notes), interrupted=True)
        return Finished(latest_of(record), searched, tuple(notes))


def _check_settings(searched: StudyRecord, settings: Mapping[str, Any]) -> None:
    chosen = {*stored_space(searched.extra["space_file"]).training.values()} if settings else set()
    for name in settings:
        if name in chosen:
            raise UserError(
                f"{name} is a parameter of the space of {searched.name}, and each network keeps its own value: "
                f"leave it out, or train one network with `nasseg train {searched.name}#TRIAL`"
            )


def _longer(
    searched: StudyRecord, settings: Mapping[str, Any] | None, epochs: float | None
) -> tuple[Recipe, Mapping[str, Any]]:
    """Return the search's recipe and, if no length is given, settings that make it longer."""
    own = load_recipe(parse_yaml(searched.study_file, Path(f"{searched.name}.yaml")).data["recipe"])
    longer = {"steps": LONGER * own.steps, "warmup_steps": LONGER * own.warmup_steps} if epochs is None else {}
    return own, {**longer, **(settings or {})}


def made(record: StudyRecord) -> dict[int, list[tuple[int, str]]]:
    """Return what a finish trained: trial of the search -> (seed, address of the weights), by seed."""
    found: dict[int, list[tuple[int, str]]] = {}
    for trial in record.trials:
        if outcome(trial) == "finished" and OF_TRIAL in trial.extra:
            entry = (trial.seed or 0, f"{record.name}#{trial.number}")
            found.setdefault(int(trial.extra[OF_TRIAL]), []).append(entry)
    return {number: sorted(entries) for number, entries in found.items()}


def best_made(record: StudyRecord) -> str | None:
    """Return the address of the weights with the highest mIoU on the validation split; None if there are none."""
    done = [trial for trial in record.trials if outcome(trial) == "finished" and "best_miou" in trial.extra]
    best = max(done, key=lambda trial: float(trial.extra["best_miou"]), default=None)
    return f"{record.name}#{best.number}" if best else None


def data_of(searched: StudyRecord, path: Path | None) -> tuple[DataSet, HeldOut | None, list[str]]:
    """Return the data of a study's search, their held-out split, and a note if there is none.

    Raises:
        UserError: the data are not available, or are not the same.
    """
    stored = parse_yaml(searched.study_file, Path(f"{searched.name}.yaml")).data
    file = DataFile.model_validate(stored["data"])
    file = file if path is None else file.at(path)
    data = file.load()
    known = searched.identity["accuracy protocol"]["data_fingerprint"]
    if data.fingerprint != known:
        raise UserError(
            f"these data are not those of the search: {data.name} has the fingerprint {data.fingerprint}, study "
            f"{searched.name} {known}; give the folder of the search's data with --data"
        )
    wider = data
    if file.name == "scenes" and "test" not in data.sources:  # adding a split does not change the others
        wider = DataFile.model_validate({"name": "scenes", **file.options(), "test": len(data.val)}).load()
    if "test" not in wider.sources:
        return data, None, [f"{data.name} has no held-out split: figures are of the split that chose the weights"]
    test = wider.test
    if not any(bool((test.labels[number] != IGNORE).any()) for number in range(len(test))):
        return data, None, [f"the held-out split of {data.name} has no labels: figures are of the validation split"]
    return data, HeldOut(test, wider.fingerprint), []


def _training_device(members: list[TrialRow]) -> str:
    latency = members[0].measurement and members[0].measurement.latency
    device = latency.protocol.device if latency else "cpu"
    return device if device.partition(":")[0] == "cuda" else "cpu"


def _sibling(
    source: Record,
    searched: StudyRecord,
    recipe: Recipe,
    purpose: str,
    data: DataSet,
    held_out: HeldOut | None,
    command: str,
) -> Record:
    identity = {
        "recipe": recipe.compared(),
        "starting weights": weights_hash(recipe.init) if recipe.init else "",
        "data": data.fingerprint,
        "held-out data": held_out.fingerprint if held_out else None,
    }
    attributes = {
        "question": f"Networks of {searched.name}, trained to the end: {recipe.steps:,} steps by "
        f"{recipe.name or 'a recipe of its own'}",
        "command": command or f"nasseg finish {searched.name}",
        "recipe": {"name": recipe.name, "citation": recipe.citation, "deviations": list(recipe.deviations)},
    }
    try:
        return sibling(source, searched, purpose, identity, attributes)
    except UserError as error:
        raise UserError(f"{error}; or give this one a name other than {purpose!r}") from None
