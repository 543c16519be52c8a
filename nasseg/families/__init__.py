"""The generator: five papers, one file each, and the published networks as rows of data.

The list of families is explicit. Variants are in `variants/<family>.yaml`, each with its citation. Listing them needs
no torch, which is imported with the first Arch.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nasseg.errors import UserError, unknown
from nasseg.own_code import load_code

if TYPE_CHECKING:
    from nasseg.families.arch import Arch, Feature, Segmenter

__all__ = [
    "FAMILIES",
    "PAPERS",
    "Arch",
    "Feature",
    "Segmenter",
    "Variant",
    "build_model",
    "get_family",
    "make_arch",
    "own_code_of",
    "variants",
]

_LIST = (  # name, where its Arch is, and its name in the paper if a paper describes it
    ("bisenetv2", "nasseg.families.bisenetv2:BiSeNetV2Arch", "BiSeNetV2"),
    ("stdc", "nasseg.families.stdc:STDCArch", "STDC"),
    ("eseg", "nasseg.families.eseg:ESegArch", "ESeg"),
    ("regseg", "nasseg.families.regseg:RegSegArch", "RegSeg"),
    ("dabnet", "nasseg.families.dabnet:DABNetArch", "DABNet"),
    ("backbone", "nasseg.families.backbones.backbone:BackboneArch", ""),
    ("composed", "nasseg.families.composed:ComposedArch", ""),
)
FAMILIES = {name: place for name, place, _ in _LIST}
PAPERS = {name: paper for name, _, paper in _LIST if paper}


def __getattr__(name: str) -> Any:
    if name not in ("Arch", "Feature", "Segmenter"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("nasseg.families.arch"), name)


@dataclass(frozen=True)
class Variant:
    """A published architecture: a row of data."""

    name: str
    family: str
    citation: str
    params: dict[str, Any]
    note: str = ""


def own_code_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of each of the user's own files that build a network, by its source. settings: with `family`.

    Raises:
        CodeError: one is not there, or may not run.
    """
    named = {str(settings.get(name, "")) for name in ("family", "encoder", "decoder")}
    return {source: load_code(source)[1] for source in sorted(named) if ":" in source}


def get_family(name: str) -> "type[Arch]":
    """Return the Arch class of a built-in family, or of a user's own: `file.py:Class` or `package.module:Class`.

    Raises:
        UserError: no family has that name, or the class is no Arch.
    """
    from nasseg.families.arch import Arch

    if ":" in name:
        arch_class, _ = load_code(name)
        if not (isinstance(arch_class, type) and issubclass(arch_class, Arch)):
            raise UserError(f"{name} is no family: it must be a subclass of nasseg.Arch, see docs/guide/extending.md")
        return arch_class
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    module, _, attribute = FAMILIES[name].partition(":")
    known: type[Arch] = getattr(importlib.import_module(module), attribute)
    return known


@cache
def variants() -> dict[str, Variant]:
    """Return every published architecture by name, in the order of the families."""
    found: dict[str, Variant] = {}
    for family in FAMILIES:
        path = Path(__file__).parent / "variants" / f"{family}.yaml"
        rows = yaml.safe_load(path.read_text()) if path.is_file() else {}
        for name, row in rows.items():
            if name in found:
                raise AssertionError(f"two variants are called {name}")
            found[name] = Variant(name, family, row["citation"], row.get("params") or {}, row.get("note", ""))
    return found


def make_arch(name: str, /, **params: Any) -> "Arch":
    """Return the arch of a variant or a family, with fields replaced by `params`.

    Raises:
        UserError: no variant or family has that name, a field does not exist, or its value is refused.
    """
    known = variants()
    if name in known:
        return get_family(known[name].family).from_params({**known[name].params, **params})
    if name in FAMILIES or ":" in name:
        return get_family(name).from_params(params)
    raise unknown("variant or family", name, [*known, *FAMILIES])


def build_model(arch: "Arch | str", num_classes: int = 19) -> "Segmenter":
    """Build the model in eval mode: [B, 3, H, W] -> logits [B, num_classes, H, W] at the input's size."""
    if num_classes < 1:
        raise UserError(f"num_classes must be at least 1, got {num_classes}")
    built = make_arch(arch) if isinstance(arch, str) else arch
    return built.build(num_classes).eval()


def arch_of(settings: dict[str, Any]) -> "Arch":
    return make_arch(settings["family"], **{name: value for name, value in settings.items() if name != "family"})
