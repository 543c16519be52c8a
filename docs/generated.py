"""Write the pages that are made of the code: the command line, and the files that people write. A hook of MkDocs."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperGroup

from nasseg.cli import app
from nasseg.data.class_table import ClassTable
from nasseg.space.load import SpaceFile
from nasseg.study.study_file import StudyFile
from nasseg.tables.table_file import TableFile
from nasseg.train.recipe import Recipe

KINDS = {bool: "", int: "integer", float: "number", Path: "path"}
FILES: dict[str, type[BaseModel]] = {
    "A study": StudyFile,
    "A space": SpaceFile,
    "A recipe": Recipe,
    "A class table": ClassTable,
    "A table": TableFile,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages to those on disk."""
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    files.append(File.generated(config, "reference/files.md", content=keys()))
    return files


def commands() -> str:
    """Return the page of all commands with their arguments and options."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return "# Commands\n\n" + "\n".join(_commands(group, "nasseg"))


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
            continue
        yield f"## {path} {name}\n\n{_text(command.help)}\n"
        yield "| | | |\n| --- | --- | --- |"
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{one}`" for one in [*parameter.opts, *parameter.secondary_opts])
            if parameter.param_type_name == "argument":
                names = f"`{parameter.name.upper()}`"
            kind = parameter.metavar or KINDS.get(parameter.type_descriptor.annotation, "text")
            yield f"| {names} | {kind} | {_text(parameter.help)} |"
        yield ""


def keys() -> str:
    """Return the page of all keys of the files in YAML, with types, defaults and what the models say of them."""
    lines = ["# Files\n", "Every key that a file may have. Unknown keys are refused, with the nearest known one.\n"]
    done: set[type[BaseModel]] = set()
    for title, model in FILES.items():
        lines += [f"## {title}\n", *_model(model, done)]
    return "\n".join(lines)


def _model(model: type[BaseModel], done: set[type[BaseModel]]) -> Iterator[str]:
    done.add(model)
    about, meanings = meanings_of(model)
    yield about + "\n"
    yield "| key | meaning | type | default |\n| --- | --- | --- | --- |"
    nested: list[type[BaseModel]] = []
    for name, field in model.model_fields.items():
        default = "required" if field.default is PydanticUndefined and field.default_factory is None else ""
        if not default:
            value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
            default = "" if value is None else f"`{_default(value)}`"
        yield f"| `{field.alias or name}` | {meanings[field.alias or name]} | {_kind(field.annotation)} | {default} |"
        nested += [one for one in models_of(field.annotation) if one not in done]
    yield ""
    for one in dict.fromkeys(nested):
        if one not in done:
            yield f"### {one.__name__.removesuffix('File')}\n"
            yield from _model(one, done)


def meanings_of(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """Return what a model's docstring says of it, and of each of its keys: `key: meaning.`, in any order."""
    names = "|".join(field.alias or name for name, field in model.model_fields.items())
    about, *rest = re.split(rf"(?:^|(?<=[.:] ))((?:(?:{names})(?:, )?)+): ", _text(inspect.getdoc(model)))
    said = zip(rest[::2], rest[1::2], strict=True)
    return about.strip(), {name: meaning.strip() for keys, meaning in said for name in keys.split(", ")}


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "{}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_of(part)


def _kind(annotation: Any) -> str:
    """Return a type as people read it."""
    name = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", inspect.formatannotation(annotation))
    name = re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", name)
    return "`" + name.replace(" | None", "").replace("NoneType", "none").replace("|", "or") + "`"


def _text(said: str | None) -> str:
    """Return a docstring as one paragraph, without what a table would take for a border."""
    return " ".join((said or "").split()).replace("|", "\\|")
