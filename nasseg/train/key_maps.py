"""Rename the tensors of other people's files to a network's names, by patterns that are shipped or a user's own.

A layer is the name of a tensor without its last part. The left side of a rule is a pattern for the file's names, the
right side one for the network's:

- without a wildcard, both are beginnings of names: `backbone.: encoder.`
- `*` is any text, the same on both sides: `backbone.*.bn: encoder.*.1`
- `~` is any text; the layers that match are paired in order, the file's with the network's: `layer~: encoder.~`

The first matching rule counts. Rules with `~` could go wrong silently if the orders differ but the shapes do not. So
both sides must have equally many layers, paired tensors must have the same names, and the file's numbers must ascend.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from nasseg.errors import UserError
from nasseg.files import read_yaml


@dataclass(frozen=True)
class KeyMap:
    """Rules that rename the tensors of one publisher's files.

    source: the file in words. file: a layer that distinguishes such a file. network: a layer that the network must
    have. rules: pattern of the file -> pattern of the network. joined: layer of the network -> convolutions of the file
    whose results are summed; here they are one convolution on their maps joined in this order. dropped: pattern ->
    description, of tensors that have no place here. note: a remark for the reader.
    """

    source: str
    file: str
    network: str
    rules: Mapping[str, str]
    joined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def fits(self, names: Iterable[str], own: Iterable[str]) -> bool:
        """Return whether the map is meant for a file and a network with these tensor names."""
        return _any(self.file, names) and _any(self.network, own)


@dataclass
class Renamed:
    """Renamed tensors. names: of the file -> of the network. refused: of the file -> why it has no place."""

    names: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@cache
def key_maps() -> tuple[KeyMap, ...]:
    """Return the maps shipped with nasseg, in the order in which they are tried."""
    document = read_yaml(Path(__file__).with_name("key_maps.yaml"))
    return tuple(KeyMap(**entry) for entry in document.data["maps"])


def read_rules(path: Path) -> dict[str, str]:
    """Read a user's rules: a YAML mapping of patterns.

    Raises:
        UserError: it cannot be read, or is no mapping of text to text.
    """
    document = read_yaml(path)
    for left, right in document.data.items():
        if not isinstance(left, str) or not isinstance(right, str):
            raise document.error((left,), f"a rule is `pattern in the file: pattern in the network`, got {right!r}")
    check_rules(document.data)
    return document.data


def check_rules(rules: Mapping[str, str]) -> None:
    """Check that both sides of each rule fit each other.

    Raises:
        UserError: they do not.
    """
    for left, right in rules.items():
        mixed = "*" in left + right and "~" in left + right
        if mixed or left.count("*") != right.count("*") or ("~" in left and "~" not in right):
            raise UserError(
                f"the rule {left}: {right} must have equally many * on both sides, or ~ on both, or no wildcard"
            )


def rename(
    names: Sequence[str], own: Sequence[str], rules: Mapping[str, str], dropped: Mapping[str, str] | None = None
) -> Renamed:
    """Rename a file's names (in its order) by rules for a network with the names `own` (in its order)."""
    found, left_over = Renamed(), []
    for name in names:
        why = next((why for left, why in (dropped or {}).items() if _matches(left, "~")(name)), None)
        if why is None:
            left_over.append(name)
        else:
            found.refused[name] = why
    for left, right in sorted(rules.items(), key=lambda rule: _rank(rule[0], rule[1])):
        chosen = [name for name in left_over if _matches(left, right)(name)]
        left_over = [name for name in left_over if name not in {*chosen}]
        if _in_order(left, right):
            _pair(chosen, [name for name in own if name not in {*found.names.values()}], left, right, found)
        else:
            found.names |= {name: _same_text(left, right, name) for name in chosen}
    found.names |= {name: name for name in left_over}
    return found


def _rank(left: str, right: str) -> int:
    """Return a key that sorts rules: patterns first, in their order, then prefixes, the longest first."""
    return 0 if _in_order(left, right) or "*" in left else 1_000 - len(left)


def _in_order(left: str, right: str) -> bool:
    return "~" in left + right


def _matches(left: str, right: str) -> Callable[[str], bool]:
    if _in_order(left, right):
        return lambda name: _layer_pattern(left).fullmatch(_layer(name)) is not None
    if "*" in left:
        return lambda name: _pattern(left).fullmatch(name) is not None
    return lambda name: name.startswith(left)


def _same_text(left: str, right: str, name: str) -> str:
    if "*" not in left:
        return right + name.removeprefix(left)
    match = _pattern(left).fullmatch(name)
    assert match is not None
    parts = right.split("*")
    return parts[0] + "".join(text + part for text, part in zip(match.groups(), parts[1:], strict=True))


def _pair(names: list[str], own: list[str], left: str, right: str, found: Renamed) -> None:
    """Pair the layers of `names` with those of `own` that match the right side, in order."""
    theirs = list(dict.fromkeys(map(_layer, names)))
    ours = list(dict.fromkeys(layer for layer in map(_layer, own) if _layer_pattern(right).fullmatch(layer)))
    why = ""
    if not ours:
        why = f"the network has no {right}"
    elif len(theirs) != len(ours):
        why = f"{left} is {len(theirs)} layers in the file, {right} {len(ours)} in the network"
    elif not _ascending(theirs):
        why = f"the layers {left} are not in the order of the network: the file was sorted by name"
    if why:
        found.refused |= dict.fromkeys(names, why)
        return
    place = dict(zip(theirs, ours, strict=True))
    for name in names:
        found.names[name] = f"{place[_layer(name)]}.{name.rpartition('.')[2]}"


def _ascending(layers: list[str]) -> bool:
    """Return whether numbers in names ascend: where two neighbours first differ, the second has the larger number."""
    for first, second in pairwise(layers):
        pairs = zip(first.split("."), second.split("."), strict=False)
        differing = next(((a, b) for a, b in pairs if a != b), ("", ""))
        if all(part.isdigit() for part in differing) and int(differing[0]) > int(differing[1]):
            return False
    return True


def _any(pattern: str, names: Iterable[str]) -> bool:
    return any(_layer_pattern(pattern).fullmatch(_layer(name)) for name in names)


@cache
def _layer(name: str) -> str:
    return name.rpartition(".")[0]


@cache
def _layer_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace("\\~", ".*").replace("~", ".*"))


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))))
