"""Parameters of a space that set fields of the training recipe, and their checks before a search begins."""

import json
import random
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nasseg.errors import UserError, unknown
from nasseg.records import digest
from nasseg.space import Params, Space
from nasseg.space.load import NAME_THEM, space_from_text
from nasseg.train.recipe import Recipe

if TYPE_CHECKING:
    from nasseg.data.dataset import DataSet

# The start and length of trainings, the same for the whole study.
FIXED = ("name", "steps", "warmup_steps", "init", "init_map")
DRAWS = 1000  # a failing combination is found if it is one in two hundred points
TRIES = 5  # networks that may lack a feature that heads read; then it is an error


def settings_of(space_file: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe settings of a stored trial's training part. space_file: the space's text, kept by the study."""
    return stored_space(space_file).recipe_settings(training) if training else {}


@lru_cache(4)
def stored_space(space_file: str) -> Space:
    """Return the space of a study from the text that the study keeps."""
    return space_from_text(space_file, "space")


def check_fields(space: Space) -> None:
    """Check that parameters of the recipe name fields of it.

    Raises:
        UserError: one does not (the nearest name is offered), or a space may not set it.
    """
    known = [field for field in Recipe.model_fields if field not in FIXED]
    for name, field in space.training.items():
        if field in FIXED:
            raise UserError(
                f"{name}: {field} must be the same for all trainings of a study; set it in the study's recipe"
            )
        if field not in known:
            raise unknown(f"parameter in space {space.name} (a field of the recipe)", field, known)


def check_recipes(space: Space, recipe: Recipe) -> None:
    """Check that a study's recipe accepts what its space may set.

    Raises:
        UserError: a field does not exist, or a value or a combination is refused.
    """
    check_fields(space)
    for point in _points(space):
        _recipe_at(space, recipe, point)


def check_on_data(space: Space, recipe: Recipe, data: "DataSet") -> None:
    """Check that the data and the networks of a space fit what the space may set in the recipe.

    Raises:
        UserError: a crop is larger than the images, class weights or pseudo-labels do not fit the data, or none of
            several networks has a feature that heads read.
    """
    from nasseg.train.losses import check_class_weights  # imports torch: a search prints its first line before
    from nasseg.train.views.batches import require_agreement

    size = data.train.size
    for point in _points(space):
        chosen = _recipe_at(space, recipe, point)
        crop = chosen.crop_size
        if crop and "crop_size" in space.training.values() and (crop[0] > size[0] or crop[1] > size[1]):
            raise UserError(
                f"{_words(space, point)}: a crop of {crop[0]} x {crop[1]} is larger than the images, {size[0]} x "
                f"{size[1]}: cut to this size, it would repeat another training; drop it"
            )
        try:
            check_class_weights(chosen, data)
            require_agreement(data, chosen)
        except UserError as error:
            raise UserError(f"{_words(space, point)}: {error}") from None
    if "heads" in space.training.values():
        _check_heads(space, recipe, data.num_classes)


def _check_heads(space: Space, recipe: Recipe, num_classes: int) -> None:
    """Check heads on a few networks of each family: some may lack a feature, not all."""
    from nasseg.families import arch_of
    from nasseg.train.heads import TrainingHeads

    errors: dict[tuple[Any, ...], list[str]] = {}  # empty if a network has all features
    for point in _points(space, all_draws=True):
        chosen = _recipe_at(space, recipe, point)
        key = (point["family"], point.get("encoder"), digest(chosen.model_dump(mode="json")["heads"]))
        known = errors.get(key)
        if known == [] or len(known or ()) >= TRIES:
            continue
        try:
            model = arch_of(space.settings(point)).build_meta(num_classes)
        except UserError:  # this point builds no network, whatever the training
            continue
        try:
            TrainingHeads(chosen, model, num_classes)
            errors[key] = []
        except UserError as error:
            errors[key] = [*(known or []), f"{_words(space, point)}: {error}"]
    for found in errors.values():
        if found:
            raise UserError(found[0])


def _points(space: Space, all_draws: bool = False) -> Iterator[Params]:
    """Yield drawn points, one for each training part unless all are asked for; none if the space has no such part."""
    seen, rng = set(), random.Random(0)
    for _ in range(DRAWS if space.training else 0):
        point = space.sample(rng)
        part = json.dumps(space.training_of(point), sort_keys=True)
        if all_draws or part not in seen:
            seen.add(part)
            yield point


def _recipe_at(space: Space, recipe: Recipe, point: Params) -> Recipe:
    training = space.training_of(point)
    try:
        return recipe.replaced(space.recipe_settings(training))
    except UserError as error:
        refused = [field for name, field in space.training.items() if name in training and name not in space.named]
        unnamed = any(f"recipe: {field}:" in str(error) for field in refused)
        raise UserError(f"{_words(space, point)}: {error}{NAME_THEM if unnamed else ''}") from None


def _words(space: Space, point: Params) -> str:
    part = ", ".join(f"{name} = {value}" for name, value in space.training_of(point).items())
    return f"space {space.name}, {part}"
