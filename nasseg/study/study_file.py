"""Study files: the question, the figures and their protocols, and the settings of the search."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nasseg.errors import UserError, unknown
from nasseg.figures import FIGURES, Figure, Phase, find_figure, load_function
from nasseg.files import Document, KeyPath, checked_name, find_file, read_yaml
from nasseg.measure.latency.presets import latency_preset
from nasseg.records import BY_ITSELF, IN_TURNS, LatencyProtocol
from nasseg.space import Space, load_space
from nasseg.space.load import check_limit
from nasseg.study.data_file import DataFile
from nasseg.study.recipe_parameters import check_recipes
from nasseg.train.recipe import Recipe

_STRICT = ConfigDict(extra="forbid", frozen=True)
MAX_FIGURES = 100


class FigureFile(BaseModel):
    """A figure of the user's own.

    function: `FILE.py:NAME`, called with the model and what was measured. unit: for tables and pages. direction:
    minimize or maximize. phase: when it is called: `cost` before anything is measured, `latency` after the timing,
    `trained`.
    """

    model_config = _STRICT

    function: str
    unit: str = ""
    direction: Literal["minimize", "maximize"]
    phase: Phase


class LatencyFile(BaseModel):
    """The latency protocol, without what the data decide (input size, classes).

    `protocol: regseg` takes a paper's settings; other keys override them. device: cpu, cuda or cuda:N. precision: of
    weights and arithmetic. tf32: whether fp32 may be rounded to TensorFloat-32. backend: what runs the network.
    command: of the backend `command`, with `{onnx}` for the file. memory_format: of maps. cudnn_benchmark: whether
    cuDNN tries its algorithms first. fold_bn: whether BatchNorm is folded into convolutions. upsampling: whether the
    last one is timed. batch: images at once. threads: of the CPU. warmup: runs before the timing. min_replicates: least
    number of runs. min_seconds: least seconds of timing.
    """

    model_config = _STRICT

    device: str = "cpu"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    tf32: bool = False
    backend: Literal["eager", "cuda-graph", "onnxruntime", "tensorrt", "compile", "command"] = "eager"
    command: str = ""
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    cudnn_benchmark: bool = True
    fold_bn: bool = False
    upsampling: Literal["inside", "outside"] = "inside"
    batch: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    warmup: int = Field(5, ge=0)
    min_replicates: int = Field(20, ge=1)
    min_seconds: float = Field(0.5, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _of_a_paper(cls, value: Any) -> Any:
        """Replace `{protocol: regseg, ...}` by a paper's settings; other keys override them."""
        if not isinstance(value, dict) or "protocol" not in value:
            return value
        given = {name: setting for name, setting in value.items() if name != "protocol"}
        settings = latency_preset(str(value["protocol"])).settings
        return {**{name: s for name, s in settings.items() if name in cls.model_fields}, **given}

    def protocol(self, input_size: tuple[int, int], num_classes: int) -> LatencyProtocol:
        rule = BY_ITSELF if self.backend == "command" else IN_TURNS  # a target runs one file
        return LatencyProtocol(input_size=input_size, num_classes=num_classes, rule=rule, **self.model_dump())


class HalvingFile(BaseModel):
    """Successive halving.

    rungs: the steps at which networks are stopped and compared; the recipe's last step is one more. unit: of the rungs.
    factor: one network in this many is promoted from each rung; 1 promotes all.
    straight: the share of compute for networks that are trained to the end whatever their rungs say.
    """

    model_config = _STRICT

    rungs: list[int] = Field(min_length=1)
    unit: Literal["steps", "epochs"] = "steps"
    factor: int = Field(3, ge=1)
    straight: float = Field(0.0, ge=0, lt=1)

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: list[int]) -> list[int]:
        if rungs[0] < 1 or any(a >= b for a, b in pairwise(rungs)):
            raise ValueError("rungs must ascend from 1 or more")
        return rungs

    def steps(self, recipe: Recipe, images: int) -> tuple[int, ...]:
        """Return the rungs in steps of a recipe on this many training images.

        Raises:
            UserError: one of them is not before the recipe's last step.
        """
        an_epoch = images / recipe.batch_size if self.unit == "epochs" else 1
        found = tuple(max(1, round(rung * an_epoch)) for rung in self.rungs)
        if found[-1] >= recipe.steps:
            raise UserError(
                f"halving: the last rung, step {found[-1]}, must be before the recipe's last step, "
                f"{recipe.steps}, which is always a rung"
            )
        return found


class ScreenFile(BaseModel):
    """Skipping candidates that are predicted to break a limit on latency.

    after: the number of measured networks it needs first.
    """

    model_config = _STRICT

    after: int = Field(30, ge=30)  # a predictor needs as many


