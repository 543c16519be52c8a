"""Measurements and how they were made: plain frozen data, kept in the study and read by the reports.

A `Measurement` has three parts, each with its protocol and its environment, so that each can be reused, or taken again,
separately. `None` means not measured.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Size = tuple[int, int]  # height, width
NOT_IN_REDUCED = frozenset({"truck", "bus", "train"})


def digest(value: object, length: int = 16) -> str:
    """Return a short content hash of plain data (JSON with sorted keys)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A GPU beyond its name. mig: it is a GPU in MIG mode, or an instance of one. None: not known."""

    uuid: str
    cudnn: str | None
    driver: str | None
    power_limit_watts: float | None
    mig: bool | None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The place of a measurement: software versions, processor and, if there is one, GPU."""

    nasseg: str
    commit: str | None
    python: str
    torch: str
    system: str
    cpu: str
    cores: int
    gpu: str | None = None
    accelerator: Accelerator | None = None

    def device(self, name: str) -> str:
        """Return in words what computes on a device: a GPU with its driver, because drivers differ in speed."""
        if self.gpu is None or not name.startswith("cuda"):
            return self.cpu
        driver = self.accelerator.driver if self.accelerator else None
        return f"{self.gpu}, driver {driver}" if driver else self.gpu

    def place(self, device: str) -> tuple[str, str | None, str]:
        """Return what must be equal for times to be comparable: the processor, the GPU, what computes."""
        return self.cpu, self.gpu, self.device(device)


@dataclass(frozen=True, kw_only=True)
class CostProtocol:
    """The way cost is counted: multiply-adds of the inference form (auxiliary heads off, BN unfolded), batch 1."""

    input_size: Size
    num_classes: int
    form: str = "inference"
    rule: str = "conv and linear multiply-adds, one multiply-add = 1"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Cost at one output stride. width: channels of the widest map that a convolution gives; 0: unknown."""

    stride: int
    operators: int
    params: int
    macs: int
    activations: int
    width: int = 0


@dataclass(frozen=True, kw_only=True)
class Block:
    """Operators at one output stride, one after the other. inputs: the earlier blocks it reads (-1: the image).

    Two blocks at one stride are two branches. width: as of a Stage.
    """

    stride: int
    width: int
    params: int
    macs: int
    inputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Figures that are known without running the model.

    activations: output elements of convolutions and linear layers. field_of_view: in pixels of the input, by Eqs 1-2 of
    RegSeg. uncounted: operators by kind that count 0 in fvcore_flops. unknown: operators by kind that may need more
    multiply-adds than macs counts: they have several operands and no rule.
    peak_activation_bytes, eager_memory_bytes: of activations, fp32, batch 1: what the graph needs at once, and what
    eager torch holds at once (see nasseg.measure.cost). None if measured before the figure existed.
    """

    protocol: CostProtocol
    environment: Environment
    params: int
    macs: int
    fvcore_flops: int
    activations: int
    field_of_view: int
    peak_activation_bytes: int | None = None
    eager_memory_bytes: int | None = None
    stages: tuple[Stage, ...] = ()
    blocks: tuple[Block, ...] = ()
    uncounted: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)


BY_ITSELF = "runs one after another, by the wall clock"
IN_TURNS = (
    "in turns with reference network 1: ratio to it in the same round, on a CPU of one run each, times its time when "
    "the study began; of one eager thread on a CPU its CPU time, over four builds"
)


@dataclass(frozen=True, kw_only=True)
class LatencyProtocol:
    """The rules for timing latency, always of the trained model's inference form in eval mode.

    backend: eager, cuda-graph, onnxruntime, tensorrt, compile, or command: `command` run on a target. warmup: runs; on
    a GPU half a second at least. tf32, cudnn_benchmark: CUDA only. fold_bn: BatchNorm folded into the convolution
    before it. upsampling: whether resizing the logits to the input's size is timed.
    """

    device: str
    input_size: Size
    num_classes: int
    precision: str = "fp32"
    tf32: bool = False
    backend: str = "eager"
    command: str = ""
    memory_format: str = "channels_last"
    cudnn_benchmark: bool = True
    fold_bn: bool = False
    upsampling: str = "inside"
    batch: int = 1
    threads: int = 1
    warmup: int = 5
    min_replicates: int = 20
    min_seconds: float = 0.5
    form: str = "inference"
    rule: str = BY_ITSELF  # or IN_TURNS


