"""Checkpoints: everything a training needs to continue as if it had never stopped, in one file that is always complete.

A file holds only tensors and plain data, after their SHA-256. It is written beside the last one and takes its name in
one step, so a killed process or a full disk leaves the last one as it was.
"""

import hashlib
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

_HEAD = b"nasseg checkpoint 1\n"  # then the 32 bytes of the SHA-256 of the rest


class DamagedError(UserError):
    """A checkpoint whose content is not what was written."""


@dataclass
class Checkpoints:
    """The checkpoint of one training in the file `path`, for one process at a time.

    identity: what is trained, and how, as plain data; a file with another identity is refused. One is due every
    `every_steps` steps and every `every_seconds` seconds, whichever comes first. on_damaged: called if the file is
    damaged; the file is then set aside, and the training starts again. Without it, `read` raises.
    """

    path: Path
    identity: Mapping[str, Any]
    every_steps: int | None = None
    every_seconds: float = 300.0
    on_written: Callable[[Path], None] = lambda _path: None
    on_damaged: Callable[[str], None] | None = None
    step: int | None = None  # of the existing one, once it was read or written
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
        torch.save({"identity": dict(self.identity), "step": step, "state": dict(state)}, content)
        with written_whole(self.path) as partial, partial.open("wb") as file:
            file.write(_HEAD + hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # before it replaces the previous one: the machine may fail, too
        self.on_written(self.path)
        self.step, self._since = step, monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the last written state, on the CPU; None without a usable checkpoint.

        Raises:
            UserError: the file is damaged, or belongs to another training; or, with on_damaged, it cannot be set aside.
        """
        for leftover in self.path.parent.glob(
            f".{self.path.name}.*"
        ):  # left by a process that was killed while writing
            leftover.unlink()
        if not self.path.exists():
            return None
        try:
            return self._checked()
        except DamagedError as error:
            if self.on_damaged is None:
                raise UserError(f"{error}; remove the file to start again") from None
            aside = self.path.with_name(f"{self.path.name}.damaged")
            try:
                os.replace(self.path, aside)
            except OSError as reason:
                raise UserError(f"{error}, and cannot be set aside: {reason.strerror}") from None
            self.on_damaged(f"{error}; it was set aside as {aside.name}, and the training starts again")
            return None

    def _checked(self) -> dict[str, Any]:
        found = _read(self.path)
        known, wanted = found["identity"], dict(self.identity)
        for key in sorted({*known, *wanted}):
            if known.get(key) != wanted.get(key):
                raise UserError(
                    f"{self.path} belongs to another training: its {key} is {known.get(key)!r}, now it is "
                    f"{wanted.get(key)!r}; remove the file to start again"
                )
        self.step, self._since = found["step"], monotonic()
        state: dict[str, Any] = found["state"]
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def on_cpu(state: Any) -> Any:
    """Return a state (plain data and tensors) with the tensors on the CPU. Those already there are not copied."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: on_cpu(value) for key, value in state.items()}
    return type(state)(map(on_cpu, state)) if isinstance(state, list | tuple) else state


def without_checksum(content: bytes) -> bytes:
    """Return a checkpoint's content as torch wrote it; any other file's content as it is."""
    return content[len(_HEAD) + 32 :] if content.startswith(_HEAD) else content


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    head, body = content[: len(_HEAD) + 32], memoryview(content)[len(_HEAD) + 32 :]
    if not head.startswith(_HEAD):
        raise DamagedError(f"{path} is not a checkpoint of this version of nasseg")
    if head[len(_HEAD) :] != hashlib.sha256(body).digest():
        raise DamagedError(f"{path} is a damaged checkpoint: its SHA-256 is not what was written")
    found: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return found
