"""Make an Optuna sampler from its name and options."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler
from optuna.search_space.group_decomposed import _SearchSpaceGroup

from nasseg.errors import UserError, unknown
from nasseg.space import Space
from nasseg.study.propose.ehvi_sampler import EHVISampler
from nasseg.study.propose.graph_features import Points

MAX_FINISHED = 400
_SHORT = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "gp": "GPSampler",
    "qmc": "QMCSampler",
}


def make_sampler(
    name: str, options: Mapping[str, Any], seed: int, points: Points | None = None
) -> optuna.samplers.BaseSampler:
    """Make `ehvi`, or an Optuna sampler by its class name or short name.

    TPE is multivariate and grouped unless options say otherwise. points: those that `ehvi` chooses from.

    Raises:
        UserError: no such sampler, or an option it does not take.
    """
    if name.lower() == "ehvi":
        if options:
            raise UserError(f"sampler ehvi takes no options, got {', '.join(options)}; drop them")
        assert points is not None, "ehvi needs points to choose from"
        return EHVISampler(points, seed)
    classes = {n: c for n, c in vars(optuna.samplers).items() if inspect.isclass(c) and n.endswith("Sampler")}
    class_name = _SHORT.get(name.lower(), name)
    if class_name not in classes or class_name == "BaseSampler":
        raise unknown("sampler", name, ["ehvi", *_SHORT, *classes])
    sampler: Any = classes[class_name]
    known = inspect.signature(sampler).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of {class_name}", option, known)
    if (population := options.get("population_size") or 0) > MAX_FINISHED:
        raise UserError(
            f"population_size is at most {MAX_FINISHED}, the number of trials that a sampler sees, got {population}"
        )
    merged: dict[str, Any] = {"seed": seed} if "seed" in known else {}
    if class_name == "TPESampler":
        merged |= {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 8}
    try:
        # Silence Optuna's warnings on experimental features: these options were chosen on purpose.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made: optuna.samplers.BaseSampler = sampler(**{**merged, **options})
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"sampler {class_name} refuses its options {dict(options)}: {error}") from None
    groups = getattr(made, "_group_decomposed_search_space", None)
    if groups is not None:
        groups._search_space = _Groups()
    return made


def check_sampler(sampler: optuna.samplers.BaseSampler, space: Space) -> None:
    """Refuse a genetic sampler in a space most of whose parameters are under conditions.

    Optuna's genetic samplers cross the parameters that all networks have and draw the others at random: this would be
    random search under another name.

    Raises:
        UserError: the sampler is genetic, and more than half of the parameters that vary are under `when`.
    """
    varied = [parameter for parameter in space.parameters.values() if len(parameter.values) > 1]
    gated = [parameter.name for parameter in varied if parameter.when]
    if isinstance(sampler, BaseGASampler) and 2 * len(gated) > len(varied):
        raise UserError(
            f"{type(sampler).__name__} crosses only parameters that every network has, and in space {space.name} "
            f"{len(gated)} of {len(varied)} are under `when` (such as {gated[0]}): those it would draw at random; "
            "choose tpe, or a space with fewer conditions"
        )


class _Groups(_SearchSpaceGroup):
    """Optuna's groups of parameters that occur together; names that were added are not added again.

    Optuna adds all trials anew for each proposal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._added: set[frozenset[str]] = set()

    def add_distributions(self, distributions: dict[str, BaseDistribution]) -> None:
        names = frozenset(distributions)
        if names not in self._added:
            self._added.add(names)
            super().add_distributions(distributions)
