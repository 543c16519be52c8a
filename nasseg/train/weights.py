"""Weights on disk: written whole or not at all, named by their hash, read without running what is in the file."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nasseg.errors import MisfitError, UserError
from nasseg.files import written_whole

_WRAPPERS = ("state_dict", "model", "model_state_dict")


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the state_dict atomically; returns the SHA-256 of the file.

    Raises:
        OSError: it cannot be written (a full disk); what was there before is still there.
    """
    content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without a reason
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, content)
    with written_whole(path) as partial:
        partial.write_bytes(content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()


@dataclass(frozen=True)
class Loaded:
    """What became of starting weights. matched: taken; skipped: in the file, but not in the model or of another shape
    (name -> why); missing: of the model, as they were initialised; sha256: of the file.
    """

    matched: tuple[str, ...]
    skipped: dict[str, str]
    missing: tuple[str, ...]
    sha256: str

    def lines(self) -> list[str]:
        """For the reader: counts, then every tensor that was not taken."""
        total = len(self.matched) + len(self.missing)
        found = [f"{len(self.matched)} of {total} tensors matched, {len(self.skipped)} skipped"]
        found += [f"skipped {name}: {why}" for name, why in self.skipped.items()]
        return found + [f"missing {name}: as initialised" for name in self.missing]


def load_weights(model: nn.Module, path: Path | str, key_map: Mapping[str, str] | None = None) -> Loaded:
    """Start a model from a file of tensors, by name and shape; a head for other classes keeps its initialisation.

    key_map: prefix of the file -> prefix of the model, the longest that fits; names are looked for without `module.`
    first. Files are those of torch.save, a state_dict or one under `state_dict`, `model` or `model_state_dict`.

    Raises:
        UserError: no such file, not of tensors only, or nothing in it fits the model.
    """
    content = _read(Path(path))
    state, sha256 = _tensors(Path(path), content), hashlib.sha256(content).hexdigest()
    own = model.state_dict()
    prefixes = sorted(key_map or {}, key=len, reverse=True)
    taken: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for key, tensor in state.items():
        name = key.removeprefix("module.")
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if key_map and prefix is not None:
            name = key_map[prefix] + name.removeprefix(prefix)
        if name not in own:
            skipped[key] = f"the model has no {name}"
        elif own[name].shape != tensor.shape:
            skipped[key] = f"it is {list(tensor.shape)}, the model's is {list(own[name].shape)}"
        else:
            taken[name] = tensor
    if not taken:
        example = f"{next(iter(state), 'nothing')!r} in the file, {next(iter(own), 'nothing')!r} in the model"
        raise MisfitError(f"no tensor of {path} fits the model ({example}); give a key map from the file to the model")
    model.load_state_dict(taken, strict=False)
    missing = tuple(name for name in own if name not in taken)
    return Loaded(tuple(taken), skipped, missing, sha256)


def weights_hash(path: Path | str) -> str:
    """The SHA-256 of a file of weights.

    Raises:
        UserError: it cannot be read.
    """
    return hashlib.sha256(_read(Path(path))).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}") from None


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise almost anything
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path} holds no plain tensors ({reason}); save model.state_dict() with torch.save") from None
    for name in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UserError(f"{path} holds no state_dict: a mapping of names to tensors was expected")
    return found
