"""Sibling studies, `<name>@<purpose>`: what is found out later of a search's networks, whose own trials are final.

A sibling lies in the storage of its search and is joined with it on arch_id.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from nasseg.analyse.trials import directions
from nasseg.errors import UserError
from nasseg.measure.environment import environment
from nasseg.records import StudyRecord
from nasseg.study.store.record import Record, now
from nasseg.study.store.storage import redact

_OF_THE_SEARCH = ("objectives", "limits", "published", "study_file", "space_file")


def sibling(
    source: Record, searched: StudyRecord, purpose: str, identity: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Record:
    """The sibling of that purpose, made if there is none. attributes: beside those that it takes from its search.

    Raises:
        UserError: there is one with another identity.
    """
    objectives = [[objective.name, objective.direction] for objective in searched.objectives]
    whole = {"search": searched.name, "objectives": objectives, **identity}
    record = Record.create(source.storage, f"{searched.name}@{purpose}", directions(searched), whole)
    before = source.attributes()
    kept = {key: before[key] for key in _OF_THE_SEARCH}
    record.set_attributes({**kept, "environment": vars(environment()), f"{purpose}_of": searched.name, **attributes})
    if "created" not in record.attributes():
        record.set_attributes({"created": now()})
    return record


@contextmanager
def storage_faults() -> Iterator[None]:
    """What goes wrong with a storage, as a UserError."""
    try:
        yield
    except BrokenPipeError:  # of who reads our output
        raise
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        reason = redact(str(error.__cause__ or error).splitlines()[0])
        raise UserError(
            f"the storage failed: {reason}; what it holds is kept: mend it and run the same command again"
        ) from None
