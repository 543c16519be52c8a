"""Reuse results of another study under the same protocol, so that its networks are not trained again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.front import pareto_front
from nasseg.errors import UserError
from nasseg.families import get_family, own_code_of
from nasseg.own_code import of_record
from nasseg.records import Accuracy, AccuracyProtocol, Measurement, eval_key
from nasseg.space import Params, Space
from nasseg.study.context import Context
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import ARCH, MEASUREMENT, PUBLISHED, REUSED_FROM, TRAINING


@dataclass(frozen=True)
class Trained:
    """An accuracy, users' own figures of the trained network, and their source as `study#trial`."""

    accuracy: Accuracy
    custom: dict[str, dict[str, Any]]
    source: str


@dataclass(frozen=True)
class Reuse:
    """Results to reuse.

    trained: by eval_key. points: their points in the space searched now, which are tried before new ones.
    """

    trained: dict[str, Trained]
    points: list[Params]

    def accuracy_of(self, key: str, measurement: Measurement) -> tuple[Measurement, str] | None:
        """Return the measurement with the accuracy under this key, and its source; None if there is none."""
        found = self.trained.get(key)
        if found is None:
            return None
        return replace(
            measurement, accuracy=found.accuracy, custom={**found.custom, **measurement.custom}
        ), found.source


def reuse_of(record: Record, space: Space, context: Context) -> Reuse:
    """Return another study's results under an equal accuracy protocol.

    The seed and the recipe's name may differ. If the space sets fields of the recipe, each network's point decides its
    protocol.

    Raises:
        UserError: nothing in it was trained under that protocol; the message says what differs.
    """
    trained: dict[str, Trained] = {}
    points: list[Params] = []
    other: AccuracyProtocol | None = None
    code = record.attributes()["identity"].get("own code", {})
    for trial in record.trials(TrialState.COMPLETE):
        measurement = Measurement.from_json(trial.user_attrs[MEASUREMENT])
        if measurement.accuracy is None or REUSED_FROM in trial.user_attrs:
            continue
        theirs = measurement.accuracy.protocol
        point = _point(space, trial, code) if space.training else None
        protocol = context.protocol_of(space.recipe_settings(space.training_of(point or {})), 0)
        if replace(theirs, recipe="", seed=0) != replace(protocol, recipe="", seed=0):
            other = theirs
            continue
        own = {name: entry for name, entry in measurement.custom.items() if entry["phase"] == "trained"}
        source = f"{record.name}#{trial.number}"
        trained[eval_key(measurement.arch_id, theirs)] = Trained(measurement.accuracy, own, source)
        point = point if space.training else _point(space, trial, code)
        if point is not None:
            points.append(point)
    if not trained:
        raise UserError(f"study {record.name!r} has nothing to reuse: {_difference(other, context.accuracy)}")
    return Reuse(trained, points)


def front_points(record: Record, space: Space) -> list[Params]:
    """Return the points of another study's front that are in the space.

    Raises:
        UserError: none of them does.
    """
    trials = [trial for trial in record.trials(TrialState.COMPLETE) if REUSED_FROM not in trial.user_attrs]
    directions = [direction for _name, _unit, direction in record.attributes()["objectives"]]
    on = pareto_front(np.array([trial.values for trial in trials]).reshape(-1, len(directions)), directions)
    code = record.attributes()["identity"].get("own code", {})
    points = [_point(space, trial, code) for trial, front in zip(trials, on, strict=True) if front]
    found = [point for point in points if point is not None]
    if not found:
        raise UserError(f"study {record.name!r} has no network on its front that space {space.name!r} holds")
    return found


def _point(space: Space, trial: FrozenTrial, code: Mapping[str, str]) -> Params | None:
    settings = json.loads(trial.user_attrs[ARCH])
    if PUBLISHED in trial.user_attrs or settings["family"] not in space.families:
        return None
    encoder = {name: value for name, value in settings.items() if name == "encoder"}
    with of_record(code):
        own_code_of(settings)  # in another version, neither the points nor the accuracy would be the same
        defaults = {"family": settings["family"], **get_family(settings["family"]).from_params(encoder).params()}
    return space.locate(settings, defaults, json.loads(trial.user_attrs.get(TRAINING, "{}")))


def _difference(theirs: AccuracyProtocol | None, ours: AccuracyProtocol) -> str:
    if theirs is None:
        return "none of its networks is trained"
    names = ("data", "data_fingerprint", "recipe_hash", "steps", "split", "init")
    different = [n for n in names if getattr(theirs, n) != getattr(ours, n)]
    return "; ".join(f"{name} is {getattr(theirs, name)!r} there, {getattr(ours, name)!r} here" for name in different)
