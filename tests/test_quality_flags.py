"""docs/quality-flags.md: every mark of doubt is read where it says, and none of a record is missing."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from nasseg import records
from nasseg.study.store import trial_attributes

ROOT = Path(__file__).parents[1]
ROWS = [
    (match[1], match[2], re.findall(r"`(nasseg/[\w/]+\.py)`", match[3]))
    for match in re.finditer(
        r"^\| `(\w+)` \| (.*?) \| .*? \| (.*) \|$", (ROOT / "docs/quality-flags.md").read_text(), re.M
    )
]
SETTINGS = {"tf32", "cudnn_benchmark", "fold_bn"}  # of protocols
COUNTS = {"unpredicted", "uncounted", "unknown"}


@pytest.mark.parametrize(("mark", "of", "readers"), ROWS, ids=[f"{mark} of {of}" for mark, of, _ in ROWS])
def test_a_mark_is_read_where_the_list_says(mark, of, readers):
    names = {mark, str(getattr(trial_attributes, mark, mark))}
    assert readers
    for reader in readers:
        assert any(re.search(rf"\b{name}\b", (ROOT / reader).read_text()) for name in names), reader


def test_no_mark_of_a_record_is_missing():
    listed = {(mark, of) for mark, of, _ in ROWS}
    for part in ("Cost", "Latency", "Accuracy", "PublishedPoint"):
        for field in fields(getattr(records, part)):
            if field.type in (bool, "bool") or field.name in COUNTS:
                assert (field.name, part) in listed
    for protocol in ("CostProtocol", "LatencyProtocol", "AccuracyProtocol"):
        assert {f.name for f in fields(getattr(records, protocol)) if f.type in (bool, "bool")} <= SETTINGS
