"""What every family must do. A family that is added to FAMILIES is tested here without a new line.

The checks themselves are nasseg.testing's. Networks that run are narrow; every published one is recorded on the meta
device.
"""

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest

from nasseg import testing
from nasseg.errors import UserError
from nasseg.families import FAMILIES, get_family, make_arch, variants
from nasseg.families.arch import ID_INPUT_SIZE, Arch
from nasseg.families.graph.identity import fingerprint
from nasseg.families.graph.recorder import record
from nasseg.network.measure import measure_address
from tests.families.cheap import CHEAP, OF_EACH
from tests.slow import slow

COSTLY = (testing.check_cost, testing.check_gradients, testing.check_id, testing.check_logits)
COMMITTED_IDS = Path(__file__).parent / "variant_ids.json"

every_variant = pytest.mark.parametrize("name", variants())


@cache
def ids():
    return {name: make_arch(name).id for name in variants()}


@pytest.mark.parametrize(
    ("family", "check"),
    [
        slow(family, check) if check in COSTLY and family not in ("regseg", "stdc") else (family, check)
        for family in FAMILIES
        for check in testing.CHECKS
    ],
)
def test_a_family_keeps_the_rules(family, check):
    check(get_family(family).from_params(CHEAP[family]))


@pytest.mark.slow
@every_variant
def test_gradients_reach_every_weight_of_what_is_published(name):
    """The published networks a quarter as wide, so that each option of a family is trained once."""
    if "width" in make_arch(name).params():
        testing.check_training(make_arch(name, width=0.25 * make_arch(name).width), 2, (64, 64))


@pytest.mark.parametrize("name", [name if name in OF_EACH else slow(name) for name in variants()])
def test_a_published_network_has_the_features_that_it_declares(name):
    testing.check_features(make_arch(name))


def test_published_rows_that_are_one_network_say_so():
    """All rows but one of a network have a note that says "same network"; else a field that should matter does not."""
    rows = defaultdict(list)
    for name, identity in json.loads(COMMITTED_IDS.read_text()).items():  # a test below holds that they are true
        rows[identity].append(name)
    for names in rows.values():
        silent = [name for name in names if "same network" not in variants()[name].note]
        assert len(silent) <= 1, f"{names} have one id; if that is meant, note it as the same network"


@pytest.mark.slow
def test_ids_are_equal_where_the_graphs_are():
    """Whatever the number of classes: the same rows are one network with 7 as with the 19 of the id."""
    graphs = {name: fingerprint(record(make_arch(name).build_meta(7), ID_INPUT_SIZE)) for name in variants()}
    for one in variants():
        for other in variants():
            assert (ids()[one] == ids()[other]) == (graphs[one] == graphs[other]), (one, other)


@pytest.mark.slow
def test_ids_of_the_variants_are_as_committed():
    """A changed id says that a published network changed. On purpose? NASSEG_REFRESH_IDS=1 writes the list anew."""
    found = ids()
    if os.environ.get("NASSEG_REFRESH_IDS"):
        COMMITTED_IDS.write_text(json.dumps(found, indent=1) + "\n")
    committed = json.loads(COMMITTED_IDS.read_text())
    changed = sorted(name for name in {*found, *committed} if found.get(name) != committed.get(name))
    assert not changed, f"{changed} differ; if that is meant, run this test once with NASSEG_REFRESH_IDS=1"


@dataclass(frozen=True, kw_only=True)
class Typed(Arch):
    """A family whose annotations are text, as under `from __future__ import annotations`."""

    family: ClassVar[str] = "typed"
    widths: "tuple[int, ...]" = (1, 2)
    ratio: "float" = 1.0

    def build(self, num_classes):
        raise NotImplementedError


def test_items_and_textual_annotations_are_checked_too():
    assert Typed(widths=[3, 4], ratio=2).params() == {"input_scale": 1.0, "widths": (3, 4), "ratio": 2.0}
    with pytest.raises(UserError, match="an item of typed: widths must be of type int, got 'x'"):
        Typed(widths=[3, "x"])
    with pytest.raises(UserError, match="typed: ratio must be of type float, got 'x'"):
        Typed(ratio="x")
    with pytest.raises(UserError, match="typed: widths must be of type tuple, got 3"):
        Typed(widths=3)


@pytest.mark.slow
@every_variant
def test_every_variant_is_measured_by_name(name):
    figures = measure_address(name)
    assert figures["variant"]
    assert figures["params"] > 0
    assert figures["macs"] > 0
    assert figures["arch_id"] == ids()[name]


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UserError, match="did you mean 'bisenetv2'"):
        make_arch("bisenet2")
