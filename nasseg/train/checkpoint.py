"""Checkpoints: everything a training needs to continue as if it had never stopped, in one file that is always whole.

A file holds tensors and plain data only. It is written beside the previous one and takes its name in one step, so that
a full disk, or a process killed at any moment, leaves the previous one intact.
"""

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from nasseg.errors import UserError
from nasseg.files import written_whole

FORMAT = 1


@dataclass
class Checkpoints:
    """The checkpoint of one training in the file `path`, used by one process at a time.

    identity: the training as plain data; a file with another identity is refused. A checkpoint is due every
    `every_steps` steps and every `every_seconds` seconds, whichever comes first.
    """

    path: Path
    identity: Mapping[str, Any]
    every_steps: int | None = None
    every_seconds: float = 300.0
    on_written: Callable[[Path], None] = lambda _path: None
    step: int | None = None  # of the checkpoint on disk, once read or written
    _since: float = field(default_factory=monotonic, repr=False)

    def due(self, step: int) -> bool:
        steps = step - (self.step or 0)
        return (self.every_steps is not None and steps >= self.every_steps) or (
            monotonic() - self._since >= self.every_seconds
        )

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Raises:
            OSError: it cannot be written; the previous one is still there.
        """
        content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without a reason
        torch.save({"format": FORMAT, "identity": dict(self.identity), "step": step, "state": dict(state)}, content)
        with written_whole(self.path) as partial, partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # before it replaces the previous one: the machine may fail, too
        self.on_written(self.path)
        self.step, self._since = step, monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state last written, on the CPU; None without a checkpoint.

        Raises:
            UserError: the file is damaged, or another training's.
        """
        for leftover in self.path.parent.glob(
            f".{self.path.name}.*"
        ):  # left by a process that was killed while writing
            leftover.unlink()
        if not self.path.exists():
            return None
        found = _read(self.path)
        known, wanted = found["identity"], dict(self.identity)
        for key in sorted({*known, *wanted}):
            if known.get(key) != wanted.get(key):
                raise UserError(
                    f"{self.path} is of another training: its {key} is {known.get(key)!r}, now it is "
                    f"{wanted.get(key)!r}; remove the file to begin anew"
                )
        self.step, self._since = found["step"], monotonic()
        state: dict[str, Any] = found["state"]
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except Exception as error:  # for a damaged file the reader may raise almost anything
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path} is no checkpoint ({reason}); remove it to begin anew") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of this version of nasseg; remove it to begin anew")
    return found
