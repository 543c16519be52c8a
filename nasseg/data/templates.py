"""Path templates of class tables, such as `images/{split}/{name}`: which files match one, and their keys.

A sample's key is what the paths of its image and label share: group and name, `aachen/aachen_000000_000019`.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from nasseg.data.class_table import Part
from nasseg.data.list_files import PICTURES


def static_folder(root: Path, template: str, part: Part) -> Path:
    """Return the deepest folder that contains every file of a template."""
    return root / _static(template.replace("{split}", part.folder or ""))


def _static(template: str) -> str:
    return "/".join(template.partition("{")[0].split("/")[:-1])


def is_deep(template: str) -> bool:
    """Return whether a template's files lie in folders below the static one."""
    return template.removeprefix(_static(template)).count("/") > 0 or "{group}" in template


def any_suffix(template: str) -> bool:
    """Return whether the files may be any kind of picture."""
    return "." not in template.rpartition("{name}")[2]


@cache
def _pattern(template: str, folder: str) -> re.Pattern[str]:
    text = re.escape(template.replace("{split}", folder))
    text = text.replace(r"\{group\}", "(?P<group>.+)").replace(r"\{name\}", "(?P<name>[^/]+)", 1)
    if any_suffix(template):
        text += f"(?i:{'|'.join(re.escape(suffix) for suffix in sorted(PICTURES))})"
    return re.compile(text)


def key_of(template: str, part: Part, path: str) -> str | None:
    """Return the key of a path below the root; None if it does not match the template.

    Some tools name labels after the image with its suffix, `a.jpg.json`: the key is without it.
    """
    match = _pattern(template, part.folder or "").fullmatch(path)
    if match is None:
        return None
    parts = match.groupdict()
    name = Path(parts["name"])
    stem = name.stem if name.suffix.lower() in PICTURES and not any_suffix(template) else name.name
    return "/".join(text for text in (parts.get("group"), stem) if text)


def filled(template: str, part: Part, key: str) -> str:
    """Return the path of a sample's file below the root, without the suffix if any suffix will do."""
    group, _, name = key.rpartition("/")
    return template.replace("{split}", part.folder or "").replace("{group}", group).replace("{name}", name)


def is_in(key: str, patterns: Iterable[str]) -> bool:
    """Return whether a key begins with one of the patterns, up to a `_`, `-` or `/`."""
    return any(fnmatchcase(key, p) or fnmatchcase(key, f"{p}[-_/]*") for p in patterns)


def tails(path: str) -> Iterable[str]:
    """Yield a/b/c, b/c and c."""
    parts = path.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))
