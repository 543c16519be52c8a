"""Limits on figures, and how networks break them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Limits = Mapping[str, Mapping[str, float]]  # figure -> {"min": ..., "max": ...}
SIDES = {"max": "at most", "min": "at least"}


@dataclass(frozen=True)
class Breach:
    """A broken limit: the figure, its value, the side ("max", "min") and the bound. NaN breaks every limit."""

    name: str
    value: float
    side: str
    bound: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"{self.name} has a limit, but its value is not a number"
        return f"{self.name} is {'over' if self.side == 'max' else 'under'} the limit of {self.bound:.6g}"


def breaches(
    limits: Limits, figures: Mapping[str, float | None], least: Mapping[str, float | None]
) -> Iterator[Breach]:
    """Yield the limits that a network's figures break, as far as they are known.

    least: for doubtful figures, the lowest possible value (None: not known). Only this can break a maximum.
    """
    for name, limit in limits.items():
        for side, bound in limit.items():
            value = figures.get(name) if side == "min" else least.get(name, figures.get(name))
            if value is None:
                continue
            kept = value <= bound if side == "max" else value >= bound
            if not kept:
                yield Breach(name, value, side, bound)
