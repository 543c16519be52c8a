"""What a study's file says of a measurement: which limit it breaks, how far each is kept, which figures it shows."""

import math
from dataclasses import dataclass

from nasseg.figures import FIGURES, Figure, Stage
from nasseg.records import Measurement
from nasseg.study.study_file import Study

STANDARD = {name: FIGURES[name] for name in ("params", "macs", "latency_ms", "miou")}  # flat in every trial


@dataclass(frozen=True)
class Rules:
    """The limits and figures of a study."""

    study: Study

    def over_limit(self, measurement: Measurement, stage: Stage) -> str | None:
        """The first limit on a figure of this stage that is broken, as a sentence."""
        for name, limit in self.study.limits.items():
            figure = self.study.figures[name]
            value = figure.of(measurement) if figure.stage == stage else None
            if value is None:
                continue
            if value > limit.get("max", math.inf):
                return f"{name} is over the limit of {limit['max']:.6g}"
            if value < limit.get("min", -math.inf) or math.isnan(value):
                return f"{name} is under the limit of {limit.get('min', -math.inf):.6g}"
        return None

    def constraints(self, measurement: Measurement) -> dict[str, float]:
        """How far each limit is kept (at most 0) or broken, relative to the limit, for the sampler."""
        constraints: dict[str, float] = {}
        for name, limit in self.study.limits.items():
            value = self.study.figures[name].of(measurement)
            if value is not None:
                constraints |= {
                    f"{name} {side}": (value - bound if side == "max" else bound - value) / (abs(bound) or 1.0)
                    for side, bound in limit.items()
                }
        return constraints

    def objectives(self, measurement: Measurement) -> tuple[list[float], str]:
        """The objectives' values, NaN where there is none, and the first that is not a finite number, if one is not."""
        found = [figure.of(measurement) for figure in self.study.objectives]
        values = [math.nan if value is None else float(value) for value in found]
        wrong = (f.name for f, v in zip(self.study.objectives, values, strict=True) if not math.isfinite(v))
        return values, next(wrong, "")

    def figures(self, measurement: Measurement) -> dict[str, float]:
        """The figures that a trial shows flat: what people sort and filter by, where it is known."""
        wanted: dict[str, Figure] = {**STANDARD, **self.study.figures}
        found = {name: figure.of(measurement) for name, figure in wanted.items()}
        return {name: value for name, value in found.items() if value is not None}
