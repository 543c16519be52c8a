"""Several studies side by side: their common objectives, and differences of protocol that rule out a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nasseg.analyse.front import pareto_front
from nasseg.analyse.trials import directions, objective_values, outcome
from nasseg.errors import UserError
from nasseg.figures import Part
from nasseg.records import Objective, StudyRecord

PARTS: dict[Part, str] = {"accuracy": "mIoU", "latency": "latency", "cost": "multiply-adds and other costs"}
# Fields that may differ between runs of one protocol.
_HARMLESS = {("accuracy", "seed"), ("accuracy", "recipe")}  # the recipe's hash identifies it
_MACHINE = ("cpu", "gpu", "cores", "torch")  # latencies depend on these


@dataclass(frozen=True)
class Difference:
    """A field of a protocol that differs between studies.

    values: for each study, all values that its finished networks have.
    """

    part: Part
    field: str
    values: tuple[tuple[Any, ...], ...]

    @property
    def matters(self) -> bool:
        return (self.part, self.field) not in _HARMLESS


def common_objectives(records: Sequence[StudyRecord]) -> tuple[Objective, ...]:
    """Return the objectives that all studies share, in the order of the first.

    Raises:
        UserError: there is none.
    """
    shared = [o for o in records[0].objectives if all(o in record.objectives for record in records)]
    if not shared:
        names = "; ".join(f"{r.name}: {', '.join(o.name for o in r.objectives)}" for r in records)
        raise UserError(
            f"these studies share no objective, so they cannot be compared ({names}); report each of them alone"
        )
    return tuple(shared)


def protocol_differences(records: Sequence[StudyRecord]) -> list[Difference]:
    """Return the fields of protocols, and of machines for latencies, that differ between finished networks.

    Parts that a study has not measured are left out for it.
    """
    found = []
    for part in PARTS:
        fields = [_fields(record, part) for record in records]
        known = [each for each in fields if each]
        for name in dict.fromkeys(name for each in known for name in each):
            if len({each.get(name) for each in known}) > 1:
                found.append(Difference(part, name, tuple(each.get(name, ()) for each in fields)))
    return found


def joint_front(records: Sequence[StudyRecord]) -> list[list[int]]:
    """Return, for each study, the trials that no network of any study dominates in the common objectives."""
    shared = common_objectives(records)
    parts = [replace(record, objectives=shared) for record in records]
    values = []
    for record in parts:
        own = objective_values(record)
        own[[outcome(trial) != "finished" for trial in record.trials]] = np.nan
        values.append(own)
    front = pareto_front(np.concatenate(values), directions(parts[0]))
    ends = np.cumsum([len(part) for part in values])
    return [
        [record.trials[row].number for row in np.flatnonzero(mask)]
        for record, mask in zip(records, np.split(front, ends[:-1]), strict=True)
    ]


def shared_networks(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """Return how similarly each pair of studies ranks the networks that both have.

    Columns: first, second (places in records), figure (a common objective), networks, tau (Kendall's, 1: the same
    order; NaN for fewer than three networks).
    """
    rows: list[tuple[int, int, str, int, float]] = []
    values = [_by_network(record) for record in records]
    for first, second in combinations(range(len(records)), 2):
        both = [arch for arch in values[first] if arch in values[second]]
        for objective in common_objectives(records) if both else ():
            pairs = [
                (values[first][arch].get(objective.name), values[second][arch].get(objective.name)) for arch in both
            ]
            known = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2)
            tau = float(stats.kendalltau(*known.T).statistic) if len(known) > 2 else np.nan
            rows.append((first, second, objective.name, len(known), tau))
    return pd.DataFrame(rows, columns=["first", "second", "figure", "networks", "tau"])


def _by_network(record: StudyRecord) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for trial in record.trials:
        if outcome(trial) == "finished" and trial.measurement:
            found.setdefault(trial.trained_network, trial.values)
    return found


def _fields(record: StudyRecord, part: str) -> dict[str, tuple[Any, ...]]:
    """Return field -> its values among the finished networks of a study."""
    protocols = set()
    for trial in record.trials:
        measured = getattr(trial.measurement, part) if trial.measurement and outcome(trial) == "finished" else None
        if measured is not None:
            machine = measured.environment if part == "latency" else None
            protocols.add((measured.protocol, machine))
    found: dict[str, dict[Any, None]] = {}
    for protocol, machine in sorted(protocols, key=repr):
        more = {name: getattr(machine, name) for name in _MACHINE} if machine else {}
        for name, value in {**vars(protocol), **more}.items():
            found.setdefault(name, {})[value] = None
    return {name: tuple(values) for name, values in found.items()}
