"""Find and read space and study files: safe YAML, with file and line in every error."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml

from nasseg.errors import UserError, unknown
from nasseg.processes.collection import no_collection

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = Literal["spaces", "studies", "tables"]  # tables lie in studies/<paper>/, called table-*, figure-* or equation-*
Model = TypeVar("Model", bound="BaseModel")
ELSEWHERE = "; choose another place with -o"  # advice for whoever chose the place
# Limits of a YAML file. A larger one is refused unread: reading it could take forever.
MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 50
MAX_DIGITS = 40
KeyPath = tuple[str | int, ...]


def _shipped(kind: Kind) -> Path:
    """Return the folder shipped with nasseg: in an installed wheel, else in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_data" / kind
    return installed if installed.is_dir() else package.parent / kind


def list_files(kind: Kind) -> dict[str, Path]:
    """Return names and paths of the files in ./spaces or ./studies and of the shipped ones, the user's own first."""
    found: dict[str, Path] = {}
    home: Kind = "spaces" if kind == "spaces" else "studies"
    for folder in (Path.cwd() / home, _shipped(home)):
        for path in sorted(folder.glob("**/*.yaml")):
            if home == "spaces" or _is_table(path.relative_to(folder)) == (kind == "tables"):
                found.setdefault(str(path.relative_to(folder).with_suffix("")), path)
    return found


def _is_table(path: Path) -> bool:
    return len(path.parts) > 1 and path.name.startswith(("table-", "figure-", "equation-"))


def find_file(kind: Kind, name: str | Path) -> Path:
    """Return the file with this path or name.

    Raises:
        UserError: there is none. The message offers the nearest name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise UserError(f"no such file: {path}")
    known = list_files(kind)
    if str(name) not in known:
        if kind == "studies" and path.is_dir():
            raise UserError(f"{name} is a folder, no study: `nasseg init --data {name}` writes a study for it")
        raise unknown({"spaces": "space", "studies": "study", "tables": "table"}[kind], str(name), known)
    return known[str(name)]


def cache_folder() -> Path:
    """Return the cache folder, named by NASSEG_CACHE. Its content may be deleted at any time."""
    if named := os.environ.get("NASSEG_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "nasseg"


def checked_name(name: str) -> str:
    """Return the name of a study or a table.

    Raises:
        UserError: it holds an @. `NAME@PURPOSE` is the address of later results of NAME's networks: timed again,
            trained to the end, or measured for a table. They are kept in NAME's folder.
    """
    if "@" in name:
        raise UserError(
            f"the name of a study or table holds no @, got {name!r}: NAME@PURPOSE means later results of NAME's "
            "networks; rename the file"
        )
    return name


def below(folder: Path, name: object) -> Path:
    """Return the path of a name below a folder. A name from a record may be anything.

    Raises:
        UserError: the path would not stay below the folder.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    if any(part.startswith(".") or "\0" in part or not part for part in parts):
        raise UserError(
            f"{name!r} is no name below {folder}: no part of a name is empty or begins with a dot. If you did not "
            "write it, the record was changed by hand"
        )
    return folder.joinpath(*parts)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path to write to.

    It becomes `target` when the block ends, and leaves nothing behind if the block fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield partial
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def output_file(target: Path, advice: str = "") -> Iterator[Path]:
    """Like `written_whole`, for a file that a user asked for. advice: the end of the error message.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with written_whole(target) as partial:
            yield partial
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}{advice}") from None


_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it


class _Loader(_Parser):
    """Safe YAML in which 1e9 is a number (YAML 1.2), a repeated key is an error, and numbers have limited length."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} occurs twice", problem_mark=key.start_mark)
                seen.add(key.value)
        data: dict[Any, Any] = super().construct_mapping(node, deep)
        return data

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            problem = f"a number has at most {MAX_DIGITS} digits, got {len(node.value):,}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        number: int = super().construct_yaml_int(node)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, and the line on which each part begins."""

    path: Path
    text: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def error(self, where: KeyPath, message: str) -> UserError:
        """Return an error that points at the innermost part of `where` that the file holds."""
        while where and where not in self.lines:
            where = where[:-1]
        return UserError(f"{self.path}:{self.lines.get(where, 1)}: {message}")

    def validate(self, model: type[Model]) -> Model:
        """Return the data as a pydantic model. The first fault becomes a UserError."""
        from pydantic import ValidationError  # networks are also built and timed where pydantic is not installed

        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            # A typo is both an unknown key and a missing one; naming the unknown one helps more.
            first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
            where = tuple(first["loc"])
            name = ".".join(_parts(self.data, where))
            if first["type"] == "extra_forbidden":
                known = _fields_at(model, where[:-1])
                message = str(unknown("key", where[-1], known)) if known else f"unknown key {name!r}"
            elif first["type"] == "missing":
                message = f"key {name!r} is missing"
            else:
                problem = _NEEDED.get(first["type"]) or first["msg"].removeprefix("Value error, ")
                message = f"{name}: {problem}, got {first['input']!r}"
            raise self.error(where, message) from None


