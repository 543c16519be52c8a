"""Time networks in turns, so that changes of the machine affect all alike."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median, median_low

import numpy as np
import torch

from nasseg.errors import UserError
from nasseg.measure.latency.attempts import MAX_ERROR, Attempt, Pair, attempt, builder, error_of, latency_of
from nasseg.measure.latency.backends import Buildable, check_protocol, example, numerics, prepare
from nasseg.measure.latency.target import measure_on_target
from nasseg.records import IN_TURNS, Latency, LatencyProtocol

Exclusive = Callable[[], AbstractContextManager[None]]
PARTS = ("encoder", "context", "decoder", "head")
MOST_ROUNDS = 4  # times the rounds asked for


@dataclass(frozen=True)
class Row:
    """A network's rounds. ratios: of its p50 to the base's in the same round. pooled: from the replicates together."""

    label: str
    rounds: tuple[Latency, ...]
    ratios: tuple[float, ...]
    pooled: Latency | None = None

    @property
    def p50_ms(self) -> float:
        return median(one.p50_ms for one in self.rounds)

    @property
    def latency(self) -> Latency:
        """The latency over all rounds, or over the undisturbed ones if there are any: pooled, or the median round's."""
        if self.pooled is not None:
            return self.pooled
        quiet = [one for one in self.rounds if not one.disturbed] or list(self.rounds)
        p50_ms = median_low(one.p50_ms for one in quiet)
        return next(one for one in quiet if one.p50_ms == p50_ms)

    @property
    def range_ms(self) -> tuple[float, float]:
        """The smallest and largest p50 of a round."""
        return min(one.p50_ms for one in self.rounds), max(one.p50_ms for one in self.rounds)

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def disturbed(self) -> int:
        return sum(one.disturbed for one in self.rounds)


def compare_latency(
    archs: Mapping[str, Buildable],
    protocol: LatencyProtocol,
    *,
    base: str,
    repeat: int,
    exclusive: Exclusive = nullcontext,
    reference_ms: float | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> list[Row]:
    """Time each network once a round, A B A B, for `repeat` rounds, with ratios to `base`, round by round.

    With a reference network there are more rounds, at most MOST_ROUNDS times as many, until the median of each network
    is known to MAX_ERROR; `tell` is called with a line on them. reference_ms: the reference network's time in the
    study, if the protocol times one in turns; default: its median in this session.

    Raises:
        UserError: the protocol cannot be followed here.
    """
    check_protocol(protocol)
    found: dict[str, list[Latency]] = {label: [] for label in archs}
    attempts: dict[str, list[Attempt]] = {label: [] for label in archs}
    builds: dict[str, Callable[[], Pair]] = {label: builder(arch, protocol) for label, arch in archs.items()}
    with numerics(protocol):
        for number in range(MOST_ROUNDS * repeat):
            error = max(map(error_of, attempts.values())) if number >= repeat else math.inf
            if error <= MAX_ERROR:
                break
            if number == repeat:
                most = MOST_ROUNDS * repeat
                tell(
                    f"more rounds, up to {most}, because only one counts so far"
                    if math.isinf(error)
                    else f"the rounds differ: more of them, up to {most}, because medians are known to {error:.1%}"
                )
            for label, arch in archs.items():
                if protocol.backend == "command":
                    found[label].append(measure_on_target(arch, protocol, exclusive))
                    continue
                with exclusive():
                    attempts[label].append(attempt(builds[label], protocol, reference_ms))
    if protocol.rule == IN_TURNS and reference_ms is None:
        attempts = _on_one_scale(attempts)
    for label, tried in attempts.items():
        found[label] += [one.latency(protocol) for one in tried]
    return [
        Row(
            label,
            tuple(rounds),
            tuple(one.p50_ms / other.p50_ms for one, other in zip(rounds, found[base], strict=True)),
            latency_of(attempts[label], protocol) if protocol.rule == IN_TURNS else None,
        )
        for label, rounds in found.items()
    ]


def _on_one_scale(attempts: Mapping[str, list[Attempt]]) -> dict[str, list[Attempt]]:
    """Return attempts with the reference network's median over all of them as its time."""
    beside = [one.reference_seconds for tried in attempts.values() for one in tried]
    reference_ms = 1e3 * float(np.median(np.concatenate([seconds for seconds in beside if seconds is not None])))
    return {label: [replace(one, reference_ms=reference_ms) for one in tried] for label, tried in attempts.items()}


def latency_by_part(
    arch: Buildable, protocol: LatencyProtocol, exclusive: Exclusive = nullcontext, *, rounds: int = 20
) -> dict[str, float]:
    """Return the milliseconds of encoder, context, decoder, head and the final upsampling: medians of eager runs.

    It waits for each part.

    Raises:
        UserError: the protocol's backend has no visible parts.
    """
    if protocol.backend != "eager":
        raise UserError(f"latency by part needs backend eager, got {protocol.backend}")
    cuda = protocol.device.startswith("cuda")
    stamps: list[float] = []

    def stamp(*_: object) -> None:
        if cuda:
            torch.cuda.synchronize(protocol.device)
        stamps.append(time.perf_counter())

    with numerics(protocol), exclusive(), torch.inference_mode():
        model = prepare(arch, protocol)
        image = example(protocol)
        named = [(name, part) for name in PARTS if (part := getattr(model, name, None)) is not None]
        for _, part in named:
            part.register_forward_hook(stamp)
        times: list[list[float]] = []
        for index in range(rounds + protocol.warmup):
            stamps.clear()
            stamp()
            model(image)
            stamp()
            if index >= protocol.warmup:
                times.append([(after - before) * 1e3 for before, after in pairwise(stamps)])
    names = [name for name, _ in named] + ["upsampling"]
    return {name: median(column) for name, column in zip(names, zip(*times, strict=True), strict=True)}
