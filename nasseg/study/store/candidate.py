"""A point to try, and everything known about it before training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nasseg.measure.environment import environment
from nasseg.records import Measurement
from nasseg.space.parameter import Params
from nasseg.study.store.trial_attributes import (
    ARCH,
    ARCH_ID,
    CODE,
    CONTINUES,
    MEASUREMENT,
    PUBLISHED,
    RUNG,
    SEED,
    STRAIGHT,
    TRAINING,
    kept,
)


@dataclass(frozen=True)
class Proposal:
    """A point to try, with the data to store it as an Optuna trial."""

    params: Params
    sampled: dict[str, Any]
    distributions: dict[str, optuna.distributions.BaseDistribution]
    token: int = -1  # of the sampler's proposal; -1 if it made none


@dataclass(frozen=True)
class Candidate:
    """The stored facts about a candidate: how it was drawn, its architecture and measurement.

    training: the sampled parameters of the recipe. The network does not depend on them.
    """

    proposal: Proposal
    settings: dict[str, Any]  # family and every field
    measurement: Measurement | None
    seed: int
    label: str = ""  # the variant's name, for a published network run as a reference
    rung: int = 0
    continues: int | None = None
    straight: int | None = None  # the rung from which it is trained to the end, whatever its rungs say
    training: Params = field(default_factory=dict)

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Candidate":
        """Return a trial's candidate as it was before training."""
        attributes = trial.user_attrs
        known = Measurement.from_json(attributes[MEASUREMENT])
        custom = {name: entry for name, entry in known.custom.items() if entry["phase"] != "trained"}
        return cls(
            Proposal({}, trial.params, trial.distributions),
            json.loads(attributes[ARCH]),
            replace(known, accuracy=None, custom=custom),
            attributes[SEED],
            attributes.get(PUBLISHED, ""),
            attributes[RUNG],
            attributes.get(CONTINUES),
            attributes.get(STRAIGHT),
            json.loads(attributes.get(TRAINING, "{}")),
        )

    def attributes(self, figures: Mapping[str, float | None]) -> dict[str, Any]:
        built = environment()
        attributes: dict[str, Any] = {
            ARCH: json.dumps(self.settings),
            SEED: self.seed,
            RUNG: self.rung,
            CODE: f"{built.nasseg} {built.commit or ''}".strip(),
            **{name: value for name, value in figures.items() if value is not None},
        }
        if self.training:
            attributes[TRAINING] = json.dumps(self.training)
        if self.label:
            attributes[PUBLISHED] = self.label
        if self.continues is not None:
            attributes[CONTINUES] = self.continues
        if self.straight is not None:
            attributes[STRAIGHT] = self.straight
        if self.measurement is not None:
            attributes |= {ARCH_ID: self.measurement.arch_id, **kept(self.measurement)}
        return attributes
