"""Sibling studies, `<name>@<purpose>`: later results of a search's networks. The search's own trials are final.

A sibling is in the storage of its search and is joined with it by arch_id.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nasseg.measure.environment import environment
from nasseg.records import StudyRecord
from nasseg.study.store.record import Record, now

_OF_THE_SEARCH = ("objectives", "limits", "published", "study_file", "space_file", "trained_on")


def sibling(
    source: Record, searched: StudyRecord, purpose: str, identity: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Record:
    """Return the sibling for this purpose, created if there is none. attributes: added to those of its search.

    Raises:
        UserError: there is one with another identity.
    """
    objectives = {objective.name: objective.direction for objective in searched.objectives}
    shared = {"search": searched.name, "objectives": [list(item) for item in objectives.items()]}
    whole = {**shared, "own code": searched.own_code, **identity}
    record = Record.create(source.storage, f"{searched.name}@{purpose}", objectives, whole)
    before = source.attributes()
    kept = {key: before[key] for key in _OF_THE_SEARCH if key in before}  # published networks may be added later
    record.set_attributes({**kept, "environment": asdict(environment()), f"{purpose}_of": searched.name, **attributes})
    if "created" not in record.attributes():
        record.set_attributes({"created": now()})
    return record
