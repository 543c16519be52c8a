"""The protocols of a study on its data. Its jobs share them, and they are fixed under the study's name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasseg.figures import Figure, find_figure, load_function
from nasseg.measure.latency.backends import check_protocol
from nasseg.measure.latency.gpu import check_energy
from nasseg.own_code import load_code
from nasseg.records import AccuracyProtocol, CostProtocol, LatencyProtocol, digest
from nasseg.study.data_file import DataFile
from nasseg.study.recipe_parameters import check_on_data
from nasseg.study.store.storage import runs_folder
from nasseg.study.store.trained import with_init_file
from nasseg.study.study_file import Study
from nasseg.train.losses import check_class_weights
from nasseg.train.recipe import Recipe
from nasseg.train.weights import weights_hash


@dataclass(frozen=True)
class Context:
    """The facts that all jobs of a study share. They are sent to each worker once."""

    data: DataFile
    recipe: Recipe
    latency: LatencyProtocol
    cost: CostProtocol
    accuracy: AccuracyProtocol
    figures: tuple[Figure, ...]  # the user's own
    folder: Path  # base of the paths of their sources
    weights: Path | str  # a path or an fsspec URL, with a folder for each eval_key
    device: str
    code: Mapping[str, str] = field(default_factory=dict)  # source -> hash: all user code that may run
    data_files: frozenset[int] = frozenset()  # a number for each file and its content, which changes with the file
    rungs: tuple[int, ...] = ()  # the steps at which networks are stopped and compared, without the recipe's last
    energy: bool = False  # whether the study has the figure energy_mj
    trained_on: tuple[str, ...] = ()  # splits of the data's layout, if several were joined

    def protocol_of(self, settings: Mapping[str, Any], seed: int) -> AccuracyProtocol:
        """Return the accuracy protocol of a training. settings: what the space sets in the recipe.

        Raises:
            UserError: a setting is refused.
        """
        protocol = replace(self.accuracy, seed=seed)
        return replace(protocol, recipe_hash=self.recipe.replaced(settings).hash) if settings else protocol


def make_context(study: Study, data: DataFile, elsewhere: bool = False, storage: str | None = None) -> Context:
    """Return the protocols of a study on its data. The input size is the camera's: that of the images.

    elsewhere: jobs run on nodes, which check their devices themselves. storage: of the study that starting weights may
    come from.

    Raises:
        UserError: starting weights, data or device are not available, a figure or the recipe's class weights name
            unknown classes, or a training in the space does not fit the data or the networks.
    """
    loaded = data.load()
    for name in study.figures:
        if name.startswith("iou."):
            find_figure(name, loaded.classes)
    check_class_weights(study.file.recipe, loaded)
    check_on_data(study.space, study.file.recipe, loaded)
    size, recipe = loaded.val.size, with_init_file(study.file.recipe, storage)
    latency = study.file.latency.protocol(size, loaded.num_classes)
    energy = "energy_mj" in study.figures
    if not elsewhere:
        check_protocol(latency)
        if energy:
            check_energy(latency)
    return Context(
        data=data,
        recipe=recipe,
        latency=latency,
        cost=CostProtocol(input_size=size, num_classes=loaded.num_classes),
        rungs=study.file.halving.steps(recipe, len(loaded.train)) if study.file.halving else (),
        accuracy=AccuracyProtocol(
            data=loaded.name,
            data_fingerprint=loaded.fingerprint,
            recipe=recipe.name or study.name,
            recipe_hash=recipe.hash,
            steps=recipe.steps,
            seed=0,
            init=weights_hash(recipe.init) if recipe.init else "",
        ),
        figures=tuple(figure for figure in study.figures.values() if figure.source),
        folder=study.folder.resolve(),
        code=code_of(study),
        data_files=loaded.file_marks(),
        trained_on=loaded.trained_on,
        weights=runs_folder(study.name).resolve(),
        device=study.file.latency.device,
        energy=energy,
    )


def identity(study: Study, context: Context) -> dict[str, Any]:
    """Return the settings that may not change under a study's name, unlike limit values, comments and run settings."""
    space = study.space
    parts = [space.parameters, space.templates, space.forbid, *([space.named] if space.named else [])]
    return {
        "space": f"{space.name} {digest([repr(part) for part in parts])}",
        "objectives": [[figure.name, figure.direction] for figure in study.objectives],
        "limits": sorted(study.limits),
        "cost protocol": _plain(context.cost),
        "latency protocol": _plain(context.latency),
        "accuracy protocol": _plain(replace(context.accuracy, recipe="", seed=0)),
        "recipe": study.file.recipe.compared(),
        "own code": dict(context.code),
        **({"rungs": list(context.rungs)} if context.rungs else {}),
    }


def code_of(study: Study) -> dict[str, str]:
    """Return the hash of each user's own file that a study names, by its source."""
    space = study.space
    code = {f.source: load_function(f.source, study.folder)[1] for f in study.figures.values() if f.source}
    named = [space.parameters[name].values for name in ("family", "encoder", "decoder") if name in space.parameters]
    parts = {str(part) for values in (*named, study.file.published) for part in values}
    return code | {part: load_code(part)[1] for part in sorted(parts) if ":" in part}


def _plain(value: Any) -> dict[str, Any]:
    return {name: list(item) if isinstance(item, tuple) else item for name, item in vars(value).items()}
