"""Recipes of tables, fitted to the data and the length of a training."""

from dataclasses import replace

import pytest

from nasseg.data.dataset import DataSet
from nasseg.tables.table_file import load_table
from nasseg.train.recipe import load_recipe
from tests.tables.two_rows import training


def fitted(name: str, row: int, data: DataSet, **options):
    chosen = load_table(name)
    column = next(column for column in chosen.file.columns.values() if column.accuracy)
    return training(data, **{"settings": {}, **options}).recipe(chosen, chosen.file.rows[row], column)


def test_a_recipe_is_fitted_to_data_and_length(data: DataSet) -> None:
    recipe = fitted("regseg/table-4", 0, data, steps=1000)
    assert (recipe.steps, recipe.warmup_steps) == (1000, round(3000 / 185_938 * 1000))
    assert recipe.crop_size == (24, 24)  # 768 of 1024 and of 2048 at 32 x 64
    assert (recipe.precision, recipe.scale_range) == ("fp32", (0.25, 1.75))
    assert recipe.batch_size == load_recipe("regseg-cityscapes-ablation").batch_size
    assert fitted("regseg/table-4", 0, data, device="cuda").precision == "fp16"
    assert fitted("eseg/table-1", 0, data, steps=900).ema_decay == pytest.approx(0.99)
    assert fitted("eseg/table-1", 0, data, steps=5).ema_decay is None
    assert fitted("regseg/table-7", 2, data, steps=10).steps == 20  # twice the table's in print, too
    assert fitted("bisenetv2/table-2", 0, data, steps=None, epochs=8).steps == 2  # 8 x 4 images, 16 a step


def test_weights_of_the_papers_classes_are_not_for_others(data: DataSet) -> None:
    assert fitted("dabnet/table-2a", 0, data, steps=10).class_weights == "inverse_log"


def test_settings_are_for_all_rows_but_a_rows_own_go_first(data: DataSet) -> None:
    settings = {"heads": [{"kind": "booster", "features": ["s3"]}], "weight_decay": 0.0}
    none, some = (fitted("bisenetv2/table-4", row, data, settings=settings) for row in (0, 1))
    assert (none.heads, none.weight_decay) == ((), 0.0)
    assert some.heads[0].features == ("stem", "s3", "s4", "s5", "ce")


def test_a_protocol_names_the_papers_recipe_or_says_that_it_is_the_tables_own(data: DataSet) -> None:
    table = load_table("regseg/table-4")
    assert ", recipe regseg-cityscapes-ablation adapted to this, cpu" in training(data).words(table)
    own = replace(table, file=table.file.model_copy(update={"recipe": {"steps": 800}}))
    assert "2 steps of 2 images, the table's own recipe, cpu" in training(data).words(own)
