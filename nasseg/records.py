"""What is measured and how: plain frozen data, kept in the study and read by the reports.

A `Measurement` has three parts, each with the protocol it was taken under and the environment it was taken in, so
that each can be reused, or taken again, apart from the others. `None` means not measured.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

Size = tuple[int, int]  # height, width


def digest(value: object, length: int = 16) -> str:
    """A short content hash of plain data (JSON with sorted keys)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where a number comes from: software versions, processor and, if used, accelerator."""

    nasseg: str
    commit: str | None
    python: str
    torch: str
    system: str
    cpu: str
    cores: int
    gpu: str | None = None


@dataclass(frozen=True, kw_only=True)
class CostProtocol:
    """How cost is counted: multiply-adds of the inference form (auxiliary heads off, BN unfolded), batch 1."""

    input_size: Size
    num_classes: int
    form: str = "inference"
    rule: str = "conv and linear multiply-adds, one multiply-add = 1"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Cost at one output stride."""

    stride: int
    operators: int
    params: int
    macs: int
    activations: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Figures that need no run of the model. field_of_view in pixels of the input, by Eqs 1-2 of RegSeg."""

    protocol: CostProtocol
    environment: Environment
    params: int
    macs: int
    fvcore_flops: int
    activations: int
    field_of_view: int
    stages: tuple[Stage, ...] = ()
    uncounted: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LatencyProtocol:
    """How latency is timed. The form is the trained model in eval mode, BN unfolded, final upsampling inside."""

    device: str
    input_size: Size
    num_classes: int
    precision: str = "fp32"
    backend: str = "eager"
    memory_format: str = "channels_last"
    batch: int = 1
    threads: int = 1
    warmup: int = 5
    min_replicates: int = 20
    min_seconds: float = 0.5
    form: str = "inference"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds a batch: percentiles over n replicates. `disturbed`: other load was seen and a repeat did not help."""

    protocol: LatencyProtocol
    environment: Environment
    p50_ms: float
    p90_ms: float
    p99_ms: float
    iqr_ms: float
    n: int
    disturbed: bool = False


@dataclass(frozen=True, kw_only=True)
class AccuracyProtocol:
    """What decides a trained figure besides the architecture: data, recipe, fidelity (steps), seed and split."""

    data: str
    data_fingerprint: str
    recipe: str
    recipe_hash: str
    steps: int
    seed: int
    split: str = "val"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """From one confusion matrix over the split, in percent. class_iou: None where a class does not occur."""

    protocol: AccuracyProtocol
    environment: Environment
    miou: float
    pixel_accuracy: float
    class_iou: dict[str, float | None]
    train_seconds: float
    curve: tuple[tuple[int, float], ...] = ()  # (step, training loss)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Everything known of one architecture under one set of protocols.

    `custom` holds figures of users' own functions as name -> {value, unit, stage, source}.
    """

    arch_id: str
    cost: Cost | None = None
    latency: Latency | None = None
    accuracy: Accuracy | None = None
    custom: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Measurement":
        from pydantic import TypeAdapter  # slow to import, and only readers of stored figures need it

        return TypeAdapter(cls).validate_json(text)


def eval_key(arch_id: str, protocol: AccuracyProtocol) -> str:
    """The identity of a trained figure: two trials that share it would train the same thing twice."""
    return digest([arch_id, asdict(protocol)])
