"""nasseg: explore design spaces of real-time segmentation networks.

Names are imported on first use, so importing nasseg is quick and a report needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nasseg.version import __version__ as __version__

if TYPE_CHECKING:
    from nasseg.analyse.front import pareto_front
    from nasseg.families import Arch, build_model, make_arch
    from nasseg.measure.cost import measure_cost
    from nasseg.measure.latency.attempts import measure_latency
    from nasseg.report import write_report
    from nasseg.space import load_space
    from nasseg.study.opened import open_study
    from nasseg.study.search.run_study import run_study
    from nasseg.study.store.read_study import read_study
    from nasseg.study.study_file import load_study

_HOMES = {
    "Arch": "nasseg.families",
    "make_arch": "nasseg.families",
    "build_model": "nasseg.families",
    "measure_cost": "nasseg.measure.cost",
    "measure_latency": "nasseg.measure.latency.attempts",
    "load_space": "nasseg.space",
    "load_study": "nasseg.study.study_file",
    "open_study": "nasseg.study.opened",
    "read_study": "nasseg.study.store.read_study",
    "run_study": "nasseg.study.search.run_study",
    "pareto_front": "nasseg.analyse.front",
    "write_report": "nasseg.report",
}

__all__ = [
    "Arch",
    "build_model",
    "load_space",
    "load_study",
    "make_arch",
    "measure_cost",
    "measure_latency",
    "open_study",
    "pareto_front",
    "read_study",
    "run_study",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nasseg' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
