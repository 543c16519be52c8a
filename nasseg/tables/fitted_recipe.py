"""A row's recipe for other data and lengths: the paper's, with the dependent settings adapted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

from nasseg.data.dataset import DataSet
from nasseg.errors import UserError
from nasseg.records import Size
from nasseg.tables.baseline import baseline
from nasseg.tables.table_file import Table, TableColumn, TableRow
from nasseg.train.recipe import Recipe, load_recipe


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training of tables' rows here.

    steps, epochs: of a row that the paper trains for the table's usual length; give at most one; default: the paper's.
    settings: replace those of the paper's recipe, but not a row's own. pretraining: data to pre-train rows on, by their
    name in the table. self_training: the same for rows that learn from pseudo-labels, as `data` with these.
    """

    data: DataSet
    steps: int | None = None
    epochs: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1
    device: str = "cpu"
    threads: int = 1
    pretraining: Mapping[str, DataSet] = field(default_factory=dict)
    self_training: Mapping[str, DataSet] = field(default_factory=dict)
    _baselines: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise UserError("give a training's length as steps or as epochs, not both")
        if self.seeds < 1 or self.threads < 1 or (self.steps or 1) < 1 or not 0 < (self.epochs or 1) < inf:
            raise UserError("seeds, threads, steps and epochs must be finite and above 0")
        batch = self.settings.get("batch_size", 1)
        if not isinstance(batch, int) or batch < 1:
            raise UserError(f"batch_size is a whole number above 0, got {batch!r}")
        for name in ("steps", "init"):
            if name in self.settings:
                raise UserError(f"{name} cannot be set for all rows of a table: give --steps or --epochs")

    def baseline(self, splits: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Return the accuracy of colour and place alone on the data, by split, computed once for all tables."""
        if missing := tuple(name for name in splits if name not in self._baselines):
            self._baselines.update(baseline(self.data, missing))
        return {name: self._baselines[name] for name in splits}

    @property
    def size(self) -> Size:
        return self.data.val.size

    def length(self, usual: Recipe) -> int:
        """Return the steps of a row that the paper trains for the usual length, that of the table's recipe `usual`."""
        if self.epochs is None:
            return self.steps or usual.steps
        return ceil(self.epochs * self.data.counts["train"] / self._batch(usual))

    def _batch(self, usual: Recipe) -> int:
        return int(self.settings.get("batch_size", usual.batch_size))

    def recipe(self, table: Table, row: TableRow, column: TableColumn) -> Recipe:
        """Return the recipe for training a row here.

        A row that trains twice as long in the paper also does so here. Warm-up and the averaging of weights keep their
        share of the training. Crops keep their share of the image; the paper's image size is the column's. Weights of
        the paper's classes become a rule for other classes. On a CPU the precision is fp32. Everything else is the
        paper's, or as set.

        Raises:
            UserError: a setting is refused.
        """
        usual, own = table.file.recipe, table.file.training(row)
        assert usual is not None
        assert own is not None
        published = load_recipe(usual)
        changed = self._as_long(own, published, self.data)
        if own.crop_size is not None and self.size != column.size:
            here, printed = row.arch(column, self.size), row.arch(column)
            scaled = here.input_scale / printed.input_scale if here and printed and own.views == "network" else 1.0
            sides = zip(own.crop_size, self.size, column.size, strict=True)
            changed["crop_size"] = tuple(max(1, round(crop * scaled * ours / theirs)) for crop, ours, theirs in sides)
        changed |= {key: value for key, value in self.settings.items() if key not in row.recipe}
        return load_recipe({**own.model_dump(), **changed})

    def before(self, table: Table, data: DataSet) -> Recipe:
        """Return the recipe for pre-training rows on other data, with the same share of the paper's length.

        Raises:
            UserError: a setting is refused.
        """
        assert table.file.recipe is not None
        assert table.file.pretraining_recipe is not None
        own = load_recipe(table.file.pretraining_recipe)
        changed = self._as_long(own, load_recipe(table.file.recipe), data)
        settings = {key: value for key, value in self.settings.items() if key in ("batch_size", "accumulation")}
        return load_recipe({**own.model_dump(), **changed, **settings})

    def _as_long(self, own: Recipe, usual: Recipe, data: DataSet) -> dict[str, Any]:
        """Return the settings of a recipe that depend on its length, the data's classes and the device."""
        steps = ceil(own.steps * self.length(usual) / usual.steps)
        share = steps / own.steps
        changed: dict[str, Any] = {"steps": steps, "warmup_steps": min(steps - 1, round(own.warmup_steps * share))}
        if own.ema_decay is not None:
            decay = 1 - (1 - own.ema_decay) / share
            changed["ema_decay"] = decay if decay > 0 else None
        if isinstance(own.class_weights, tuple) and len(own.class_weights) != data.num_classes:
            changed["class_weights"] = "inverse_log"
        if self.device == "cpu":
            changed["precision"] = "fp32"
        return changed

    def words(self, table: Table) -> str:
        """Describe a table's protocol, without the rows' own settings and the seeds."""
        assert table.file.recipe is not None
        usual = load_recipe(table.file.recipe)
        size = f"{self.size[0]} x {self.size[1]}"
        more = "".join(f", {key} {value}" for key, value in self.settings.items() if key != "batch_size")
        recipe = f"recipe {usual.name} adapted to this" if usual.name else "the table's own recipe"
        return (
            f"{self.data.name} at {size} (data {self.data.fingerprint}), {self.length(usual):,} steps of "
            f"{self._batch(usual)} images, {recipe}{more}, {self.device}"
        )
