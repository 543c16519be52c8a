"""A search space: sample, suggest and count its points, and find the point of a given network."""

import math
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, Protocol

from nasseg.errors import UserError
from nasseg.schedule import format_schedule, parse_schedule
from nasseg.space.parameter import Clause, Parameter, Params, Scalar, Template

RECIPE = "recipe."
MAX_REDRAWS = 10_000
MAX_STATES = 20_000  # states visited while counting: well under a second
MAX_LISTED = 50_000  # schedules of a template


class Suggester(Protocol):
    """The part of an Optuna trial that a space uses."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float: ...


@dataclass(frozen=True)
class Space:
    """Parameters, each after those in its condition; `limits` are figure -> {min, max}.

    A parameter's name is a field of the Arch, or `field.hole` for a hole of a template. Either may follow a family's
    name and a dot, if families of one space give a field different values: `regseg.width`. In a space of composed
    networks such a name is a field of the encoder.

    A name that begins with `recipe.`, after any such prefix, is a setting of the training recipe: the network does not
    depend on it. named: such a parameter -> the names of its values -> their settings.
    """

    name: str
    about: str
    citation: str
    parameters: dict[str, Parameter]
    templates: dict[str, Template]
    forbid: tuple[Clause, ...] = ()
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ""
    named: dict[str, dict[Scalar, Any]] = field(default_factory=dict)

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(map(str, self.parameters["family"].values))

    def sample(self, rng: random.Random) -> Params:
        """Draw a point: the family first, then each active parameter, each uniformly from its values.

        So families are equally frequent, however many points they have.
        """
        family = rng.choice(self.families)
        for _ in range(MAX_REDRAWS):
            params: Params = {}
            for parameter in self.parameters.values():
                if parameter.active(params):
                    params[parameter.name] = family if parameter.name == "family" else rng.choice(parameter.values)
            if self.excluded_by(params) is None:
                return params
        raise UserError(f"space {self.name}: forbid excludes all of {MAX_REDRAWS} draws of family {family}; loosen it")

    def suggest(self, trial: Suggester) -> Params:
        """Ask an Optuna trial for a point. `forbid` may exclude it: call `excluded_by`."""
        params: Params = {}
        for parameter in self.parameters.values():
            if not parameter.active(params):
                continue
            name, values, step = parameter.name, parameter.values, parameter.step
            if len(values) == 1:
                params[name] = values[0]
            elif step is None:
                params[name] = trial.suggest_categorical(name, values)
            elif isinstance(step, int) and isinstance(values[0], int):
                params[name] = trial.suggest_int(name, values[0], int(values[-1]), step=step)
            else:
                low, high = float(values[0]), float(values[-1])
                drawn = trial.suggest_float(name, low, high, step=float(step))
                params[name] = min(values, key=lambda value: abs(float(value) - drawn))
        return params

    def neighbour(self, params: Params, rng: random.Random) -> Params:
        """Return a point that differs in one active parameter and those it gates. `forbid` may exclude it."""
        changed = rng.choice([name for name in params if len(self.parameters[name].values) > 1])
        point: Params = {}
        for name, parameter in self.parameters.items():
            if parameter.active(point):
                kept = params.get(name)
                if name == changed or kept is None:
                    point[name] = rng.choice([value for value in parameter.values if value != kept])
                else:
                    point[name] = kept
        return point

    def excluded_by(self, params: Mapping[str, Scalar]) -> Clause | None:
        return next((clause for clause in self.forbid if clause.excludes(params)), None)

    def settings(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return a point's network as {"family": ..., field of the Arch: value}.

        Templates are filled in, and prefixes dropped.
        """
        result: dict[str, Scalar] = {"family": params["family"]}
        for template in self.templates.values():
            if all(f"{template.name}.{hole}" in params for hole in template.holes):
                filled = template.fill(params)
                result[self._field(template.name)] = format_schedule(parse_schedule(filled))
        for name, value in params.items():
            if name != "family" and name not in self._holes and name not in self.training:
                result[self._field(name)] = value
        return result

    def training_of(self, params: Mapping[str, Scalar]) -> Params:
        """Return the part of a point that decides its training: the sampled parameters of the recipe."""
        return {name: value for name, value in params.items() if name in self.training}

    def recipe_settings(self, training: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return the changes of a training part to a recipe: field -> value."""
        return {self.training[name]: self.named.get(name, {}).get(value, value) for name, value in training.items()}

    def locate(
        self,
        settings: Mapping[str, Scalar],
        defaults: Mapping[str, Scalar],
        training: Mapping[str, Scalar] | None = None,
    ) -> Params | None:
        """Return the point with these settings (missing ones have their defaults), or None if this space has none.

        training: the parameters of the recipe; missing ones have their first value.
        """
        wanted = {**defaults, **settings}
        params: Params = {}
        covered = {"family"}
        for template in self.templates.values():
            gates = self.parameters[f"{template.name}.{template.holes[0]}"].when
            if all(wanted.get(self._field(name)) in allowed for name, allowed in gates):
                values = {hole: self.parameters[f"{template.name}.{hole}"].values for hole in template.holes}
                solved = template.solve(str(wanted.get(self._field(template.name), "")), values)
                if solved is None:
                    return None
                params |= solved
                covered.add(self._field(template.name))
        point: Params = {}
        for parameter in self.parameters.values():
            if not parameter.active(point):
                continue
            if parameter.name in self._holes:
                value: Scalar | None = params.get(parameter.name)
            elif parameter.name in self.training:
                value = (training or {}).get(parameter.name, parameter.values[0])
            else:
                value = wanted.get(self._field(parameter.name))
                covered.add(self._field(parameter.name))
            if value is None or value not in parameter.values:
                return None
            point[parameter.name] = value
        fixed = all(wanted[name] == defaults.get(name) for name in wanted if name not in covered)
        return point if fixed and self.excluded_by(point) is None else None

    def count(self) -> int:
        """Count the points exactly, without listing them.

        Parameters are counted one after the other. An earlier choice matters only if a later condition or an undecided
        forbid clause names it. So equal remainders are counted once, and so are values that no condition or clause
        distinguishes.

        Raises:
            UserError: conditions and clauses tie so many parameters together that it would take too long.
        """
        parameters = list(self.parameters.values())
        later: list[list[str]] = [[]]  # by place: names that later parameters, or clauses about them, refer to
        names: set[str] = set()
        for parameter in reversed(parameters):
            names |= {name for name, _ in parameter.when}
            names |= {name for clause in self._clauses.get(parameter.name, ()) for name in clause.names()}
            later.insert(0, sorted(names))
        alike = [self._alike(parameter) for parameter in parameters]
        known: dict[tuple[Any, ...], int] = {}

        def count(index: int, params: Params) -> int:
            if index == len(parameters):
                return 1
            key = (index, *map(params.get, later[index]))
            if key not in known:
                if len(known) > MAX_STATES:
                    raise UserError(
                        f"conditions and forbid clauses tie together too many parameters of space {self.name} to "
                        "count its points; drop some of them"
                    )
                parameter, found = parameters[index], 0
                for value, times in alike[index] if parameter.active(params) else [(None, 1)]:
                    choice = params if value is None else {**params, parameter.name: value}
                    if not self._just_excluded(parameter.name, choice):
                        found += times * count(index + 1, choice)
                known[key] = found
            return known[key]

        return count(0, {})

    def _alike(self, parameter: Parameter) -> list[tuple[Scalar, int]]:
        """Group values by the conditions and clauses that hold for them; return a value of each group and its size."""
        name = parameter.name
        gates = [set(values) for values in self._gates.get(name, ())]
        named = {test for clause in self._clauses.get(name, ()) for test in clause.tests if test[0] == name}
        tests = [Clause((test,)) for test in named]
        if not gates and not tests:
            return [(parameter.values[0], len(parameter.values))]
        found: dict[tuple[bool, ...], tuple[Scalar, int]] = {}
        for value in parameter.values:
            told = (*(value in gate for gate in gates), *(test.excludes({name: value}) for test in tests))
            first, times = found.get(told, (value, 0))
            found[told] = (first, times + 1)
        return list(found.values())

    def schedules(self, template: str) -> tuple[int, bool]:
        """Count the schedules of a template. Also return whether the count is exact: many are only multiplied."""
        holes = [self.parameters[f"{template}.{hole}"] for hole in self.templates[template].holes]
        most = math.prod(len(hole.values) for hole in holes)
        if most > MAX_LISTED:
            return most, False
        names = [hole.name for hole in holes]
        filled = (dict(zip(names, values, strict=True)) for values in product(*(hole.values for hole in holes)))
        return len({parse_schedule(self.templates[template].fill(params)) for params in filled}), True

    def _just_excluded(self, name: str, params: Params) -> bool:
        return any(clause.excludes(params) for clause in self._clauses.get(name, ()))

    @cached_property
    def _clauses(self) -> dict[str, list[Clause]]:
        """The clauses that name a parameter."""
        found: dict[str, list[Clause]] = {}
        for clause in self.forbid:
            for name in clause.names():
                found.setdefault(name, []).append(clause)
        return found

    @cached_property
    def _gates(self) -> dict[str, set[tuple[Scalar, ...]]]:
        """The values of a parameter for which others are active, each set of them once."""
        found: dict[str, set[tuple[Scalar, ...]]] = {}
        for parameter in self.parameters.values():
            for name, values in parameter.when:
                found.setdefault(name, set()).add(values)
        return found

    @cached_property
    def _holes(self) -> set[str]:
        return {f"{template.name}.{hole}" for template in self.templates.values() for hole in template.holes}

    @cached_property
    def training(self) -> dict[str, str]:
        """The parameters of the recipe, and the field that each sets."""
        fields = {name: self._field(name).removeprefix(RECIPE) for name in self.parameters}
        return {name: field for name, field in fields.items() if field != self._field(name)}

    def _field(self, name: str) -> str:
        return without_family(name, self.families)


def without_family(name: str, families: Collection[Scalar]) -> str:
    """Return a parameter's name without a family in front."""
    prefix, _, rest = name.partition(".")
    return rest if prefix in families and rest else name
