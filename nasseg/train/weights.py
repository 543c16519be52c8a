"""Weights on disk: written complete or not at all, identified by hash, read without running code from the file."""

import argparse
import codecs
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasseg.errors import MisfitError, UserError
from nasseg.files import written_whole
from nasseg.train.checkpoint import without_checksum
from nasseg.train.key_maps import check_rules, key_maps, rename

_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "weights", "state")
_NO_PLACE, _SHOWN = "the model has no ", 3
# Plain data in checkpoints besides tensors: argparse options, and numpy numbers, old and new.
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [argparse.Namespace, codecs.encode, np.dtype, *{type(np.dtype(code)) for code in "?bhilBHILefd"}]
_PLAIN += [(_SCALAR, f"numpy.{package}.multiarray.scalar") for package in ("core", "_core")]


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the state_dict atomically; return the SHA-256 of the file.

    Raises:
        OSError: it cannot be written (a full disk); an earlier file is still there.
    """
    return save_state(model.state_dict(), path)


def save_state(state: Mapping[str, Tensor], path: Path) -> str:
    """Write a state_dict atomically, see `save_weights`."""
    content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without a reason
    torch.save({name: tensor.cpu() for name, tensor in state.items()}, content)
    with written_whole(path) as partial:
        partial.write_bytes(content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()


@dataclass(frozen=True)
class Loaded:
    """The use made of starting weights.

    matched: loaded; skipped: in the file, but not in the model or of another shape (name -> why); missing: in the model
    only, left as initialised; sha256: of the file; source: the file in words, if its names identify it; notes: remarks
    for the reader; nearest: the first few names without a partner, each beside the most similar one of the other side.
    """

    matched: tuple[str, ...]
    skipped: dict[str, str]
    missing: tuple[str, ...]
    sha256: str
    source: str = ""
    notes: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return counts, then the tensors that were not loaded. Layers of one part with one reason share a line."""
        total = len(self.matched) + len(self.missing)
        found = [f"{len(self.matched)} of {total} tensors matched, {len(self.skipped)} skipped"]
        found += [f"taken for {self.source}"] if self.source else []
        found += [f"skipped {name}: {why}" for name, why in _together(self.skipped)]
        found += [f"missing {name}: {why}" for name, why in _together(dict.fromkeys(self.missing, "as initialised"))]
        return [*found, *self.nearest, *self.notes]


