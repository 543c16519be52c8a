"""The settings of one call of a search. None of them changes what the study's figures mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from nasseg.study.store.storage import default_url
from nasseg.study.study_file import Study


class RunOptions(TypedDict, total=False):
    """The options of `run_study`. Those left out, or None, come from the study file.

    storage: an Optuna URL or a journal file; default: runs/STUDY/study.db. trials: trained networks in total. hours:
    begin nothing after this many. workers: parallel jobs; default on a cluster: as many as fit. data: the data set's
    folder. seed: of the sampler and of trainings. runs: a path or an fsspec URL for the weights, with a folder for each
    study; default: ./runs. reuse: another study, whose trained networks are tried first and not trained again if the
    accuracy protocol is equal. start_from: another study, with any protocols, whose front is tried first. engine: where
    jobs run. address: of the Ray cluster; default: start one here. callbacks: your own, for Ray Tune. time_again: time
    the front in one session at the end. command: continues the study, shown in reports.
    """

    storage: str | None
    trials: int | None
    hours: float | None
    workers: int | None
    data: Path | None
    seed: int | None
    runs: str | None
    reuse: str | None
    start_from: str | None
    engine: str
    address: str | None
    callbacks: Sequence[Any]
    time_again: bool
    command: str


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A call's options, with the study file's values for those left out."""

    storage: str
    trials: int
    hours: float | None
    workers: int | None  # as the user set it; None: from the study file or the cluster
    data: Path | None
    seed: int
    runs: str | None
    reuse: str | None
    start_from: str | None
    engine: str
    address: str | None
    callbacks: tuple[Any, ...]
    time_again: bool
    command: str
    same_storage: str | None  # the storage of `reuse` and `start_from`; None: each in its own file


def run_settings(study: Study, options: RunOptions) -> RunSettings:
    """Return the settings of a call."""
    file, storage, seed = study.file, options.get("storage"), options.get("seed")
    return RunSettings(
        storage=storage or default_url(study.name),
        same_storage=storage,
        trials=options.get("trials") or file.trials,
        hours=options.get("hours") or file.hours,
        workers=options.get("workers"),
        data=options.get("data"),
        seed=file.seed if seed is None else seed,
        runs=options.get("runs"),
        reuse=options.get("reuse"),
        start_from=options.get("start_from"),
        engine=options.get("engine", "local"),
        address=options.get("address"),
        callbacks=tuple(options.get("callbacks", ())),
        time_again=options.get("time_again", True),
        command=options.get("command", "") or f"nasseg search {study.name}",
    )
