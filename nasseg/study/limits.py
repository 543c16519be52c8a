"""A study's limits and figures: broken limits, margins for the sampler, and figures shown with a trial."""

import math
from dataclasses import dataclass

from nasseg.figures import FIGURES, USUAL, Figure, Phase, least_of, value_of
from nasseg.limits import Limits, breaches
from nasseg.records import Measurement
from nasseg.study.study_file import Study


def over_limit(limits: Limits, measurement: Measurement) -> str | None:
    """Return the first limit that a measurement breaks, as a sentence; None if it keeps all limits on known figures.

    A figure that is not a number breaks its limit. A latency timed beside other work breaks one only if its lowest
    possible value does.
    """
    known = {name: value_of(name, measurement) for name in limits}
    return next((str(breach) for breach in breaches(limits, known, least_of(measurement))), None)


def in_doubt(limits: Limits, measurement: Measurement) -> bool:
    """Return whether a latency that was timed beside other work breaks a limit."""
    doubtful = least_of(measurement)
    if not doubtful:
        return False
    own = {name for name, entry in measurement.custom.items() if entry["phase"] == "latency"}
    chosen = {name: limit for name, limit in limits.items() if name in doubtful or name in own}
    return over_limit(chosen, measurement) is not None


@dataclass(frozen=True)
class Rules:
    """The limits and figures of a study."""

    study: Study

    def over_limit(self, measurement: Measurement, phase: Phase) -> str | None:
        """Return the first limit on a figure of this phase that is broken, as a sentence."""
        limits = {n: limit for n, limit in self.study.limits.items() if self.study.figures[n].phase == phase}
        return over_limit(limits, measurement)

    def in_doubt(self, measurement: Measurement) -> bool:
        """Return whether a doubtful figure breaks one of this study's limits; see the function `in_doubt`."""
        return in_doubt(self.study.limits, measurement)

    def constraints(self, measurement: Measurement) -> dict[str, float]:
        """Return how much each limit is broken, relative to the limit (at most 0: kept), for the sampler."""
        constraints: dict[str, float] = {}
        least = least_of(measurement)
        for name, limit in self.study.limits.items():
            known = self.study.figures[name].of(measurement)
            for side, bound in limit.items():
                value = known if side == "min" else least.get(name, known)
                if value is None:
                    continue
                breach = (value - bound if side == "max" else bound - value) / (abs(bound) or 1.0)
                constraints[f"{name} {side}"] = 1.0 if math.isnan(breach) else breach
        return constraints

    def objectives(self, measurement: Measurement) -> tuple[list[float], str]:
        """Return the objectives' values (NaN if missing), and the name of the first that is not finite."""
        found = [figure.of(measurement) for figure in self.study.objectives]
        values = [math.nan if value is None else float(value) for value in found]
        wrong = (f.name for f, v in zip(self.study.objectives, values, strict=True) if not math.isfinite(v))
        return values, next(wrong, "")

    def figures(self, measurement: Measurement) -> dict[str, float]:
        """Return the known figures that a trial shows as attributes to sort and filter by."""
        wanted: dict[str, Figure] = {**{name: FIGURES[name] for name in USUAL}, **self.study.figures}
        found = {name: figure.of(measurement) for name, figure in wanted.items()}
        return {name: value for name, value in found.items() if value is not None}