def _together(reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield names with the same reason and beginning as one: `conv_out16 (7 tensors)`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, why in reasons.items():
        groups.setdefault((name.removeprefix("module.").partition(".")[0], why), []).append(name)
    for (part, why), names in groups.items():
        yield (names[0] if len(names) == 1 else f"{part} ({len(names)} tensors)"), why


def load_weights(model: nn.Module, path: Path | str, key_map: Mapping[str, str] | None = None) -> Loaded:
    """Load a file of tensors into a model, by name and shape. A head for other classes keeps its initialisation.

    key_map: rules of patterns (see nasseg.train.key_maps); default: those found by the file's names. Names are looked
    up without `module.`. Files come from torch.save: a state_dict, one under a usual key, or a checkpoint of nasseg.

    Raises:
        UserError: there is no such file, it holds more than tensors, a rule is malformed, or no tensor fits the model.
    """
    check_rules(key_map or {})
    content = _read(Path(path))
    state, sha256 = _tensors(Path(path), content), hashlib.sha256(content).hexdigest()
    own, names = model.state_dict(), {key: key.removeprefix("module.") for key in state}
    known = None
    if not key_map and not any(name in own for name in names.values()):
        known = next((one for one in key_maps() if one.fits(names.values(), own)), None)
    for layer, parts in (known.joined if known else {}).items():
        _join(state, names, layer, parts)
    rules, dropped = (known.rules, known.dropped) if known else (key_map or {}, {})
    renamed = rename([*names.values()], [*own], rules, dropped)
    taken: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for key, tensor in state.items():
        if names[key] in renamed.refused:
            skipped[key] = renamed.refused[names[key]]
            continue
        name = renamed.names[names[key]]
        if name not in own:
            skipped[key] = f"{_NO_PLACE}{name}"
        elif own[name].shape != tensor.shape:
            skipped[key] = f"its shape is {list(tensor.shape)}, the model's is {list(own[name].shape)}"
        else:
            taken[name] = tensor
    missing = tuple(name for name in own if name not in taken)
    strange = {key: state[key] for key, why in skipped.items() if why.startswith(_NO_PLACE)}
    nearest = tuple(_nearest(strange, {name: own[name] for name in missing}))
    if not taken:
        reasons = "; ".join(nearest or sorted({*skipped.values()})) or "the file holds nothing"
        raise MisfitError(
            f"no tensor of {path} fits the model. {reasons}; give a map of patterns from the file to the model with "
            "--init-map"
        )
    model.load_state_dict(taken, strict=False)
    notes = (known.note,) if known and known.note else ()
    return Loaded(tuple(taken), skipped, missing, sha256, known.source if known else "", notes, nearest)


def load_whole(model: nn.Module, path: Path | str, key_map: Mapping[str, str] | None = None) -> Loaded:
    """Load weights that must fill the whole model: nothing evaluated, exported or timed may be partly random.

    Raises:
        UserError: as load_weights, or a tensor of the model is not in the file.
    """
    found = load_weights(model, path, key_map)
    if found.missing:
        reasons = [line for line in found.lines() if line.startswith(("skipped", "missing"))]
        more = f"; and {len(reasons) - 6} more" if len(reasons) > 6 else ""
        more += "".join(f"; {line}" for line in found.nearest)
        raise UserError(
            f"{path} does not fill this network: {len(found.missing)} of its {len(found.matched) + len(found.missing)} "
            f"tensors are not in it. {'; '.join(reasons[:6])}{more}. Give the network and number of classes that "
            "the weights were trained with, or a map with --init-map"
        )
    return found


def load_strictly(model: nn.Module, content: bytes, name: str) -> nn.Module:
    """Return the model with the weights of a state_dict's file. `name` names them in errors.

    Raises:
        UserError: it is no state_dict, or belongs to another network.
    """
    try:
        model.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Exception as error:  # torch's errors for a damaged file have no common type
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name} do not belong to this network: {type(error).__name__}: {reason}") from None
    return model


def _join(state: dict[str, Tensor], names: dict[str, str], layer: str, parts: Sequence[str]) -> None:
    """Replace convolutions whose results are summed by one that does the same on their joined maps."""
    keys = {name: key for key, name in names.items()}
    both = [[keys.get(f"{part}.{kind}", "") for part in parts] for kind in ("weight", "bias")]
    weights, biases = ([state[key] for key in of_kind if key] for of_kind in both)
    if len(weights) < len(parts) or len({(len(one), *one.shape[2:]) for one in weights}) > 1:
        return
    for key in (key for of_kind in both for key in of_kind if key):
        del state[key], names[key]
    state[f"{layer}.weight"] = torch.cat(weights, 1)
    if biases:
        state[f"{layer}.bias"] = torch.stack(biases).sum(0)
    names.update({key: key for key in (f"{layer}.weight", f"{layer}.bias") if key in state})


def _nearest(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the first names of a file, then of a model, each beside the most similar one of the other side.

    It prefers names with the same shape.
    """
    pairs = dict.fromkeys((name, _most_similar(name, theirs, ours)) for name in list(theirs)[:_SHOWN] if ours)
    pairs |= dict.fromkeys((_most_similar(name, ours, theirs), name) for name in list(ours)[:_SHOWN] if theirs)
    for their, our in pairs:
        yield f"{their} {list(theirs[their].shape)} is nearest to {our} {list(ours[our].shape)}"


def _most_similar(name: str, own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> str:
    alike = [other for other in others if others[other].shape == own[name].shape] or [*others]
    return max(alike, key=lambda other: SequenceMatcher(None, name, other).ratio())


def weights_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file of weights.

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
        with torch.serialization.safe_globals(_PLAIN):
            found = torch.load(io.BytesIO(without_checksum(content)), map_location="cpu", weights_only=True)
    except Exception as error:  # for a damaged file, the reader may raise almost anything
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path} holds no plain tensors ({reason}); save model.state_dict() with torch.save") from None
    while isinstance(found, dict) and (name := next((n for n in _WRAPPERS if isinstance(found.get(n), dict)), "")):
        found = found[name]
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UserError(f"{path} holds no state_dict: a mapping of names to tensors was expected")
    return found