# What pydantic says of Python's types, as a writer of YAML knows it.
_NEEDED = dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping (key: value) is needed")
_NEEDED |= dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list is needed")


def _parts(data: Any, where: Iterable[str | int]) -> Iterator[str]:
    """Yield the parts of a place.

    A list item goes by its name if it has one: its number may be that of a merged list.
    """
    for part in where:
        if isinstance(data, list) and isinstance(part, int):
            data = data[part] if part < len(data) else None  # missing items have a place too
        else:
            data = data.get(part) if isinstance(data, dict) else None
        yield repr(data["name"]) if isinstance(part, int) and isinstance(data, dict) and "name" in data else str(part)


def _fields_at(model: Any, where: Iterable[str | int]) -> list[str]:
    for part in where:
        field = getattr(model, "model_fields", {}).get(str(part))
        if field is None:
            return []
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
    return list(model.model_fields) if model else []


def read_yaml(path: Path) -> Document:
    """Read a YAML mapping from a file.

    Raises:
        UserError: the file cannot be read, does not parse (file and line are named), or is no mapping.
    """
    try:
        text = read_text(path)
    except TooLargeError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    return parse_yaml(text, path)


def read_text(path: Path) -> str:
    """Return the text of a file that is read whole or refused: its bytes are counted, not its characters.

    Raises:
        TooLargeError: it has more than MAX_BYTES bytes
        OSError, UnicodeDecodeError
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLargeError(f"a file of text has at most {MAX_BYTES:,} bytes; make it shorter")
    return content.decode()


def parse_value(text: str) -> Any:
    """Return the value of `--set KEY=VALUE`: parsed if it is YAML, else the text itself.

    Raises:
        UserError: it is too large, or nested too deep.
    """
    try:
        return _load(text)[1]
    except TooLargeError:
        raise
    except (yaml.YAMLError, *_NO_YAML):
        return text


def parse_yaml(text: str, path: Path) -> Document:
    """Parse YAML text like `read_yaml`; `path` only appears in errors."""
    try:
        lines, data = _load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {problem}") from None
    except TooLargeError as error:
        raise UserError(f"{path}: {error}") from None
    except _NO_YAML as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: a mapping (key: value) is needed, got {type(data).__name__}")
    return Document(path, text, data, lines)


# What PyYAML raises for values that do not fit their tag: `!!timestamp x`, `!!bool x`, `{[]: 1}`, 2026-13-45.
_NO_YAML = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


class TooLargeError(UserError):
    """A file that would take too long to read."""


@no_collection()  # which takes as long as all the rest
def _load(text: str) -> tuple[dict[KeyPath, int], Any]:
    """Return the line of each key, and the data. Limits are checked before anything is built.

    Raises:
        TooLargeError, yaml.YAMLError, or what `_NO_YAML` names
    """
    if len(text) > MAX_BYTES:
        raise TooLargeError(f"a YAML file has at most {MAX_BYTES:,} bytes; make it shorter")
    depth = values = 0
    for event in yaml.parse(text, Loader=_Parser):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            raise TooLargeError(f"its lists and mappings are nested deeper than {MAX_DEPTH}; nest them less")
        if values > 2 * MAX_VALUES:  # keys are values, too
            raise TooLargeError(f"it has more than {MAX_VALUES:,} values; make it shorter")
    loader = _Loader(text)
    node = loader.get_single_node()
    lines: dict[KeyPath, int] = {}
    if node is None:
        return lines, None
    if _expanded(node, {}) is None:
        raise TooLargeError(
            f"its aliases expand to more than {MAX_VALUES:,} values, or without end; write the values out instead"
        )
    _collect_lines(node, (), lines)
    return lines, loader.construct_document(node)


Expanded = tuple[int, int] | None  # how many values, nested how deep; None: too many, too deep or without end


def _expanded(node: yaml.Node, known: dict[int, Expanded], depth: int = 0) -> Expanded:
    """Return what a node comes to once its aliases are written out. A merge (`<<`) counts as what it merges.

    known: by id: each node is looked at once, however many aliases name it.
    """
    if depth > MAX_DEPTH:
        return None
    if id(node) not in known:
        known[id(node)] = None  # also what it is to itself, inside
        values, levels = 1, 0
        for child in _children(node):
            inside = _expanded(child, known, depth + 1)
            if inside is None:
                return None
            values, levels = values + inside[0], max(levels, 1 + inside[1])
        known[id(node)] = (values, levels) if values <= MAX_VALUES else None
    found = known[id(node)]
    return found if found is not None and depth + found[1] <= MAX_DEPTH else None


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for key, value in node.value if isinstance(key, yaml.ScalarNode)]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _collect_lines(node: yaml.Node, where: KeyPath, lines: dict[KeyPath, int]) -> None:
    """Note where each key is."""
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines[(*where, key.value)] = key.start_mark.line + 1
                _collect_lines(value, (*where, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*where, index), lines)
