"""The networks of a search to finish and to time again: its front, or one of its trials."""

from nasseg.analyse.front import pareto_front
from nasseg.analyse.trials import directions, objective_values, outcome
from nasseg.errors import UserError
from nasseg.records import StudyRecord, TrialRow
from nasseg.study.limits import over_limit


def front_members(searched: StudyRecord) -> list[TrialRow]:
    """Return the trials on the front of finished trials within the limits, each trained network once.

    Raises:
        UserError: there is none.
    """
    require_search(searched)
    within = [t for t in searched.trials if outcome(t) == "finished" and t.measurement]
    within = [t for t in within if t.measurement and not over_limit(searched.limits, t.measurement)]
    if not within:
        raise UserError(f"no trained network of {searched.name} keeps its limits: search longer, or loosen them")
    front = pareto_front(objective_values(searched, within), directions(searched))
    found = {trial.trained_network: trial for trial, on in reversed([*zip(within, front, strict=True)]) if on}
    return sorted(found.values(), key=lambda trial: trial.number)


def require_search(searched: StudyRecord) -> None:
    """Raise a UserError if a study is not a search but a search's sibling."""
    if "@" in searched.name:
        raise UserError(f"{searched.name} is not a search: finish {searched.name.partition('@')[0]}")


def trained_member(searched: StudyRecord, number: str) -> TrialRow:
    """Return a trial of a search by its number.

    Raises:
        UserError: there is none that is trained.
    """
    require_search(searched)
    found = next((trial for trial in searched.trials if str(trial.number) == number), None)
    if found is None or outcome(found) != "finished" or found.measurement is None:
        raise UserError(f"{searched.name}#{number} is no trained network: `nasseg front {searched.name}` lists some")
    return found
