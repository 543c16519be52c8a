"""Users' own code: found, identified by its hash, and run only where that is allowed.

Code that a user names, in a file or a command, may run. Code that a record names may run only if the study's identity
names it with the same hash, and the user has run it on this machine before or allows it now (`--trust-code`).
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from nasseg.errors import UserError, unknown
from nasseg.files import cache_folder


class CodeError(UserError):
    """A user's own code is missing, was changed, or may not run: a fault of a file, not of a network."""


@dataclass(frozen=True)
class _Rule:
    """A rule for what may run. code: hash by source (None: not known). by_record: a record names the code."""

    code: Mapping[str, str] | None
    by_record: bool


_rule: ContextVar[_Rule | None] = ContextVar("rule", default=None)
_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


@contextmanager
def only(code: Mapping[str, str]) -> Iterator[None]:
    """Let only these sources with these hashes run: those of the study that this process works for."""
    before = _rule.get()
    with _ruled(_Rule(code, by_record=before is not None and before.by_record)):
        yield


@contextmanager
def of_record(code: Mapping[str, str] | None) -> Iterator[None]:
    """Let code run under the rule for records. code: hash by source; None: a record without hashes."""
    with _ruled(_Rule(code, by_record=True)):
        yield


@contextmanager
def _ruled(rule: _Rule) -> Iterator[None]:
    before = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(before)


def trust_records() -> None:
    """Let code that records name run here from now on, because the user said so."""
    _trusted.set(True)


def load_code(source: str, *folders: Path) -> tuple[Any, str]:
    """Load `file.py:name` (in one of the folders, or here) or `package.module:name`, and return it with a hash.

    A file runs once per process, so that its classes stay the same objects. The hash is of the text that runs.

    Raises:
        CodeError: there is no such file or name (the nearest is offered), it does not import, or it may not run.
    """
    place, _, name = source.rpartition(":")
    path = next((base / place for base in (*folders, Path.cwd()) if place and (base / place).is_file()), None)
    if path is None and (not place or place.endswith(".py") or "/" in place):
        where = f"there is no file {place or source!r} in {Path.cwd()}"
        raise CodeError(f"your own code is named as FILE.py:NAME; {where}")
    rule = _rule.get()
    if rule and rule.code is not None and source not in rule.code:
        raise CodeError(f"{source} is not run: the study's identity does not name it, and a record may not add code")
    try:
        text = _text(place, path)
        known = hashlib.sha256(text).hexdigest()[:16]
        if rule is None:
            _note(known)
        elif rule.code is not None and rule.code[source] != known:
            raise CodeError(
                f"{path or place} was changed: its hash was {rule.code[source]} in the study and is now {known}, "
                "so figures would not be comparable. Undo the change, or give the study another name"
            )
        elif rule.by_record and not place.startswith("nasseg."):
            _require_word(str(path or place), known)
        module = importlib.import_module(place) if path is None else _module(path.resolve(), text)
    except CodeError:
        raise
    except Exception as error:  # show the user whatever the file raises
        raise CodeError(f"{path or place} does not import: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, name, None)):
        own = [label for label, value in vars(module).items() if callable(value) and not label.startswith("_")]
        raise CodeError(str(unknown(f"function or class in {path or place}", name, own)))
    return getattr(module, name), known


def check_command(command: str) -> None:
    """Check that a user's own command may run. A command that a record names must have run here before.

    Raises:
        CodeError: it may not.
    """
    rule, known = _rule.get(), hashlib.sha256(command.encode()).hexdigest()[:16]
    if rule is not None and rule.by_record:
        _require_word(f"the command {command!r}", known)
    else:
        _note(known)


def _text(place: str, path: Path | None) -> bytes:
    if path is None:
        spec = importlib.util.find_spec(place)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {place!r}")
        path = Path(spec.origin) if spec.has_location and spec.origin else None
    return b"" if path is None else path.read_bytes()


class _Text(SourceLoader):
    """Loads the text that was hashed, even if the file has changed since."""

    def __init__(self, path: str, text: bytes) -> None:
        self._path, self._content = path, text

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        return self._content


@cache
def _module(path: Path, text: bytes) -> ModuleType:
    name = f"nasseg_user_{path.stem}_{hashlib.sha256(bytes(path) + text).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Text(str(path), text))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _noted(known: str) -> Path:
    return cache_folder() / "own-code" / known


@cache
def _note(known: str) -> None:
    with suppress(OSError):  # without it, the user is only asked again
        _noted(known).parent.mkdir(parents=True, exist_ok=True)
        _noted(known).touch()


def _require_word(name: str, known: str) -> None:
    """Refuse code that a record names and that was never run here."""
    if _trusted.get():
        _note(known)
    elif not _noted(known).exists():
        raise CodeError(
            f"{name} is not run: a record names it, and you have not run it on this machine yet (hash {known}). "
            "Read it; to run it, add --trust-code"
        )
