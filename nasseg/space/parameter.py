"""The parts of a search space: parameters with conditions, schedules with holes, excluded combinations."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nasseg.errors import UserError
from nasseg.schedule import parse_schedule

MAX_STEPS = 10_000  # of a range
MAX_TERMS = 50  # of a template
Scalar = bool | int | float | str
Params = dict[str, Scalar]  # a sampled point: active parameter -> value


@dataclass(frozen=True)
class Parameter:
    """A parameter with finitely many values, and the condition for being active.

    `step`: the distance between values that are ordered numbers (a sampler may then use the order), else None. `when`:
    parameter -> values; it is active if each of these is active and has one of its values. The condition never changes
    the parameter's own values.
    """

    name: str
    values: tuple[Scalar, ...]
    step: int | float | None = None
    when: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()

    def active(self, params: Mapping[str, Scalar]) -> bool:
        return all(name in params and params[name] in values for name, values in self.when)


_HOLE = re.compile(r"\{(\w+)\}")
_TERM = re.compile(r"(?:([0-9]+|\{\w+\})\*)?\(([^()]+)\)")


@dataclass(frozen=True)
class Template:
    """A dilation schedule with holes, `(1,1)+{a}*(1,{d})+({r})`; hole a of `dilations` is the parameter `dilations.a`.

    A hole holds a count, a rate, or all rates of a block as text: `1,4,8`.
    """

    name: str
    text: str
    when: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()

    @property
    def holes(self) -> list[str]:
        return list(dict.fromkeys(_HOLE.findall(self.text)))

    def fill(self, params: Mapping[str, Scalar]) -> str:
        return _HOLE.sub(lambda match: str(params[f"{self.name}.{match[1]}"]), self.text)

    def solve(self, schedule: str, values: Mapping[str, tuple[Scalar, ...]]) -> Params | None:
        """Return values of the holes that give this schedule, or None if there are none."""
        target = parse_schedule(schedule)
        terms = [_TERM.fullmatch(term) for term in self.text.replace(" ", "").split("+")]
        parts = [(term[1] or "1", term[2].split(",")) for term in terms if term is not None]

        def options(expression: str, known: dict[str, Scalar]) -> Iterator[tuple[str, dict[str, Scalar]]]:
            hole = _HOLE.fullmatch(expression)
            if hole is None:
                yield expression, known
            elif hole[1] in known:
                yield str(known[hole[1]]), known
            else:
                for value in values[hole[1]]:
                    yield str(value), {**known, hole[1]: value}

        of_part = [set(_HOLE.findall(f"{count}{rates}")) for count, rates in parts]
        later: list[set[str]] = [set().union(*of_part[index:]) for index in range(len(parts))]
        dead: set[tuple[Any, ...]] = set()  # places where nothing was found: other ways lead to them again

        def match(index: int, position: int, known: dict[str, Scalar]) -> dict[str, Scalar] | None:
            if index == len(parts):
                return known if position == len(target) else None
            state = (index, position, *((hole, known[hole]) for hole in sorted(later[index] & known.keys())))
            found = None if state in dead else match_from(index, position, known)
            if found is None:
                dead.add(state)
            return found

        def match_from(index: int, position: int, known: dict[str, Scalar]) -> dict[str, Scalar] | None:
            count_text, rates = parts[index]
            for text, with_count in options(count_text, known):
                count = int(text)
                entries = target[position : position + count]
                if len(entries) < count or any(entry != entries[0] for entry in entries):
                    continue
                candidates: list[tuple[tuple[int, ...], dict[str, Scalar]]] = [((), with_count)]
                for rate in rates:
                    candidates = [
                        (so_far + _rates(value), new) for so_far, old in candidates for value, new in options(rate, old)
                    ]
                for whole, candidate in candidates:
                    if not entries or whole == entries[0]:
                        found = match(index + 1, position + count, candidate)
                        if found is not None:
                            return found
            return None

        found = match(0, 0, {})
        return None if found is None else {f"{self.name}.{hole}": value for hole, value in found.items()}


def _rates(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


@dataclass(frozen=True)
class Clause:
    """An excluded combination: it applies if every named parameter is active and passes its test.

    A test is a tuple of values, or (low, high) as a `Bounds`.
    """

    tests: tuple[tuple[str, "tuple[Scalar, ...] | Bounds"], ...]

    def names(self) -> set[str]:
        return {name for name, _ in self.tests}

    def excludes(self, params: Mapping[str, Scalar]) -> bool:
        return all(name in params and _fits(params[name], test) for name, test in self.tests)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {test}" if isinstance(test, Bounds) else f"{name} = {either(test)}" for name, test in self.tests
        )


@dataclass(frozen=True)
class Bounds:
    low: float = float("-inf")
    high: float = float("inf")

    def __str__(self) -> str:
        sides = {"at least": self.low, "at most": self.high}
        return " and ".join(f"{side} {bound:g}" for side, bound in sides.items() if math.isfinite(bound))


def as_written(value: Scalar) -> str:
    """Return a value as a file holds it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def either(values: Iterable[Scalar]) -> str:
    """Return values in words: bga or ffm or none."""
    return " or ".join(map(as_written, values))


def _fits(value: Scalar, test: "tuple[Scalar, ...] | Bounds") -> bool:
    if isinstance(test, Bounds):
        return not isinstance(value, str) and test.low <= value <= test.high
    return value in test


def range_values(low: Any, high: Any, step: Any) -> tuple[int | float, ...]:
    """Return low, low + step, ... up to and including high.

    Raises:
        UserError: they are not numbers, high is below low, the step is not above 0, or high is not a whole number of
            steps from low.
    """
    numbers = (low, high, step)
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise UserError(f"a range is [low, high] of numbers with a step, got {list(numbers)}")
    if not (float("-inf") < low <= high < float("inf")) or not step > 0:
        raise UserError(f"a range needs low <= high and a step above 0, got [{low}, {high}] with step {step}")
    count = (high - low) / step
    if count > MAX_STEPS or abs(count - round(count)) > 1e-9:
        raise UserError(
            f"a range's length must be a whole number (up to {MAX_STEPS:,}) of steps, got "
            f"[{low}, {high}] with step {step}"
        )
    return tuple(round(low + index * step, 12) for index in range(round(count) + 1))
