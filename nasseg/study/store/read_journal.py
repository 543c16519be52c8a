"""Read a large study from a journal fast: line by line, without an object for each state of each trial.

The result equals that of Optuna's own reader, which is used if a journal holds anything unknown.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from nasseg.processes.collection import no_collection
from nasseg.records import TrialRow
from nasseg.study.store.read_sql import Measurements, external, keep, make_row
from nasseg.words import LocalTime

# The action of a line, by its op_code.
CREATE_STUDY, DELETE_STUDY, STUDY_ATTRIBUTE, STUDY_SYSTEM_ATTRIBUTE = 0, 1, 2, 3
CREATE_TRIAL, STATE, INTERMEDIATE_VALUE, ATTRIBUTE, SYSTEM_ATTRIBUTE = 4, 6, 7, 8, 9
_NOT_READ = (STUDY_SYSTEM_ATTRIBUTE, INTERMEDIATE_VALUE, SYSTEM_ATTRIBUTE)
# The states of a trial, by the numbers that Optuna gives them.
RUNNING, COMPLETE, PRUNED, FAIL, WAITING = range(5)
_FINISHED = (COMPLETE, PRUNED, FAIL)
_NAMES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")


@dataclass
class JournalStudy:
    """A study in a journal. `rows` builds its trials."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)  # as described by their lines

    def rows(self, objectives: list[str]) -> tuple[TrialRow, ...]:
        """Return the trials. objectives: the names of their values."""
        reader, local = Measurements(), LocalTime()
        rows = []
        with no_collection():
            for number, trial in enumerate(self.trials):
                complete = trial["state"] == COMPLETE
                rows.append(
                    make_row(
                        reader,
                        number,
                        _NAMES[trial["state"]],
                        _params(trial),
                        dict(trial["user_attrs"]),
                        dict(zip(objectives, trial["values"], strict=True)) if complete else {},
                        local(trial["datetime_start"]),
                        local(trial.get("datetime_complete")),
                    )
                )
            return keep(tuple(rows))


def journal_studies(path: Path) -> dict[str, JournalStudy]:
    """Return the studies of a journal by name; empty if they must be read through Optuna."""
    try:
        with no_collection(), path.open("rb") as file:
            return _read(file.readlines())
    except (OSError, ValueError, LookupError, TypeError):  # no journal, or another format
        return {}


def _read(lines: list[bytes]) -> dict[str, JournalStudy]:
    studies: dict[int, JournalStudy] = {}
    of_trial: list[dict[str, Any]] = []  # by trial id, for all studies
    made = 0
    for line in lines:
        log = from_json(line)
        code = log["op_code"]
        if code == CREATE_TRIAL:
            if log["study_id"] in studies:
                trial = {"state": RUNNING, "user_attrs": {}, "values": None, **log}
                if trial["values"] is None and log.get("value") is not None:
                    trial["values"] = [log["value"]]
                studies[log["study_id"]].trials.append(trial)
                of_trial.append(trial)
        elif code in (STATE, ATTRIBUTE):
            trial = of_trial[log["trial_id"]]
            if trial["state"] not in _FINISHED:
                (_set_state if code == STATE else _set_attribute)(trial, log)
        elif code == CREATE_STUDY:
            if log["study_name"] not in {study.name for study in studies.values()}:
                studies[made] = JournalStudy(log["study_name"])
                made += 1
        elif code == DELETE_STUDY:
            studies.pop(log["study_id"], None)
        elif code == STUDY_ATTRIBUTE:
            if log["study_id"] in studies:
                studies[log["study_id"]].attributes.update(log["user_attr"])
        elif code not in _NOT_READ:
            return {}
    return {study.name: study for study in studies.values()}


def _set_state(trial: dict[str, Any], log: dict[str, Any]) -> None:
    if log["state"] == trial["state"] == RUNNING:
        return  # another process was first
    trial["state"] = log["state"]
    for time in ("datetime_start", "datetime_complete"):
        if time in log:
            trial[time] = log[time]
    if log["values"] is not None:
        trial["values"] = log["values"]


def _set_attribute(trial: dict[str, Any], log: dict[str, Any]) -> None:
    trial["user_attrs"].update(log["user_attr"])


def _params(trial: dict[str, Any]) -> dict[str, Any]:
    distributions = trial.get("distributions", {})
    return {name: _external(distributions[name])(value) for name, value in trial.get("params", {}).items()}


@functools.cache
def _external(distribution: str) -> Callable[[float], Any]:
    return functools.cache(external(distribution))