class StudyFile(BaseModel):
    """The keys of a study. From `trials` on they are run settings, which may change during a study.

    question: what the study should answer. expected: the expected result, and how long it takes. space: a search space,
    by name or path. objectives: figures that form the front. figures: your own, by name. limits: on any figure, {min:
    x}, {max: y} or both; a network that breaks one before training is not trained. data: the data set. recipe: how
    networks are trained: settings, or a paper's name. latency: how networks are timed. halving: successive halving;
    null trains every network to the end. published: networks of the papers to train beside the search. sampler: tpe,
    random, nsga2, gp or ehvi, or one of Optuna's classes as `name` with its arguments. trials: finished networks in
    total. hours: of searching, after which no trial begins. max_trial_minutes: longer trainings are ended. workers:
    processes, one thread each. resources: of each job on a cluster; empty is one CPU. screen: skips networks predicted
    to be far over a limit on latency. keep: networks whose weights are kept; those at unfinished rungs are kept, too.
    price_per_hour: of all machines together; shows the cost. seed: of the sampler and the trainings.
    """

    model_config = _STRICT

    question: str
    expected: str
    space: str
    objectives: list[str] = Field(min_length=1)
    figures: dict[str, FigureFile] = {}
    limits: dict[str, dict[str, float]] = {}
    data: DataFile
    recipe: Recipe
    latency: LatencyFile = LatencyFile()
    halving: HalvingFile | None = None
    published: list[str] = []
    sampler: dict[str, Any] | str = "tpe"
    trials: int = Field(24, ge=1)
    hours: float | None = Field(None, gt=0)
    max_trial_minutes: float | None = Field(None, gt=0)
    workers: int = Field(1, ge=1)
    resources: dict[str, Annotated[float, Field(ge=0)]] = {}
    screen: ScreenFile | None = None
    keep: Literal["front", "all", "none"] = "front"
    price_per_hour: float | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Study:
    """A study file that has passed every check, with its space and figures."""

    name: str
    file: StudyFile
    space: Space
    objectives: tuple[Figure, ...]
    limits: dict[str, dict[str, float]]
    figures: dict[str, Figure]  # those named by objectives and limits
    folder: Path
    text: str


def load_study(name: str | Path) -> Study:
    """Load a study by name (./studies first, then those shipped) or path.

    Raises:
        UserError: no such study, or the file breaks a rule (file and line are named).
    """
    path = find_file("studies", name)
    study_name = str(name) if Path(name).suffix not in (".yaml", ".yml") else path.stem
    return study_from(read_yaml(path), checked_name(study_name))


def study_from(document: Document, name: str) -> Study:
    file = document.validate(StudyFile)
    folder = document.path.parent
    try:
        space = load_space(_beside(folder, file.space))
        check_recipes(space, file.recipe)
    except UserError as error:
        raise document.error(("space",), str(error)) from None
    limits = {**space.limits, **file.limits}
    for figure, limit in file.limits.items():
        check_limit(document, ("limits", figure), limit)
    if len(file.figures) > MAX_FIGURES:
        message = f"a study has at most {MAX_FIGURES} figures of its own, got {len(file.figures):,}"
        raise document.error(("figures",), message)
    own = {label: _own_figure(document, label, entry) for label, entry in file.figures.items()}
    figures: dict[str, Figure] = {}
    places: list[tuple[KeyPath, str]] = [(("objectives", i), label) for i, label in enumerate(file.objectives)]
    places += [(("limits", label), label) for label in limits]
    for where, label in places:
        try:
            figures[label] = own.get(label) or find_figure(label)
        except UserError as error:
            raise document.error(where, str(error)) from None
    if len(set(file.objectives)) < len(file.objectives):
        raise document.error(("objectives",), f"an objective occurs twice in {file.objectives}")
    objectives = tuple(figures[label] for label in file.objectives)
    if file.halving and not any(figure.phase == "trained" for figure in objectives):
        raise document.error(("halving",), "halving needs an objective that training decides, such as miou")
    return Study(name, file, space, objectives, limits, figures, folder, document.text)


def _beside(folder: Path, name: str) -> str:
    """Return the path of a space, looked for beside the study first."""
    return str(folder / name) if Path(name).suffix and (folder / name).is_file() else name


def _own_figure(document: Document, label: str, entry: FigureFile) -> Figure:
    where = ("figures", label)
    if label in FIGURES or label.startswith("iou."):
        raise document.error(where, f"{label} is one of nasseg's own figures; choose another name")
    try:
        load_function(entry.function, document.path.parent)
    except UserError as error:
        raise document.error(where, str(error)) from None
    return Figure(label, entry.unit, entry.direction, entry.phase, entry.function)


def sampler_name(setting: dict[str, Any] | str) -> tuple[str, dict[str, Any]]:
    """Return the name and options of `sampler: tpe` or `sampler: {name: NSGAIISampler, population_size: 20}`."""
    if isinstance(setting, str):
        return setting, {}
    options = dict(setting)
    if "name" not in options:
        raise unknown("sampler without a name; keys", ", ".join(options), ["name"])
    return str(options.pop("name")), options
