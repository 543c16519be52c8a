"""Time networks in turns, so that changes of the machine affect all alike."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, median_low

import torch

from nasseg.errors import UserError
from nasseg.measure.latency.attempts import Pair, attempt, builder
from nasseg.measure.latency.backends import Buildable, check_protocol, example, numerics, prepare
from nasseg.measure.latency.target import measure_on_target
from nasseg.records import Latency, LatencyProtocol

Exclusive = Callable[[], AbstractContextManager[None]]
PARTS = ("encoder", "context", "decoder", "head")


@dataclass(frozen=True)
class Row:
    """One network's rounds. ratios: of its p50 to the base's in the same round."""

    label: str
    rounds: tuple[Latency, ...]
    ratios: tuple[float, ...]

    @property
    def p50_ms(self) -> float:
        return median(one.p50_ms for one in self.rounds)

    @property
    def middle(self) -> Latency:
        """The round with the median p50, among the undisturbed ones if there are any."""
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
) -> list[Row]:
    """Time each network once a round, A B A B, for `repeat` rounds, with ratios to `base`, round by round.

    reference_ms: the reference network's time in the study, if the protocol times one in turns.

    Raises:
        UserError: the protocol cannot be followed here.
    """
    check_protocol(protocol)
    found: dict[str, list[Latency]] = {label: [] for label in archs}
    builds: dict[str, Callable[[], Pair]] = {label: builder(arch, protocol) for label, arch in archs.items()}
    with numerics(protocol):
        for _ in range(repeat):
            for label, arch in archs.items():
                if protocol.backend == "command":
                    found[label].append(measure_on_target(arch, protocol, exclusive))
                    continue
                with exclusive():
                    found[label].append(attempt(builds[label], protocol, reference_ms).latency(protocol))
    return [
        Row(
            label,
            tuple(rounds),
            tuple(one.p50_ms / other.p50_ms for one, other in zip(rounds, found[base], strict=True)),
        )
        for label, rounds in found.items()
    ]


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
