"""Features of a network known before training: figures of its graph that every family has."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from nasseg.families import arch_of
from nasseg.figures import Figure
from nasseg.measure.cost import measure_cost
from nasseg.own_code import CodeError
from nasseg.records import Cost, CostProtocol, Measurement, Size
from nasseg.space import Params, Space
from nasseg.study.limits import over_limit

STRIDES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Described:
    """Features of a point, and the values of objectives known before training, by index."""

    features: tuple[float, ...]
    known: dict[int, float]


class Points(Protocol):
    """The points that a sampler chooses from, and their known features."""

    def draw(self, rng: random.Random) -> dict[str, Any]:
        """Return a point: parameter name -> value, without inactive parameters."""
        ...

    def near(self, point: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
        """Return a point like another."""
        ...

    def describe(self, point: Mapping[str, Any]) -> Described | None:
        """Return what is known about a point; None if it breaks a limit or cannot be built."""
        ...


@dataclass(frozen=True)
class SpacePoints:
    """The points of a space, built when they are described: some hundredths of a second each."""

    space: Space
    objectives: tuple[Figure, ...]
    limits: Mapping[str, Mapping[str, float]]
    protocol: CostProtocol

    def draw(self, rng: random.Random) -> Params:
        return self.space.sample(rng)

    def near(self, point: Mapping[str, Any], rng: random.Random) -> Params:
        other = self.space.neighbour(dict(point), rng)
        return self.space.sample(rng) if self.space.excluded_by(other) else other

    def describe(self, point: Mapping[str, Any]) -> Described | None:
        settings = json.dumps(self.space.settings(point), sort_keys=True)
        try:
            cost = cost_of_settings(settings, self.protocol.input_size, self.protocol.num_classes)
        except CodeError:  # a user's own file, without which no network can be built
            raise
        except Exception:  # a candidate's failure must not end the search, whatever its type
            return None
        built = Measurement(arch_id="", cost=cost)
        if over_limit({name: dict(limit) for name, limit in self.limits.items()}, built):
            return None
        values = [figure.of(built) if figure.phase == "cost" else None for figure in self.objectives]
        features = (*graph_features(cost), *recipe_features(self.space, point))
        return Described(features, {i: value for i, value in enumerate(values) if value is not None})


@lru_cache(4096)
def cost_of_settings(settings: str, input_size: Size, num_classes: int) -> Cost:
    """Return the cost of a network given as JSON (family and fields)."""
    return measure_cost(arch_of(json.loads(settings)), input_size, num_classes)


def graph_features(cost: Cost) -> tuple[float, ...]:
    """Return features of the graph, whatever the family.

    They are the logarithms of multiply-adds, parameters, activations and field of view, then the shares of
    multiply-adds and of parameters by stride, 2 to 64.
    """
    whole = (cost.macs, cost.params, cost.activations, cost.field_of_view)
    return (
        *(math.log(max(1, figure)) for figure in whole),
        *_shares(cost, "macs", cost.macs),
        *_shares(cost, "params", cost.params),
    )


def recipe_features(space: Space, point: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the place, 0..1, of each number that a point sets in the recipe, in its range (0.5: inactive).

    Values without order have no place: the sampler knows them only by their code.
    """
    found = []
    for name in space.training:
        values = space.parameters[name].values
        named = name in space.named or any(isinstance(value, bool | str) for value in values)
        if len(values) > 1 and not named:
            ranked = sorted(values, key=float)
            found.append(ranked.index(point[name]) / (len(values) - 1) if name in point else 0.5)
    return tuple(found)


def _shares(cost: Cost, name: str, whole: int) -> Sequence[float]:
    found = {stage.stride: getattr(stage, name) / max(1, whole) for stage in cost.stages}
    return [found.get(stride, 0.0) for stride in STRIDES]
