"""Tables of trained networks: results of searches, without training. A CSV file, with its space beside it.

One row is one network with one training seed, evaluated at one step. Columns: the space's parameters (empty if
inactive), arch_id, macs, params (the count), latency_ms, step, miou (empty if training diverged), train_seconds (from
the start to that step) and seed.
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FixedTrial

from nasseg.errors import UserError, unknown
from nasseg.families import arch_of
from nasseg.files import written_whole
from nasseg.records import StudyRecord, TrialRow
from nasseg.redaction import cell
from nasseg.space import Params, Space, load_space
from nasseg.space.load import space_from_text
from nasseg.space.parameter import Parameter, Scalar
from nasseg.study.replay.table_space import TableSpace, is_number

FIGURES = ("arch_id", "macs", "params", "latency_ms", "step", "miou", "train_seconds", "seed")


@dataclass(frozen=True)
class Network:
    """One point of the space. `trained`: (seed, step) -> miou (NaN: diverged), seconds of training until then."""

    params: Params
    arch_id: str
    macs: int
    count: int  # of parameters
    latency_ms: float  # NaN: not measured
    trained: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """The networks of a table, and the space of their points."""

    name: str
    space: Space
    networks: tuple[Network, ...]

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for network in self.networks for seed, _ in network.trained}))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted({step for network in self.networks for _, step in network.trained}))

    def require(self, steps: tuple[int, ...], whose: str) -> None:
        """Check that every network was evaluated at these steps, under every seed.

        Raises:
            UserError: one was not, as in the record of a search that stopped networks at rungs.
        """
        for step in steps:
            lacking = self._lacking(step)
            if lacking:
                all_of = len(self.networks) * len(self.seeds)
                reached = ", ".join(str(s) for s in self.steps if not self._lacking(s)) or "none"
                raise UserError(
                    f"{whose} needs every network at step {step}, and {lacking} of {all_of} trainings in table "
                    f"{self.name} did not reach it; steps that all reached: {reached}. Choose --steps and --rungs "
                    "from these, or make the table from a study that trains everything to the end"
                )

    def _lacking(self, step: int) -> int:
        return sum((seed, step) not in network.trained for network in self.networks for seed in self.seeds)

    @cached_property
    def points(self) -> TableSpace:
        """The space of this table's networks alone."""
        return TableSpace.of(self.space, tuple(network.params for network in self.networks))

    def at(self, point: Params) -> Network:
        """Return the network of a point of the space, or the nearest one."""
        return self._by_point[_key(self.points.nearest(point))]

    def find(self, settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> Network:
        """Return the network with these settings: family and every field. recipe: the settings from the space."""
        return self._by_settings[_key([settings, recipe])]

    @cached_property
    def _by_point(self) -> dict[str, Network]:
        return {_key(network.params): network for network in self.networks}

    @cached_property
    def _by_settings(self) -> dict[str, Network]:
        found: dict[str, Network] = {}
        for network in self.networks:
            settings = self.space.settings(network.params)
            named = {"family": settings["family"], **arch_of(settings).params()}
            recipe = self.space.recipe_settings(self.space.training_of(network.params))
            found.setdefault(_key([named, recipe]), network)
        return found


def _key(settings: Any) -> str:
    return json.dumps(settings, sort_keys=True)


def table_of(record: StudyRecord) -> pd.DataFrame:
    """Return the table of everything that a study trained, at every evaluated step, with the file's columns.

    Raises:
        UserError: the study trained nothing.
    """
    space = space_from_text(str(record.extra["space_file"]), record.name)
    points: dict[tuple[str, str], dict[str, Params]] = {}  # trained network -> points that build it
    trained: dict[tuple[str, str], dict[tuple[int, int], TrialRow]] = {}
    for trial in record.trials:
        found = trial.measurement
        if found is None or found.accuracy is None or not trial.params or trial.state not in ("COMPLETE", "PRUNED"):
            continue
        params = space.suggest(FixedTrial(dict(trial.params)))
        points.setdefault(trial.trained_network, {})[_key(params)] = params
        protocol = found.accuracy.protocol
        if trial.reused_from is None:
            trained.setdefault(trial.trained_network, {})[protocol.seed, protocol.steps] = trial
    if not trained:
        raise UserError(f"study {record.name!r} trained nothing yet: there is no table to make; run its search first")
    names = list(space.parameters)
    rows = [
        [*(params.get(name) for name in names), network[0], *_figures(reached[key])]
        for network, reached in trained.items()
        for params in points[network].values()
        for key in sorted(reached)
    ]
    return pd.DataFrame(rows, columns=[*names, *FIGURES], dtype=object)


def _figures(trial: TrialRow) -> list[Any]:
    measurement = trial.measurement
    assert measurement is not None
    cost, latency, accuracy = measurement.cost, measurement.latency, measurement.accuracy
    assert cost is not None
    assert accuracy is not None
    return [
        cost.macs,
        cost.params,
        latency.p50_ms if latency else None,
        accuracy.protocol.steps,
        accuracy.miou,
        accuracy.train_seconds,
        accuracy.protocol.seed,
    ]


def write_table(record: StudyRecord, path: Path | str) -> Path:
    """Write a study's table to a CSV file, and its space to a YAML file of the same name beside it."""
    target, frame, space = Path(path), table_of(record), str(record.extra["space_file"])
    beside = target.with_suffix(".yaml")
    if target.suffix.lower() != ".csv":
        raise UserError(f"a table is a CSV file, got {target}; name it {target.with_suffix('.csv').name}")
    try:
        if beside.exists() and beside.read_text(encoding="utf-8") != space:
            raise UserError(
                f"{beside} would be overwritten by the space of {record.name!r}, which goes beside the table; "
                "choose another name for the table"
            )
        with written_whole(target) as partial:
            frame.map(cell).to_csv(partial, index=False)
        with written_whole(beside) as partial:
            partial.write_text(space, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the table {target}: {error.strerror}; choose another place") from None
    return target


def read_table(path: Path | str, space: str | Path | None = None) -> Table:
    """Read a table from its CSV file. `space`: by name or path; default: the YAML file with the same name beside it.

    Raises:
        UserError: the file, its space or one of its rows is invalid (file and line).
    """
    source = Path(path)
    beside = source.with_suffix(".yaml")
    if space is None and not beside.is_file():
        raise UserError(f"table {source} has no space beside it ({beside.name}); name one with --space")
    loaded = load_space(beside if space is None else space)
    try:
        with source.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            _check_columns(source, columns, loaded)
            networks: dict[str, Network] = {}
            for row in reader:
                _read_row(row, loaded, networks, f"{source}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read table {source}: {error}; a table is a CSV file of trained networks") from None
    if not networks:
        raise UserError(f"table {source} has no rows; a table needs at least one trained network")
    return Table(source.stem, loaded, tuple(networks.values()))


def _check_columns(source: Path, columns: list[str], space: Space) -> None:
    constants = {name for name, parameter in space.parameters.items() if len(parameter.values) == 1}
    lacking = [name for name in (*space.parameters, *FIGURES) if name not in columns and name not in constants]
    if lacking:
        raise UserError(
            f"{source}:1: column {lacking[0]!r} is missing; columns are the parameters of space "
            f"{space.name} and {', '.join(FIGURES)}"
        )
    for column in columns:
        if column not in space.parameters and column not in FIGURES:
            raise UserError(f"{source}:1: {unknown('column', column, (*space.parameters, *FIGURES))}")


def _read_row(row: dict[str, Any], space: Space, networks: dict[str, Network], where: str) -> None:
    if None in row or None in row.values():
        raise UserError(f"{where}: a row needs as many cells as the table has columns")
    params: Params = {}
    for name, parameter in space.parameters.items():
        text = row.get(name, "")
        if parameter.active(params):
            params[name] = _value(parameter, text, where)
        elif text:
            raise UserError(f"{where}: {name} is inactive in this network, got {text!r}; leave the cell empty")
    clause = space.excluded_by(params)
    if clause:
        raise UserError(f"{where}: space {space.name} forbids this network ({clause}); the table is of another space")
    step, seed = _whole(row, "step", where), _whole(row, "seed", where)
    miou = _number(row, "miou", where, empty=True)
    seconds = _number(row, "train_seconds", where)
    known = Network(
        params,
        str(row["arch_id"]),
        _whole(row, "macs", where),
        _whole(row, "params", where),
        _number(row, "latency_ms", where, empty=True),
    )
    network = networks.setdefault(_key(params), known)
    if (network.arch_id, network.macs, network.count) != (known.arch_id, known.macs, known.count):
        raise UserError(
            f"{where}: arch_id, macs or params differ from an earlier row of the same network; correct one of them"
        )
    if (seed, step) in network.trained:
        raise UserError(f"{where}: step {step} of this network with seed {seed} occurs twice; drop one row")
    network.trained[seed, step] = (miou, seconds)


def _value(parameter: Parameter, text: str, where: str) -> Scalar:
    if not text and len(parameter.values) == 1:
        return parameter.values[0]
    for value in parameter.values:
        if text in (str(value), cell(str(value))) or (is_number(value) and _same_number(text, float(value))):
            return value
    raise UserError(f"{where}: {parameter.name}: {unknown('value', text, map(str, parameter.values))}")


def _same_number(text: str, value: float) -> bool:
    try:
        return float(text) == value
    except ValueError:
        return False


def _number(row: Mapping[str, str], name: str, where: str, *, empty: bool = False) -> float:
    try:
        value = float(row[name]) if row[name] or not empty else math.nan
    except ValueError:
        value = math.inf
    if value < 0 or math.isinf(value) or (math.isnan(value) and not empty):
        raise UserError(f"{where}: {name} is a number of 0 or more{' or empty' if empty else ''}, got {row[name]!r}")
    return value


def _whole(row: Mapping[str, str], name: str, where: str) -> int:
    value = _number(row, name, where)
    if value != int(value):
        raise UserError(f"{where}: {name} is a whole number, got {row[name]!r}")
    return int(value)
