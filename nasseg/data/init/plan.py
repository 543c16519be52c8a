"""The plan of a class table: patterns, classes and splits, as found by init."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasseg.data.class_table import SHAPES, Holds, Unknown


@dataclass
class Plan:
    """The content of a class table, its list files, and the reasons in words.

    rows, ignore: as in the table. splits: parts by split. lists: content of list files by name. labels: label files,
    one for each split unless `splits` names them.
    """

    images: str
    label_path: str
    hold: Holds
    rows: list[dict[str, Any]]
    ignore: list[Any]
    unknown: Unknown = "error"
    background: str | None = None
    labelled_only: bool = False
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def table(self, root: Path) -> str:
        """Return the text of the class table."""
        rows = "".join(f"  - {flow(row)}\n" for row in self.rows)
        ignore = flow({"titles" if self.hold in SHAPES else self.hold: self.ignore})
        background = f"background: {json.dumps(self.background)}  # pixels that no shape covers\n"
        only = "    labelled_only: true  # images without a label are left out\n" * self.labelled_only
        return (
            "# Written by nasseg init from what it found. Name the classes, check that the splits are as you want\n"
            "# them, and look at the result with nasseg data check.\n"
            f"root: {json.dumps(str(root))}\n"
            f"classes:  # in the order of the network's outputs\n{rows}"
            f"ignore: {ignore}  # what is no class, such as a border: move it here from the classes\n"
            f"{background * bool(self.background)}"
            f"unknown: {self.unknown}  # other label values: error, ignore, or nearest\n"
            "layouts:\n  own:\n"
            f"    images: {json.dumps(self.images)}\n"
            f"    labels: [{flow({'path': self.label_path, 'hold': self.hold})}]\n{only}"
            "    splits:  # train; val to choose by; test is held out, and used once\n"
            + "".join(f"      {split}: {flow(part)}\n" for split, part in self.splits.items())
        )


def flow(value: dict[str, Any]) -> str:
    """Return one line of YAML: JSON is YAML, but keys and simple words need no quotes."""
    return "{" + ", ".join(f"{key}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()) + "}"
