"""The generator: five papers, one file each, and the published networks as rows of data.

`FAMILIES` is the explicit list. Variants live in `variants/<family>.yaml`, each row with its citation.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nasseg.errors import UserError, unknown
from nasseg.families.arch import Arch, Feature, Segmenter, create, field_names

__all__ = [
    "FAMILIES", "Arch", "Feature", "Segmenter", "Variant",
    "build_model", "create", "field_names", "get_family", "make_arch", "variants",
]  # fmt: skip

FAMILIES = {
    "bisenetv2": "nasseg.families.bisenetv2:BiSeNetV2Arch",
    "stdc": "nasseg.families.stdc:STDCArch",
    "eseg": "nasseg.families.eseg:ESegArch",
    "regseg": "nasseg.families.regseg:RegSegArch",
    "dabnet": "nasseg.families.dabnet:DABNetArch",
}


@dataclass(frozen=True)
class Variant:
    """A published architecture: a row of data."""

    name: str
    family: str
    citation: str
    params: dict[str, Any]
    note: str = ""


def get_family(name: str) -> type[Arch]:
    """The Arch class of a family.

    Raises:
        UserError: no family has that name.
    """
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    module, _, attribute = FAMILIES[name].partition(":")
    arch_class: type[Arch] = getattr(importlib.import_module(module), attribute)
    return arch_class


@cache
def variants() -> dict[str, Variant]:
    """Every published architecture by name, family by family."""
    found: dict[str, Variant] = {}
    for family in FAMILIES:
        rows = yaml.safe_load((Path(__file__).parent / "variants" / f"{family}.yaml").read_text())
        for name, row in rows.items():
            if name in found:
                raise AssertionError(f"two variants are called {name}")
            found[name] = Variant(name, family, row["citation"], row.get("params") or {}, row.get("note", ""))
    return found


def make_arch(name: str, **params: Any) -> Arch:
    """The arch of a variant or a family, with fields replaced by `params`.

    Raises:
        UserError: no variant or family has that name, or a field or its value is refused.
    """
    known = variants()
    if name in known:
        return create(get_family(known[name].family), {**known[name].params, **params})
    if name in FAMILIES:
        return create(get_family(name), params)
    raise unknown("variant or family", name, [*known, *FAMILIES])


def build_model(arch: Arch | str, num_classes: int = 19) -> Segmenter:
    """The model in eval mode: [B, 3, H, W] -> logits [B, num_classes, H, W] at input size."""
    if num_classes < 1:
        raise UserError(f"num_classes must be at least 1, got {num_classes}")
    built = make_arch(arch) if isinstance(arch, str) else arch
    return built.build(num_classes).eval()
