"""Measurements for tables: studies `<table>@<purpose>`, in ./runs/<table>/study.db or in one storage for all."""

import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter

from nasseg.errors import UserError
from nasseg.families import Arch
from nasseg.measure.environment import environment
from nasseg.records import Accuracy, Measurement
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.record import Record, now, study_names
from nasseg.study.store.storage import RUNS, default_url, is_there, open_storage
from nasseg.study.store.trial_attributes import (
    BEST,
    BEST_SHA256,
    EVAL_KEY,
    EVALUATED,
    HELD_OUT,
    MEASUREMENT,
    TAKEN_FROM,
    WEIGHTS_SHA256,
)
from nasseg.tables.table_file import Table, tables

LATENCY = "latency"


def begin(
    table: Table,
    purpose: str,
    objective: tuple[str, str, str],
    identity: dict[str, Any],
    storage: str | None,
    command: str = "",
) -> Record:
    """Open the study of a table for one purpose, or create it. objective: name, unit, direction.

    Raises:
        UserError: it cannot be opened, or was created with another identity.
    """
    opened = open_storage(storage or default_url(table.name), create=True)
    record = Record.create(opened, f"{table.name}@{purpose}", {objective[0]: objective[2]}, identity)
    if "created" not in record.attributes():
        record.set_attributes(
            {
                "objectives": [list(objective)],
                "limits": {},
                "published": [],
                "study_file": "",
                "space_file": "",
                "question": f"{table.paper}, {table.file.table}: {table.file.question}",
                "command": command or f"nasseg reproduce {table.name}",
                "environment": asdict(environment()),
                "created": now(),
                "table": table.name,
            }
        )
    return record


def records(name: str, storage: str | None) -> list[Record]:
    """Return the studies of a table, the latest first; empty if nothing was stored."""
    url = storage or default_url(name)
    if not is_there(url):
        return []
    opened = open_storage(url, create=False)
    # A storage may hold studies of other kinds: skip them.
    found = [Record(opened, study) for study in study_names(opened) if study.startswith(f"{name}@")]
    own = [record for record in found if record.attributes().get("table") == name]
    # Two may share the same second. A storage numbers its studies in order of creation.
    return sorted(own, key=lambda record: (str(record.attributes()["created"]), record.study_id), reverse=True)


def accuracy_records(name: str, storage: str | None) -> list[Record]:
    return [record for record in records(name, storage) if record.name != f"{name}@{LATENCY}"]


def candidate(arch: Arch, family: str, row: str, seed: int, distributions: dict[str, BaseDistribution]) -> Candidate:
    """Return the candidate to store for a row. family: FILE.py:CLASS for a user's own."""
    sampled = {name: value for name, value in {"row": row, "seed": seed}.items() if name in distributions}
    return Candidate(
        Proposal({}, sampled, distributions), {"family": family or arch.family, **arch.params()}, None, seed
    )


@dataclass(frozen=True)
class Known:
    """A finished training, and the address of its record: `study#trial`."""

    measurement: Measurement
    attributes: dict[str, Any]
    source: str


def known_trainings(storage: str | None) -> dict[str, Known]:
    """Return all finished trainings of all tables, by eval_key."""
    found: dict[str, Known] = {}
    named = set(tables())
    for name in _stored_tables(storage):
        # A file below runs/ that is no storage of a known table must not stop a training.
        with suppress(UserError) if storage is None and name not in named else nullcontext():
            for record in accuracy_records(name, storage):
                for trial in record.trials(TrialState.COMPLETE):
                    found.setdefault(trial.user_attrs[EVAL_KEY], known_of(record, trial))
    return found


def _stored_tables(storage: str | None) -> list[str]:
    """Return the names of the tables that may have trainings, including those read by path."""
    if storage is None:
        stored = [path.parent for level in ("*", "*/*") for path in RUNS.glob(f"{level}/study.db")]
        return sorted({*tables(), *(str(folder.relative_to(RUNS)) for folder in stored)})
    opened = open_storage(storage, create=False) if is_there(storage) else None
    return sorted({name.partition("@")[0] for name in (study_names(opened) if opened else ())})


def known_of(record: Record, trial: FrozenTrial) -> Known:
    kept = (HELD_OUT, BEST, EVALUATED, "test_miou", "best_miou", WEIGHTS_SHA256, BEST_SHA256)
    attributes = {name: value for name, value in trial.user_attrs.items() if name in kept}
    source = trial.user_attrs.get(TAKEN_FROM, f"{record.name}#{trial.number}")
    return Known(Measurement.from_json(trial.user_attrs[MEASUREMENT]), attributes, source)


def trained(record: Record) -> Iterator[tuple[str, int, Measurement, Accuracy | None]]:
    """Yield row, seed, measurement and, if there is one, the accuracy on the held-out split."""
    reader = TypeAdapter(Accuracy)
    for trial in record.trials(TrialState.COMPLETE):
        held_out = trial.user_attrs.get(HELD_OUT)
        tested = reader.validate_python(json.loads(held_out)) if held_out else None
        measurement = Measurement.from_json(trial.user_attrs[MEASUREMENT])
        yield trial.params["row"], trial.params["seed"], measurement, tested


def early_miou(record: Record) -> dict[int, dict[str, dict[int, float]]]:
    """Return mIoU on the validation split early in the trainings: percent of the steps -> row -> seed -> mIoU."""
    found: dict[int, dict[str, dict[int, float]]] = {}
    for trial in record.trials(TrialState.COMPLETE):
        *early, (steps, _) = trial.user_attrs.get(EVALUATED) or [(1, 0.0)]
        for step, miou in early:
            at = found.setdefault(round(100 * step / steps), {})
            at.setdefault(trial.params["row"], {})[trial.params["seed"]] = miou
    return found


def row_and_seed(rows: list[str]) -> dict[str, BaseDistribution]:
    """Return rows and seeds as parameters of trials."""
    return {
        "row": optuna.distributions.CategoricalDistribution(rows),
        "seed": optuna.distributions.IntDistribution(0, 1_000_000),
    }
