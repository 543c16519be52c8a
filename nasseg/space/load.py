"""Space files: YAML -> Space. Every rule is checked before anything is sampled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nasseg.errors import UserError, unknown
from nasseg.files import Document, find_file, parse_yaml, read_yaml
from nasseg.schedule import parse_schedule
from nasseg.space.parameter import MAX_TERMS, Bounds, Clause, Parameter, Scalar, Template, range_values
from nasseg.space.space import RECIPE, Space, without_family

MAX_PARAMETERS, MAX_CLAUSES = 150, 2_000
NAME_THEM = "; give lists and mappings a name: {choices: {NAME: VALUE}}"


class SpaceFile(BaseModel):
    """The networks that a search may draw.

    about: the question that the space asks. citation: of the paper it comes from. parameters: fields of the
    architecture: a constant, a list of choices, or one of `choices`, `range` (with a `step`) and `template` (with
    `holes`), each optionally with a condition under `when`. forbid: combinations to leave out. limits: on figures, for
    every study of the space.
    """

    model_config = ConfigDict(extra="forbid")

    about: str
    citation: str = ""
    parameters: dict[str, Any]
    forbid: list[dict[str, Any]] = []
    limits: dict[str, dict[str, float]] = {}


def load_space(name: str | Path) -> Space:
    """Load a space by name (./spaces first, then those shipped) or path.

    Raises:
        UserError: no such space, or the file breaks a rule (file and line are named).
    """
    path = find_file("spaces", name)
    return space_from(read_yaml(path), path.stem)


def space_from_text(text: str, name: str) -> Space:
    """Build a space from the text of its file, as studies keep it."""
    return space_from(parse_yaml(text, Path(f"{name}.yaml")), name)


def space_from(document: Document, name: str) -> Space:
    file = document.validate(SpaceFile)
    parameters: dict[str, Parameter] = {}
    templates: dict[str, Template] = {}
    named: dict[str, dict[Scalar, Any]] = {}
    if len(file.parameters) > MAX_PARAMETERS:
        message = f"a space has at most {MAX_PARAMETERS} parameters, got {len(file.parameters):,}"
        raise document.error(("parameters",), message)
    if len(file.forbid) > MAX_CLAUSES:
        raise document.error(("forbid",), f"a space has at most {MAX_CLAUSES:,} clauses, got {len(file.forbid):,}")
    for key, value in file.parameters.items():
        try:
            _read_parameter(key, _read_named(key, value, named), parameters, templates)
        except UserError as error:
            hint = NAME_THEM if RECIPE in key else ""
            raise document.error(("parameters", key), f"{key}: {error}{hint}") from None
    if "family" not in parameters:
        raise document.error(("parameters",), "a space needs the parameter `family`")
    _check_training(document, parameters, templates, named)
    _add_family_conditions(parameters)
    _check_conditions(document, parameters)
    clauses = tuple(_read_clause(document, index, parameters, clause) for index, clause in enumerate(file.forbid))
    for figure, limit in file.limits.items():
        check_limit(document, ("limits", figure), limit)
    ordered = _in_order(document, parameters)
    space = Space(name, file.about, file.citation, ordered, templates, clauses, file.limits, document.text, named)
    try:
        points = space.count()
    except UserError as error:
        raise document.error(("parameters",), str(error)) from None
    if not points:
        raise document.error(("forbid",), "forbid excludes every point of the space: drop or narrow a clause")
    return space


def check_limit(document: Document, where: tuple[str | int, ...], limit: Mapping[str, float]) -> None:
    if not limit or not set(limit) <= {"min", "max"}:
        raise document.error(where, f"{where[-1]}: a limit is {{min: x}}, {{max: y}} or both, got {dict(limit)}")
    if any(bound != bound for bound in limit.values()) or limit.get("min", 0) > limit.get("max", float("inf")):
        raise document.error(where, f"{where[-1]}: min and max must be numbers, min at most max, got {dict(limit)}")


def _scalars(values: Any) -> tuple[Scalar, ...]:
    items = values if isinstance(values, list) else [values]
    if not items or not all(isinstance(item, bool | int | float | str) and item == item for item in items):
        raise UserError(f"choices are one or more numbers, strings or true / false, got {values!r}")
    if len({(type(item), item) for item in items}) < len(items) or len(set(items)) < len(items):
        raise UserError(f"a choice occurs twice in {values!r}")
    return tuple(items)


def _read_parameter(key: str, value: Any, parameters: dict[str, Parameter], templates: dict[str, Template]) -> None:
    if not isinstance(value, dict):
        parameters[key] = Parameter(key, _scalars(value))
        return
    allowed = {"choices", "range", "step", "template", "holes", "when"}
    for name in value:
        if name not in allowed:
            raise unknown("key of a parameter", name, allowed)
    kinds = [kind for kind in ("choices", "range", "template") if kind in value]
    if len(kinds) != 1:
        raise UserError("give one of `choices`, `range` (with a step) and `template` (with holes)")
    when = _read_when(value.get("when", {}))
    if kinds == ["choices"]:
        parameters[key] = Parameter(key, _scalars(value["choices"]), None, when)
    elif kinds == ["range"]:
        parameters[key] = _range(key, value, when)
    else:
        _read_template(key, value, when, parameters, templates)


def _read_named(key: str, value: Any, named: dict[str, dict[Scalar, Any]]) -> Any:
    """Note the values behind names in `{choices: {NAME: VALUE}}`; return the parameter with the names as choices."""
    if not isinstance(value, dict) or not isinstance(value.get("choices"), dict):
        return value
    named[key] = value["choices"]
    return {**value, "choices": list(named[key])}


def _check_training(
    document: Document,
    parameters: Mapping[str, Parameter],
    templates: Mapping[str, Template],
    named: Mapping[str, dict[Scalar, Any]],
) -> None:
    families = parameters["family"].values
    for name in named:
        if not without_family(name, families).startswith(RECIPE):
            message = f"{name}: only parameters of the recipe ({RECIPE}FIELD) may name their choices; give a list"
            raise document.error(("parameters", name), message)
    for name in templates:
        if without_family(name, families).startswith(RECIPE):
            raise document.error(("parameters", name), f"{name}: a recipe has no dilation schedules; give choices")


def _range(key: str, value: Mapping[str, Any], when: tuple[tuple[str, tuple[Scalar, ...]], ...]) -> Parameter:
    bounds = value["range"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise UserError(f"a range is [low, high], got {bounds!r}")
    if "step" not in value and not all(isinstance(bound, int) for bound in bounds):
        raise UserError(f"a range of fractions needs a step, got {bounds!r}")
    step = value.get("step", 1)
    return Parameter(key, range_values(bounds[0], bounds[1], step), step, when)


def _read_template(
    key: str,
    value: Mapping[str, Any],
    when: tuple[tuple[str, tuple[Scalar, ...]], ...],
    parameters: dict[str, Parameter],
    templates: dict[str, Template],
) -> None:
    holes = value.get("holes", {})
    template = Template(key, str(value["template"]), when)
    if len(terms := template.text.split("+")) > MAX_TERMS:
        raise UserError(f"a template has at most {MAX_TERMS} terms, got {len(terms):,}")
    if not isinstance(holes, dict) or set(holes) != set(template.holes):
        raise UserError(f"holes must be exactly those of the template, {template.holes}, got {holes!r}")
    for hole, choices in holes.items():
        name = f"{key}.{hole}"
        if isinstance(choices, dict):
            if not set(choices) <= {"range", "step"} or "range" not in choices:
                raise UserError(
                    f"hole {hole} is a list of integers or rates, or {{range: [low, high], step: n}}, got {choices!r}"
                )
            parameter = _range(name, choices, when)
        else:
            parameter = Parameter(name, _scalars(choices), None, when)
        whole = all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in parameter.values)
        if all(isinstance(item, str) for item in parameter.values) and f"({{{hole}}})" in template.text:
            for rates in parameter.values:
                parse_schedule(f"({rates})")
        elif not whole:
            raise UserError(
                f"hole {hole} takes whole numbers, or, alone in brackets, all rates of a block as text, got {choices!r}"
            )
        parameters[name] = parameter
    templates[key] = template
    for extreme in (min, max):  # text that is no schedule fails at the ends of the holes' values
        parse_schedule(template.fill({f"{key}.{hole}": extreme(parameters[f"{key}.{hole}"].values) for hole in holes}))


def _read_when(when: Any) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    if not isinstance(when, dict):
        raise UserError(f"`when` is a mapping of parameter to value or list of values, got {when!r}")
    return tuple((str(name), _scalars(values)) for name, values in when.items())


def _add_family_conditions(parameters: dict[str, Parameter]) -> None:
    """Make `regseg.width` active only if the family is regseg, or the encoder of a composed network."""
    for gate in ("family", "encoder"):
        prefixes = parameters[gate].values if gate in parameters else ()
        for name, parameter in parameters.items():
            prefix = name.partition(".")[0]
            if prefix in prefixes and gate not in dict(parameter.when):
                condition = ((gate, (prefix,)),)
                parameters[name] = Parameter(name, parameter.values, parameter.step, condition + parameter.when)


def _check_conditions(document: Document, parameters: dict[str, Parameter]) -> None:
    for parameter in parameters.values():
        for name, values in parameter.when:
            where = ("parameters", parameter.name)
            if name not in parameters:
                raise document.error(where, f"{parameter.name}: `when` names {unknown('parameter', name, parameters)}")
            possible = set(parameters[name].values)
            strange = [value for value in values if value not in possible]
            if strange:
                known = list(parameters[name].values)
                raise document.error(
                    where, f"{parameter.name}: `when` {name} is {strange[0]!r} never holds: it is one of {known}"
                )


def _read_clause(document: Document, index: int, parameters: dict[str, Parameter], clause: Any) -> Clause:
    where = ("forbid", index)
    if not clause:
        raise document.error(where, "an empty forbid clause excludes everything")
    tests: list[tuple[str, tuple[Scalar, ...] | Bounds]] = []
    for name, test in clause.items():
        if name not in parameters:
            raise document.error(where, f"forbid names {unknown('parameter', name, parameters)}")
        try:
            if isinstance(test, dict):
                if (
                    not test
                    or not set(test) <= {"min", "max"}
                    or not all(isinstance(v, int | float) for v in test.values())
                ):
                    raise UserError(f"bounds are {{min: x, max: y}}, got {test!r}")
                tests.append((name, Bounds(test.get("min", float("-inf")), test.get("max", float("inf")))))
            else:
                tests.append((name, _scalars(test)))
        except UserError as error:
            raise document.error(where, f"forbid {name}: {error}") from None
    return Clause(tuple(tests))


def _in_order(document: Document, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """Order parameters: the family first, then as in the file, but each after those in its condition."""
    ordered: dict[str, Parameter] = {}

    def place(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            raise document.error(("parameters", name), f"conditions form a circle: {cycle}")
        if name not in ordered:
            for other, _ in parameters[name].when:
                place(other, (*path, name))
            ordered[name] = parameters[name]

    place("family", ())
    for name in parameters:
        place(name, ())
    # By parameter: the values that its conditions, and those of the parameters in them, allow to others.
    allowed: dict[str, dict[str, frozenset[Scalar]]] = {}
    sets: dict[tuple[Scalar, ...], frozenset[Scalar]] = {}  # each once: most are met again and again
    for name in ordered:
        own = allowed[name] = {}
        for other, values in parameters[name].when:
            for gate, possible in [(other, sets.setdefault(values, frozenset(values))), *allowed[other].items()]:
                known = own.setdefault(gate, possible)
                if known is possible or known <= possible:
                    continue
                own[gate] = known & possible
                if not own[gate]:
                    message = f"{name}: its conditions on {gate} contradict each other, so it never holds"
                    raise document.error(("parameters", name), message)
    return ordered
