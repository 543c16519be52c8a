"""The space of a table: the points that were trained, and no others."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from nasseg.analyse.front import Floats
from nasseg.space import Params, Space
from nasseg.space.parameter import Parameter, Scalar
from nasseg.space.space import Suggester


@dataclass(frozen=True)
class TableSpace(Space):
    """A space in which whatever is drawn is moved to the nearest of these points.

    So every proposal of a search has a row in its table, and none has two, however thinly the table covers its space.
    """

    networks: tuple[Params, ...] = ()

    @classmethod
    def of(cls, space: Space, networks: tuple[Params, ...]) -> "TableSpace":
        return cls(**{field.name: getattr(space, field.name) for field in fields(Space)}, networks=networks)

    def sample(self, rng: random.Random) -> Params:
        return self.nearest(super().sample(rng))

    def suggest(self, trial: Suggester) -> Params:
        return self.nearest(super().suggest(trial))

    def neighbour(self, params: Params, rng: random.Random) -> Params:
        """Return the point nearest to a neighbour, other than the one that it is a neighbour of."""
        return self.nearest(super().neighbour(params, rng), other_than=params)

    def count(self) -> int:
        return len(self.networks)

    def nearest(self, params: Mapping[str, Scalar], other_than: Mapping[str, Scalar] | None = None) -> Params:
        distances = self.distances(params)
        if other_than is not None and len(self.networks) > 1:
            distances[[point == other_than for point in self.networks]] = np.inf
        return self.networks[int(np.argmin(distances))]

    def distances(self, params: Mapping[str, Scalar]) -> Floats:
        """Return Gower's distance, summed, from a point to each network [n].

        Numbers differ by their ranks, over the range. Other values differ by 1, and so do an active and an inactive
        parameter.
        """
        places = self._places_of(params)
        apart = np.abs(self._places - places)  # NaN where a parameter is inactive in either
        apart = np.where(self._ordered, apart, apart != 0)
        active = ~np.isnan(self._places), ~np.isnan(places)
        return np.asarray(np.where(active[0] & active[1], apart, active[0] != active[1]).sum(axis=1))

    def _places_of(self, params: Mapping[str, Scalar]) -> Floats:
        return np.array([places.get(params.get(name), np.nan) for name, places in self._known.items()])

    @cached_property
    def _known(self) -> dict[str, dict[Scalar | None, float]]:
        """The place of each value of each parameter: 0..1 by rank if they are numbers, else its number."""
        return {name: _place(parameter) for name, parameter in self.parameters.items()}

    @cached_property
    def _ordered(self) -> np.ndarray:
        return np.array([_is_ordered(parameter) for parameter in self.parameters.values()])

    @cached_property
    def _places(self) -> Floats:
        return np.array([self._places_of(params) for params in self.networks])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_ordered(parameter: Parameter) -> bool:
    return all(map(is_number, parameter.values))


def _place(parameter: Parameter) -> dict[Scalar | None, float]:
    if not _is_ordered(parameter):
        return {value: float(number) for number, value in enumerate(parameter.values)}
    ranked = sorted(parameter.values, key=float)
    return {value: number / max(1, len(ranked) - 1) for number, value in enumerate(ranked)}
