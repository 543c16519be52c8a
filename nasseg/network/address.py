"""One kind of address for architectures everywhere: a variant, a family, a file, or something trained.

For something trained, see nasseg.study.store.trained: a run's folder or file, STUDY#TRIAL, TABLE#ROW.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasseg.errors import UserError
from nasseg.families import Arch, get_family, make_arch, own_code_of, variants
from nasseg.files import read_yaml
from nasseg.own_code import of_record
from nasseg.records import Measurement
from nasseg.study.store.trained import WEIGHTS, Trained, find_trained, is_trained_address


@dataclass(frozen=True)
class Resolved:
    """An arch, the published variant with the same network, and its known measurements.

    trained: what is at the address, if it is of something trained (or only measured, in a study). family: as in
    settings, FILE.py:CLASS for a user's own. code: the user's own code that builds it, as hash by source.
    """

    arch: Arch
    variant: str | None
    measurement: Measurement | None = None
    trained: Trained | None = None
    family: str = ""
    code: Mapping[str, str] = field(default_factory=dict)


def resolve(address: str, overrides: Mapping[str, Any] | None = None, storage: str | None = None) -> Resolved:
    """Return the arch at an address, with fields replaced by `overrides`.

    Raises:
        UserError: nothing is there, or a field or its value is refused.
    """
    overrides = dict(overrides or {})
    if is_trained_address(address):
        trained = find_trained(address, storage)
        settings = dict(trained.settings)
        name = settings.pop("family")
        with of_record(trained.code):
            arch = get_family(name).from_params({**settings, **overrides})
            code = own_code_of({"family": name, **arch.params()})
        return Resolved(arch, _variant(arch), None if overrides else trained.measurement, trained, str(name), code)
    if Path(address).suffix in (".yaml", ".yml"):
        settings = dict(read_yaml(_file(address)).data)
        for key in settings:
            if not isinstance(key, str):
                raise UserError(f"{address}: a key must be the name of a field, got {key!r}")
        name = settings.pop("variant", None) or settings.pop("family", None)
        if name is None:
            raise UserError(
                f"{address}: an architecture's file names its `family` or a `variant`, and the fields that differ"
            )
        arch = make_arch(str(name), **{**settings, **overrides})
    elif Path(address).suffix in WEIGHTS or Path(address).is_dir():
        raise UserError(
            f"{address} is no finished run: there is no result.json beside its weights. Resume an unfinished run "
            "with `nasseg train --resume`; for weights from elsewhere, give the network and --init"
        )
    else:
        name, arch = address, make_arch(address, **overrides)
    family = str(name) if ":" in str(name) else arch.family
    return Resolved(arch, _variant(arch), family=family, code=own_code_of({"family": family, **arch.params()}))


def _file(address: str) -> Path:
    if not Path(address).is_file():
        raise UserError(f"no such file: {address}")
    return Path(address)


def _variant(arch: Arch) -> str | None:
    same = (v.name for v in variants().values() if v.family == arch.family and make_arch(v.name) == arch)
    return next(same, None)
