"""Write a search's networks as rows of a user's own table, to be trained like the papers' networks beside them."""

from typing import Any

from nasseg.analyse.trials import on_front
from nasseg.data.init.plan import flow
from nasseg.errors import UserError
from nasseg.families import arch_of, get_family
from nasseg.own_code import of_record
from nasseg.records import StudyRecord, TrialRow
from nasseg.study.recipe_parameters import settings_of
from nasseg.words import empty_front


def front_rows(record: StudyRecord) -> str:
    """Return the front of a search as rows of a table, in YAML: see nasseg.tables.own_table.

    Raises:
        UserError: the front is empty, or a user's own code is missing or may not run.
    """
    front = [trial for trial, on in zip(record.trials, on_front(record).tolist(), strict=True) if on]
    if not front:
        raise UserError(empty_front(record.name))
    with of_record(record.own_code):
        return "rows:\n" + "".join(f"  - {flow(_row(record, trial))}\n" for trial in front)


def _row(record: StudyRecord, trial: TrialRow) -> dict[str, Any]:
    """Return a trial's row: how it differs from its family's published network, and from the table's recipe."""
    family, network = str((trial.arch or {})["family"]), arch_of(trial.arch or {}).params()
    usual = {**get_family(family)().params(), "input_scale": None}  # always given: a column may have another
    differs = {name: value for name, value in network.items() if usual.get(name, ...) != value}
    recipe = settings_of(record.extra["space_file"], trial.training)
    row = {"name": f"{record.name}#{trial.number}", "variant": family, "set": differs}
    return {**row, "recipe": recipe} if recipe else row
