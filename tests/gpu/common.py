"""What the steps of the agenda share: settings, networks, and results that are on disk as soon as they are known."""

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nasseg.families import Arch, make_arch, variants
from nasseg.measure.environment import environment

FAMILIES = ("bisenetv2", "stdc", "eseg", "regseg", "dabnet")
PUBLISHED = {  # the network that each paper is known by
    "bisenetv2": "bisenetv2",
    "stdc": "stdc1-seg",
    "eseg": "eseg-lite-s",
    "regseg": "regseg",
    "dabnet": "dabnet",
}


@dataclass(frozen=True)
class Options:
    """device: cuda, cuda:N or cpu. tiny: the same code on few small networks and images. seconds: for each step.

    data: the folder of CamVid; procedural scenes without it. train_steps: of each run on CamVid.
    """

    device: str
    tiny: bool
    seconds: float
    data: Path | None = None
    train_steps: int = 800
    seeds: int = 3

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")


@dataclass
class Deadline:
    """A step begins nothing new after it; what it then leaves out is counted."""

    seconds: float
    left_out: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def allows(self, what: str) -> bool:
        allowed = time.monotonic() - self.begun < self.seconds
        if not allowed:
            self.left_out.append(what)
        return allowed


def published(options: Options) -> dict[str, Arch]:
    """Every published variant by name, those that the papers are known by first; tiny: narrow forms of two."""
    if options.tiny:
        return {f"{name}, width 0.25": make_arch(name, width=0.25) for name in ("regseg", "bisenetv2")}
    return {name: make_arch(name) for name in [*PUBLISHED.values(), *variants()]}


class Results:
    """Rows of a step: a CSV file that grows with each, and a JSON file of all when the step is over.

    The JSON file also holds the command, the protocol, the environment and the summary.
    """

    def __init__(self, folder: Path, step: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.csv_path, self.json_path = (folder / f"{step}.{suffix}" for suffix in ("csv", "json"))
        self.rows: list[dict[str, Any]] = []
        self.begun = time.monotonic()
        for path in (self.csv_path, self.json_path):
            path.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.csv_path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            if len(self.rows) == 1:
                writer.writeheader()
            writer.writerow(row)

    def finish(self, command: str, protocol: dict[str, Any], summary: dict[str, Any], left_out: list[str]) -> None:
        whole = {
            "command": command,
            "protocol": protocol,
            "environment": asdict(environment()),
            "seconds": round(time.monotonic() - self.begun, 1),
            "left out for lack of time": left_out,
            "summary": summary,
            "rows": self.rows,
        }
        self.json_path.write_text(json.dumps(whole, indent=1, default=str) + "\n")


Rows = Iterator[dict[str, Any]]
