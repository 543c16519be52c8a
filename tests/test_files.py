"""Files as models: what is read is written again without loss, whatever its fields hold."""

import math
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from nasseg.data.class_table import ClassTable, list_tables, read_table
from nasseg.files import find_file, list_files, read_yaml
from nasseg.space.load import SpaceFile
from nasseg.study.study_file import StudyFile, load_study
from nasseg.tables.table_file import TableFile, load_tables
from nasseg.train.recipe import Recipe, load_recipe, published_recipes


def _models(value: object) -> Iterator[BaseModel]:
    """Yield a model and those inside it."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _models(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _models(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _models(item)


@cache
def shipped() -> dict[type[BaseModel], list[BaseModel]]:
    """Return all models of all files that come with nasseg, by class."""
    found: dict[type[BaseModel], list[BaseModel]] = {}
    files: list[BaseModel] = [load_study(name).file for name in list_files("studies")]
    files += [table.file for table in load_tables()]
    files += [read_yaml(find_file("spaces", name)).validate(SpaceFile) for name in list_files("spaces")]
    files += [read_table(path) for path in list_tables().values()]
    files += [load_recipe(name) for name in published_recipes()]
    for model in _models(files):
        found.setdefault(type(model), []).append(model)
    return found


def test_every_shipped_file_survives_its_round_trip() -> None:
    assert {StudyFile, TableFile, SpaceFile, ClassTable, Recipe} <= set(shipped())
    for model, each in shipped().items():
        for one in each:
            assert vars(model.model_validate(one.model_dump())) == vars(one)
            assert vars(model.model_validate_json(one.model_dump_json())) == vars(one)


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return all(map(_finite, items))


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of plain data for an annotation."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any:
        return st.one_of(st.integers(), st.text(max_size=5), st.booleans())
    if origin is Annotated:
        return _values(inside[0])
    if origin is Literal:
        return st.sampled_from(inside)
    if origin in (UnionType, Union):
        return st.one_of(*map(_values, inside))
    if origin is dict:
        return st.dictionaries(_values(inside[0]), _values(inside[1]), max_size=2)
    if origin is list or (origin is tuple and inside[-1] is ...):
        return st.lists(_values(inside[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(_values, inside))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return st.sampled_from(shipped().get(kind, [None]))
    return st.from_type(kind)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_any_value_of_any_field_survives_the_round_trip(data: st.DataObject) -> None:
    check_round_trip(data)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_many_values_of_any_field_survive_the_round_trip(data: st.DataObject) -> None:
    check_round_trip(data)


def check_round_trip(data: st.DataObject) -> None:
    """Draw a field and a value that its model accepts: nothing that is dumped is left out or read as another value."""
    model = data.draw(st.sampled_from(list(shipped())))
    base = data.draw(st.sampled_from(shipped()[model]))
    name = data.draw(st.sampled_from(list(model.model_fields)))
    value = data.draw(st.one_of(_values(get_type_hints(model)[name]), st.none()))
    assume(_finite(value))
    try:
        one = model.model_validate({**base.model_dump(), name: value})
    except (ValidationError, ValueError):
        assume(False)
    assert vars(model.model_validate(one.model_dump())) == vars(one)
    assert set(one.model_dump()) >= set(model.model_fields)


@pytest.mark.parametrize("name", [None, *list(published_recipes())[:3]])
def test_starting_weights_and_settings_unset_survive(name: str | None) -> None:
    named = {"name": name} if name else {}
    recipe = load_recipe({**named, "init": "weights.pt", "rand_augment": None, "class_uniform": None})
    again = load_recipe(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.init == "weights.pt"
    assert "weights.pt" not in str(recipe.compared())  # a path decides nothing: the hash of its file does
