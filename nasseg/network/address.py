"""One address for an architecture everywhere: a variant, a family, a file, or STUDY#TRIAL."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasseg.errors import UserError
from nasseg.families import Arch, get_family, make_arch, variants
from nasseg.files import read_yaml
from nasseg.own_code import of_record
from nasseg.records import Measurement
from nasseg.study.store.trial_attributes import ARCH, MEASUREMENT


@dataclass(frozen=True)
class Resolved:
    """An arch, the published variant with the same network if there is one, and its known measurement."""

    arch: Arch
    variant: str | None
    measurement: Measurement | None = None


def resolve(address: str, overrides: Mapping[str, Any] | None = None, storage: str | None = None) -> Resolved:
    """Return the arch at an address, with fields replaced by `overrides`.

    Raises:
        UserError: nothing is there, or a field or its value is refused.
    """
    overrides = dict(overrides or {})
    measurement = None
    if "#" in address:
        settings, measurement, code = _of_trial(address, storage)
        with of_record(code):
            arch = get_family(settings.pop("family")).from_params({**settings, **overrides})
    elif Path(address).suffix in (".yaml", ".yml"):
        settings = dict(read_yaml(_file(address)).data)
        for key in settings:
            if not isinstance(key, str):
                raise UserError(f"{address}: a key is the name of a field, got {key!r}")
        name = settings.pop("variant", None) or settings.pop("family", None)
        if name is None:
            raise UserError(
                f"{address}: an architecture's file names its `family` or a `variant`, and fields that differ"
            )
        arch = make_arch(str(name), **{**settings, **overrides})
    else:
        arch = make_arch(address, **overrides)
    return Resolved(arch, _variant(arch), None if overrides else measurement)


def _file(address: str) -> Path:
    if not Path(address).is_file():
        raise UserError(f"no such file: {address}")
    return Path(address)


def _of_trial(address: str, storage: str | None) -> tuple[dict[str, Any], Measurement | None, dict[str, str]]:
    """Return family and fields of a trial's network, what is measured of it, and the study's own code by source."""
    from nasseg.study.store.read_study import open_record  # Optuna is slow to import, and only this address needs it

    name, _, number = address.rpartition("#")
    if not number.isdecimal() or len(number) > 9:
        raise UserError(f"a trial is addressed STUDY#NUMBER, got {address!r}")
    record = open_record(name, storage)
    trials, code = record.trials(), record.attributes().get("identity", {}).get("own code", {})
    trial = next((trial for trial in trials if trial.number == int(number)), None)
    if trial is None or ARCH not in trial.user_attrs:
        raise UserError(f"study {name!r} has no trial {number}; it holds {len(trials)}, numbered from 0")
    text = trial.user_attrs.get(MEASUREMENT)
    return json.loads(trial.user_attrs[ARCH]), Measurement.from_json(text) if text else None, code


def _variant(arch: Arch) -> str | None:
    same = (v.name for v in variants().values() if v.family == arch.family and make_arch(v.name) == arch)
    return next(same, None)
