"""Train one architecture under one recipe, for `nasseg train`.

A run is a folder. While it trains, it holds `checkpoint.pt`, from which it resumes to the same weights. When it is
done, it holds `last.pt`, `best.pt` (the weights with the highest mIoU on the validation split), `result.json`,
`curve.svg` and `predictions.png`. A finished run is not trained again.
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from nasseg.data.dataset import DataSet
from nasseg.data.split import Split
from nasseg.errors import UserError
from nasseg.families import Arch
from nasseg.files import written_whole
from nasseg.measure.cost import measure_cost
from nasseg.own_code import only
from nasseg.records import Accuracy, AccuracyProtocol, Measurement
from nasseg.train.checkpoint import Checkpoints, on_cpu
from nasseg.train.loop import Guard, evaluate, scores_of
from nasseg.train.pictures import curve_svg, predictions_picture, write_picture
from nasseg.train.recipe import Recipe
from nasseg.train.session import TrainedNetwork, failures, train_network
from nasseg.train.weights import save_state, weights_hash
from nasseg.words import differences, duration

EVALUATIONS = 10  # on the validation split, evenly over the steps
CHECKPOINT_MINUTES = 5.0
DRAWN = 4  # images in the picture of predictions
TELL_SECONDS = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class HeldOut:
    """A split used neither for training nor for choosing weights, and the fingerprint of its data."""

    split: Split
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings of a run.

    label: the recipe's name in the protocol. family: FILE.py:CLASS for a user's own. code: the user's own code that may
    run, as hash by source. evaluations: on the validation split, evenly over the steps.
    """

    arch: Arch
    data: DataSet
    recipe: Recipe
    seed: int
    folder: Path
    label: str = ""
    family: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    held_out: HeldOut | None = None
    device: str = "cpu"
    evaluations: int = EVALUATIONS
    checkpoint_minutes: float = CHECKPOINT_MINUTES

    @cached_property
    def protocol(self) -> AccuracyProtocol:
        return AccuracyProtocol(
            data=self.data.name,
            data_fingerprint=self.data.fingerprint,
            recipe=self.label or self.recipe.name,
            recipe_hash=self.recipe.hash,
            steps=self.recipe.steps,
            seed=self.seed,
            init=weights_hash(self.recipe.init) if self.recipe.init else "",
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the weights, as plain data."""
        return {
            "network": self.arch.id,
            "recipe": self.recipe.hash,
            "data": self.data.fingerprint,
            "seed": self.seed,
            "starting weights": self.protocol.init,
            **({"own code": dict(self.code)} if self.code else {}),
        }

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def settings(self) -> dict[str, Any]:
        return {"family": self.family or self.arch.family, **self.arch.params()}


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run, as plain data.

    measurement: cost, and the accuracy of last.pt on the validation split, so that it is comparable with a search's
    trials. best, held_out: accuracy of best.pt on the validation split, which chose it, and on a held-out one; the
    protocol's `steps` is the step of its weights. evaluated: (step, mIoU). weights: SHA-256 by file.
    """

    arch: dict[str, Any]
    recipe: dict[str, Any]
    citation: str
    deviations: tuple[str, ...]
    identity: dict[str, Any]
    measurement: Measurement
    best: Accuracy
    held_out: Accuracy | None
    evaluated: tuple[tuple[int, float], ...]
    weights: dict[str, str]
    init: list[str] = field(default_factory=list)  # which starting weights were loaded
    trained_on: tuple[str, ...] = ()  # splits of the data's layout, if several were joined

    @property
    def last(self) -> Accuracy:
        assert self.measurement.accuracy is not None
        return self.measurement.accuracy

    @property
    def seed(self) -> int:
        return self.last.protocol.seed


@dataclass(frozen=True)
class RunProgress:
    """The state of a run. miou: of the latest evaluation, in percent."""

    seed: int
    step: int
    steps: int
    loss: float
    miou: float | None
    seconds_left: float | None

    def line(self) -> str:
        score = "" if self.miou is None else f", mIoU {self.miou:.1f} %"
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"seed {self.seed}: step {self.step:,} of {self.steps:,}, loss {self.loss:.3f}{score}{left}"


def train_one(
    run: Run,
    *,
    guard: Guard = nullcontext,
    tell: Tell = lambda _line: None,
    on_progress: Callable[[RunProgress], None] = lambda _progress: None,
) -> RunResult:
    """Return the result of a run: train it, resuming from a checkpoint if there is one, or read it if it is done.

    Raises:
        Failed: training diverged, or does not fit into memory.
        UserError: the folder belongs to another run or is in use, the data or the starting weights cannot be used, or a
            file cannot be written; the last checkpoint is kept.
        KeyboardInterrupt: it was interrupted; if this was between two steps, there is a checkpoint.
    """
    try:
        with failures("; try `accumulation` in the recipe", run.device), only(run.code), alone(run.folder):
            stored = read_result(run)
            if stored is None:
                stored = _train(run, guard, tell, on_progress)
                run.checkpoint.unlink(missing_ok=True)
            return stored
    except OSError as error:
        where = f"{error.filename or run.folder}: {error.strerror or error}"
        raise UserError(
            f"{where}; the last checkpoint is kept: fix this and run the same command again to resume"
        ) from None


def _train(run: Run, guard: Guard, tell: Tell, on_progress: Callable[[RunProgress], None]) -> RunResult:
    watch = _Watch(run, tell, on_progress)
    every_seconds = 60 * run.checkpoint_minutes
    with guard():
        run.data.read()
    with torch.random.fork_rng(devices=[]):
        trained = train_network(
            run.arch,
            run.data,
            run.recipe,
            seed=run.seed,
            guard=guard,
            tell=tell,
            device=run.device,
            on_step=watch.step,
            evaluate_every=-(-run.recipe.steps // (1 if run.data.val_is_test else run.evaluations)),
            on_evaluated=watch.evaluated,
            checkpoints=Checkpoints(run.checkpoint, run.identity, every_seconds=every_seconds, on_damaged=tell),
            init_sha256=run.protocol.init,
        )
    return _keep(run, trained, guard)


def _keep(run: Run, trained: TrainedNetwork, guard: Guard) -> RunResult:
    """Write the run's files. The result comes last, because it marks the run as done."""
    model, best = trained.model, trained.result.best
    assert best is not None
    with guard():
        last = on_cpu(model.state_dict())
    weights = {"last.pt": save_state(last, run.folder / "last.pt")}
    with guard():
        model.load_state_dict(best.weights)
        chosen = on_cpu(model.state_dict())
        cost = measure_cost(run.arch, run.data.val.size, run.data.num_classes)
        drawn = predictions_picture(model, run.data, "val", DRAWN, run.device)
    weights["best.pt"] = save_state(chosen, run.folder / "best.pt")
    write_picture(drawn, run.folder / "predictions.png")
    title = f"{run.settings['family']}, {run.label or run.recipe.name or 'own recipe'}, seed {run.seed}"
    curve = curve_svg(title, trained.result.curve, trained.result.evaluated, run.recipe.steps)
    write_picture(curve, run.folder / "curve.svg")
    of_best = replace(run.protocol, steps=best.step)
    tested = None
    if run.held_out is not None:
        matrix = evaluate(
            model,
            run.held_out.split,
            run.data.num_classes,
            device=run.device,
            batch_size=run.recipe.eval_batch_size,
            guard=guard,
        )
        protocol = replace(of_best, split="test", data_fingerprint=run.held_out.fingerprint)
        tested = trained.accuracy(protocol, scores_of(matrix, run.data.classes))
    result = RunResult(
        arch=run.settings,
        recipe=run.recipe.model_dump(mode="json"),
        citation=run.recipe.citation,
        deviations=run.recipe.deviations_on(run.data.train.size, run.arch.input_scale),
        identity=run.identity,
        measurement=Measurement(arch_id=run.arch.id, cost=cost, accuracy=trained.accuracy(run.protocol)),
        best=trained.accuracy(of_best, best),
        held_out=tested,
        evaluated=trained.result.evaluated,
        weights=weights,
        init=trained.loaded,
        trained_on=run.data.trained_on,
    )
    with written_whole(run.folder / "result.json") as partial:
        partial.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return result


def read_result(run: Run) -> RunResult | None:
    """Return the result of a finished run; None if it is not finished.

    Raises:
        UserError: the folder holds another run, or the file is damaged.
    """
    result = stored_result(run.folder)
    if result is not None and result.identity != run.identity:
        different = differences(result.identity, run.identity)
        raise UserError(f"{run.folder / 'result.json'} belongs to another run ({different}); use another folder")
    return result


def stored_result(folder: Path) -> RunResult | None:
    """Return the result of the run in a folder; None if it is not finished.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        return _reader().validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({error.errors()[0]['msg']}); remove it to train again") from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder for this process. The system releases it if the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is working in {folder}; wait for it, or end it") from None
        yield


@cache
def _reader() -> TypeAdapter[RunResult]:
    return TypeAdapter(RunResult)


class _Watch:
    """A listener to steps and evaluations that reports the run's progress now and then."""

    def __init__(self, run: Run, tell: Tell, on_progress: Callable[[RunProgress], None]) -> None:
        self.run, self.tell, self.on_progress = run, tell, on_progress
        self.miou: float | None = None
        self.begun, self.first, self.told = time.monotonic(), 0, 0.0

    def step(self, step: int, loss: float) -> None:
        now, steps = time.monotonic(), self.run.recipe.steps
        if not self.first:
            self.first, self.begun = step, now
            if step > 1:
                self.tell(f"seed {self.run.seed}: resuming from step {step - 1:,} of {steps:,}")
        if now - self.told >= TELL_SECONDS or step == steps:
            self.told, done = now, step - self.first
            left = (now - self.begun) / done * (steps - step) if done else None
            self.on_progress(RunProgress(self.run.seed, step, steps, loss, self.miou, left))

    def evaluated(self, _step: int, miou: float) -> None:
        self.miou = miou