ENERGY_RULE = "the whole board's, idle power too, by NVML's counter, over runs one after another"


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Millijoules per image, over this many images and seconds, run as the latency's protocol says."""

    mj: float
    seconds: float
    images: int
    rule: str = ENERGY_RULE


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds a batch: percentiles over n replicates. `disturbed`: other load was seen, also in repeats.

    p50_ms: the latency of fronts, limits and tables. lower_ms: the network takes no less, whatever ran beside it; None
    if not known. ratio: of the median to the reference network's time, if the rule has one. reference_ms: the time that
    the ratio is multiplied with. drift: the reference's time beside this network, over reference_ms. load: wall over
    CPU seconds, 1 on a quiet machine (one thread on a CPU; 1 elsewhere). clocks_mhz: of the device before and after, if
    it reports them; of a GPU after the warm-up and at the end. target: a command's description of its device and
    runtime. energy: None if not measured.
    """

    protocol: LatencyProtocol
    environment: Environment
    p50_ms: float
    p90_ms: float
    p99_ms: float
    iqr_ms: float | None  # None: not reported by a command
    n: int
    disturbed: bool = False
    lower_ms: float | None = None
    ratio: float | None = None
    reference_ms: float | None = None
    drift: float = 1.0
    load: float = 1.0
    clocks_mhz: tuple[float, float] | None = None
    target: dict[str, str] = field(default_factory=dict)
    parts_ms: dict[str, float] = field(default_factory=dict)  # encoder, context, ...: in eager mode, one after another
    energy: Energy | None = None

    @property
    def energy_mj(self) -> float | None:
        return self.energy.mj if self.energy else None

    @property
    def fps(self) -> float:
        """Images a second at the median."""
        return 1e3 * self.protocol.batch / self.p50_ms


@dataclass(frozen=True, kw_only=True)
class AccuracyProtocol:
    """Everything that decides a trained figure besides the architecture: data, recipe, steps, seed, split, weights.

    init: SHA-256 of the weights that training started from; empty if from scratch.
    """

    data: str
    data_fingerprint: str
    recipe: str
    recipe_hash: str
    steps: int
    seed: int
    split: str = "val"
    init: str = ""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracy from one confusion matrix over the split, in percent. class_iou: None for a class that does not occur.

    unpredicted: labelled pixels with a NaN logit; they count as wrong.
    """

    protocol: AccuracyProtocol
    environment: Environment
    miou: float
    pixel_accuracy: float
    class_iou: dict[str, float | None]
    train_seconds: float
    curve: tuple[tuple[int, float], ...] = ()  # (step, training loss)
    unpredicted: int = 0

    @property
    def miou_reduced(self) -> float | None:
        """mIoU^R (RegSeg, Table 3): without the classes truck, bus and train, whose IoU varies most from run to run."""
        kept = [iou for name, iou in self.class_iou.items() if iou is not None and name not in NOT_IN_REDUCED]
        return sum(kept) / len(kept) if kept else None


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
        return _reader().validate_json(text)


@cache
def _reader() -> "TypeAdapter[Measurement]":
    from pydantic import TypeAdapter  # slow to import; only readers of stored figures need it

    return TypeAdapter(Measurement)


def eval_key(arch_id: str, protocol: AccuracyProtocol) -> str:
    """Return the identity of a trained figure: two trials with the same key would train the same network twice.

    The recipe counts by its hash, not its name.
    """
    return digest([arch_id, asdict(replace(protocol, recipe=""))])


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A figure that a study minimises or maximises."""

    name: str
    unit: str
    direction: Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True)
class PublishedPoint:
    """A published network beside a study's own.

    `figures` holds only comparable ones: same data, input size and rule. disturbed: its latency was timed beside other
    work.
    """

    name: str
    citation: str
    family: str
    params: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    disturbed: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One ended trial. `arch`: family and fields as plain data; `params`: the sampler's choices.

    `training`: the sampled parameters of the recipe, which are not part of the network.
    `reason`: why it was pruned or failed. Equal causes have equal words, because reasons are counted.
    `reused_from`: the trial whose figures were copied; such a trial is neither counted nor drawn.
    """

    number: int
    state: Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]
    arch: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)  # by objective
    reason: str | None = None
    rung: int = 0
    reused_from: int | None = None
    measurement: Measurement | None = None
    started: str | None = None  # ISO 8601
    finished: str | None = None
    seed: int | None = None
    training: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Family, fields, and the training part: all that distinguishes it from other trials of its study."""
        return {**(self.arch or {}), **self.training}

    @property
    def trained_network(self) -> tuple[str, str]:
        """Key of a network under one training: its id, and the training part as text."""
        assert self.measurement is not None
        return self.measurement.arch_id, json.dumps(self.training, sort_keys=True)

    @property
    def accuracy(self) -> Accuracy | None:
        return self.measurement.accuracy if self.measurement else None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A validation image (`number`), its labels and a network's prediction, as the content of small WebP files.

    classes: name and colour (`#rrggbb`) of what the labels or the prediction show.
    """

    number: int
    image: bytes = field(repr=False)
    labels: bytes = field(repr=False)
    prediction: bytes = field(repr=False)
    classes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A whole study as plain data: all that an analysis or a report reads.

    `limits`: figure -> {"min": ..., "max": ...}. `identity`: space, protocols, data fingerprint. `command`: resumes the
    study. `study_file`: its text. `examples`: predictions by trial, if they were kept and read.
    """

    name: str
    question: str
    objectives: tuple[Objective, ...]
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: tuple[TrialRow, ...] = ()
    published: tuple[PublishedPoint, ...] = ()
    identity: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    created: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    study_file: str = ""
    examples: dict[int, tuple[Example, ...]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def own_code(self) -> dict[str, str]:
        """The hash of each user's own file that the study was searched with, by its source."""
        return dict(self.identity.get("own code", {}))
