"""The certainty of the front: latencies over replicates, mIoU over seeds, and which networks stay on the front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasseg import words
from nasseg.analyse.trials import (
    front_probabilities,
    noise_known,
    seed_spread,
    seeds_apart,
    seeds_frame,
    standard_errors,
)
from nasseg.records import StudyRecord, TrialRow


@dataclass(frozen=True)
class Certainty:
    """The noise of a study's figures, and each trial's chance of staying on the front.

    chances: of each trial to be on the front if all are measured again; None if every figure is exact, or if an
    objective's noise is not known (`known`). seeds: rows of `seeds_frame`, by trial. apart: points by which seeds of
    one network differ.
    """

    chances: Sequence[float] | None
    seeds: dict[int, Any]
    networks: int  # with several seeds
    spread: float | None  # of mIoU over seeds
    apart: float | None
    known: bool


def certainty_of(record: StudyRecord) -> Certainty:
    varies = bool((standard_errors(record) > 0).any())
    found = front_probabilities(record) if varies else None
    frame = seeds_frame(record)
    rows: list[Any] = list(frame.itertuples())
    seeds = {number: row for row in rows for number in row.numbers}
    chances = None if found is None else found.tolist()
    return Certainty(chances, seeds, len(frame), seed_spread(record), seeds_apart(record), noise_known(record))


def group(certainty: Certainty, trial: TrialRow, row: int) -> dict[str, Any] | None:
    """Return the panel's lines on a finished trial's certainty; None if there are none."""
    figures = []
    if certainty.chances is not None and certainty.chances[row] > 0:
        figures.append(["stays on the front", words.percent(certainty.chances[row])])
    m = trial.measurement
    if m and m.latency and m.latency.iqr_ms is not None:
        half = m.latency.iqr_ms / 2
        ends = f"{words.number(m.latency.p50_ms - half)} to {words.number(m.latency.p50_ms + half, 'ms')}"
        figures.append(["latency, middle half of its runs", ends])
    same = certainty.seeds.get(trial.number)
    if same is not None:
        ends = f"{words.number(same.low)} to {words.number(same.high, '%')}"
        others = ", ".join(f"#{number}" for number in same.numbers if number != trial.number)
        figures.append([f"mIoU over {same.seeds} seeds (also {others})", ends])
    return {"title": "Certainty", "protocol": "", "environment": "", "figures": figures} if figures else None


def note(certainty: Certainty, record: StudyRecord) -> str:
    """Describe how certain the front is; empty if every figure is exact."""
    if not certainty.known:
        return (
            "The front's certainty is not known: no network has a second seed, so the spread of trained "
            "figures is unknown. `nasseg finish` trains the front with several seeds."
        )
    if certainty.chances is None:
        return ""
    parts = [
        "Stays on the front: the share of 400 simulated repeats of all measurements that have the network on the front."
    ]
    names = [objective.name for objective in record.objectives]
    if any(name.startswith("latency") for name in names):
        parts.append("Latency varies as in its own runs; another day may differ more.")
    if "miou" in names:
        spread, n = words.number(certainty.spread, "points"), certainty.networks
        over = f"the {n} networks that have several" if n != 1 else "the one network that has several"
        parts.append(f"mIoU varies with a standard deviation of {spread}, as over the seeds of {over}.")
    return " ".join(parts)
