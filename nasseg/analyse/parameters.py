"""Statistics over the networks of a study: how much each parameter matters, and how its values compare at equal cost.

Only finished networks that the search chose itself count. Copies, and published networks that ran beside it, are left
out. A parameter belongs to a family. Networks in which it is not active do not count for it.

The importance of a parameter is an analysis of variance over the networks in which it is active. The objective is
modelled as a trend in the cost, quadratic in its logarithm, plus one term for each value of the parameter. The
parameter's share is the variance that its terms explain, less what as many random terms would explain, over the
variance between networks of equal cost. Other parameters are not held equal, because then none could make up for the
cost: they vary as the search drew them. Intervals of shares are those of the noncentral F distribution (Steiger,
"Beyond the F test", 2004); p-values are corrected for the number of parameters (Holm, 1979). A search that learns does
not draw independently, so read both with care.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from nasseg.analyse.front import Floats
from nasseg.analyse.trials import outcome, trial_figures
from nasseg.errors import unknown
from nasseg.records import StudyRecord

OTHER = "other"
MOST_LEVELS = 8  # values of a parameter kept apart; beyond that, ranges of numbers, or "other"
NEGLIGIBLE = 0.02  # smaller shares count as none
LEVEL = 0.05  # 95 % intervals; a parameter matters below this p
_SPARE = 10  # degrees of freedom needed for an estimate
_BINS = 6  # bins of cost, within which distributions are compared

Verdict = Literal["matters", "hardly matters", "undecided"]


@dataclass(frozen=True)
class Population:
    """The networks that a search chose and finished, one per row; the index is the trial's place in the study.

    `figures`: number, family, and the target and cost by name. `choices`: a column for each parameter that varies, as
    ordered categories, missing where it is not active; "family" comes first if there are several. With several
    families, a column's name begins with the family. `target` is the objective to explain; `cost` is None if no cost is
    known.
    """

    figures: pd.DataFrame
    choices: pd.DataFrame
    target: str
    maximise: bool
    cost: str | None

    @property
    def families(self) -> list[str]:
        return sorted(self.figures["family"].unique())

    def family_of(self, parameter: str) -> str | None:
        """Return the family that a parameter belongs to; None for the family itself."""
        if parameter == "family":
            return None
        families = self.families
        return families[0] if len(families) == 1 else next(f for f in families if parameter.startswith(f"{f}."))

    @cached_property
    def fits(self) -> "dict[str, Fit]":
        """The fit of each parameter, by name."""
        return {name: _fit(self, name) for name in map(str, self.choices)}


@dataclass(frozen=True)
class Fit:
    """The effect of one parameter on the target.

    NaN if there are too few networks, or if the value determines the cost.

    rest: by row, the target of each network in which the parameter is active, less that of the average network of equal
    cost. levels, counts, effects, low, high [k]: by value, the target less that of the average network of equal cost.
    best and worst are levels. `gain`: how much better the best is than the worst, with an interval that allows for
    choosing them.
    """

    n: int
    rest: pd.Series
    levels: list[str]
    counts: NDArray[np.int64]
    effects: Floats
    low: Floats
    high: Floats
    share: float = math.nan
    share_low: float = math.nan
    share_high: float = math.nan
    p: float = math.nan
    best: str | None = None
    worst: str | None = None
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan


def population_of(record: StudyRecord, target: str | None = None, cost: str | None = None) -> Population:
    """Return the study's own finished networks.

    target: an objective; default: the first that is maximised. cost: the figure to hold equal, by its name in
    objectives and limits; default: multiply-adds if known, else parameters, else latency.

    Raises:
        UserError: no such objective.
    """
    objectives = {objective.name: objective for objective in record.objectives}
    gains = [o.name for o in record.objectives if o.direction == "maximize"]
    target = target or (gains or list(objectives))[0]
    if target not in objectives:
        raise unknown("objective", target, list(objectives))
    rows = [i for i, t in enumerate(record.trials) if outcome(t) == "finished" and "published" not in t.extra]
    known = {i: trial_figures(record.trials[i]) for i in rows}
    rows = [i for i in rows if math.isfinite(known[i].get(target, math.nan))]
    candidates = [cost] if cost else ["macs", "params", "latency_ms"]
    costs = [c for c in candidates if c != target and rows and all(known[i].get(c, 0) > 0 for i in rows)]
    names = [target, *costs[:1]]
    families = [str((record.trials[i].arch or {}).get("family", "unknown")) for i in rows]
    columns: dict[str, Any] = {"number": [record.trials[i].number for i in rows], "family": families}
    columns |= {name: np.array([known[i][name] for i in rows], dtype=np.float64) for name in names}
    return Population(
        figures=pd.DataFrame(columns, index=rows),
        choices=_choices({i: record.trials[i].params for i in rows}, dict(zip(rows, families, strict=True))),
        target=target,
        maximise=objectives[target].direction == "maximize",
        cost=costs[0] if costs else None,
    )


def importance_frame(population: Population) -> pd.DataFrame:
    """Return a row for each parameter, the most important first.

    Columns: parameter, family, n (networks in which it is active), values, share of the differences at equal cost with
    its interval low..high, p (corrected for the number of parameters), verdict, best, worst, and how much better the
    target is at the best value than at the worst: gain, gain_low, gain_high.
    """
    fits = population.fits
    rows = []
    for (name, fit), p in zip(fits.items(), _holm([fit.p for fit in fits.values()]), strict=True):
        shares = (fit.share, fit.share_low, fit.share_high, p, _verdict(fit, p))
        ends = (fit.best, fit.worst, fit.gain, fit.gain_low, fit.gain_high)
        rows.append((name, population.family_of(name), fit.n, len(fit.levels), *shares, *ends))
    columns = ["parameter", "family", "n", "values", "share", "low", "high", "p", "verdict"]
    frame = pd.DataFrame(rows, columns=[*columns, "best", "worst", "gain", "gain_low", "gain_high"])
    return frame.sort_values("share", ascending=False, kind="stable", na_position="last").reset_index(drop=True)


def effects_frame(population: Population) -> pd.DataFrame:
    """Return a row for each value of each parameter.

    Columns: parameter, family, value, n, effect, low, high (in the target's unit). The effect is the target of networks
    with that value, less that of the average network of equal cost.
    """
    parts = [
        pd.DataFrame(
            {
                "parameter": name,
                "family": population.family_of(name),
                "value": fit.levels,
                "n": fit.counts,
                "effect": fit.effects,
                "low": fit.low,
                "high": fit.high,
            }
        )
        for name, fit in population.fits.items()
    ]
    columns = ["parameter", "family", "value", "n", "effect", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def edf_frame(population: Population, by: str) -> pd.DataFrame:
    """Return the distribution of the target at equal cost for each value of a parameter, or for each family.

    Costs are cut into bins of equally many networks. Only bins in which every value occurs count, and each counts
    equally for every value: so a value does not look better because it was drawn with larger networks (the weights of
    Radosavovic et al., "On Network Design Spaces for Visual Recognition", 2019). If no bin has all values, all networks
    count as drawn, and `bin` is -1.

    Columns: row (the trial's place), value, target, bin, weight, share (of weight at or below the target), sorted by
    value and target.
    """
    if by not in population.choices:
        raise unknown("parameter", by, list(map(str, population.choices)))
    choice = population.choices[by].dropna()
    choice = choice.cat.remove_unused_categories()
    frame = pd.DataFrame({"row": choice.index, "value": choice.to_numpy(), "target": _column(population, choice.index)})
    frame["value"] = pd.Categorical(frame["value"], categories=choice.cat.categories, ordered=True)
    frame["bin"] = _bins(population, choice.index)
    common = frame.groupby("bin")["value"].nunique() == len(choice.cat.categories)
    equal = population.cost is not None and bool(common.any())
    frame = frame[frame["bin"].map(common)] if equal else frame.assign(bin=-1)
    frame["weight"] = weights(frame["value"].cat.codes.to_numpy(), frame["bin"].to_numpy())
    frame = frame.sort_values(["value", "target", "row"], kind="stable").reset_index(drop=True)
    frame["share"] = frame.groupby("value", observed=True)["weight"].cumsum().clip(upper=1.0)
    return frame


def weights(group: NDArray[Any], bins: NDArray[Any]) -> Floats:
    """Return weights [n] that add up to 1 in each group, with equal sums in each of the group's bins."""
    frame = pd.DataFrame({"group": group, "bin": bins})
    inside = frame.groupby(["group", "bin"])["bin"].transform("size")
    return (1.0 / (inside * frame.groupby("group")["bin"].transform("nunique"))).to_numpy()


def _choices(params: dict[int, dict[str, Any]], families: dict[int, str]) -> pd.DataFrame:
    several = len(set(families.values())) > 1
    values: dict[str, dict[int, Any]] = {}
    for row, chosen in params.items():
        family = families[row]
        for name, value in chosen.items():
            if name != "family":
                key = name.removeprefix(f"{family}.")
                values.setdefault(f"{family}.{key}" if several else key, {})[row] = value
    columns = {"family": _levels(pd.Series(families))} if several else {}
    found = {name: _levels(pd.Series(column, dtype=object)) for name, column in sorted(values.items())}
    # A text that differs between most networks has no values to compare.
    told = {name: column for name, column in found.items() if (column != OTHER).mean() >= 0.5}
    columns |= {name: column for name, column in told.items() if len(column.cat.categories) > 1}
    return pd.DataFrame({name: column.reindex(list(params)) for name, column in columns.items()}, index=list(params))


def _levels(values: pd.Series) -> pd.Series:
    """Sort values into a few ordered categories: many numbers become ranges, rare names among many "other"."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float}:
        numbers = values.astype(float)
        distinct = np.unique(numbers)
        if len(distinct) > MOST_LEVELS:
            edges = np.unique(np.quantile(numbers, np.linspace(0, 1, 6), method="inverted_cdf"))
            part = np.searchsorted(edges[1:-1], numbers, side="left")
            spans = [numbers[part == i] for i in range(len(edges) - 1)]
            names = [_span(float(span.min()), float(span.max())) for span in spans]
            return pd.Series(pd.Categorical([names[i] for i in part], names, ordered=True), values.index)
        return pd.Series(pd.Categorical(numbers.map(_text), [_text(v) for v in distinct], ordered=True), values.index)
    texts = values.map(_text)
    order = sorted(texts.unique(), key=lambda text: (text != "no", text))  # "no" before "yes"
    if len(order) > MOST_LEVELS:
        common = texts.value_counts(sort=True).sort_index().nlargest(MOST_LEVELS - 1, keep="first").index
        texts, order = texts.where(texts.isin(common), OTHER), [*sorted(set(common) - {OTHER}), OTHER]
    return pd.Series(pd.Categorical(texts, order, ordered=True), values.index)


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _text(value: Hashable) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _column(population: Population, rows: pd.Index) -> Floats:
    return population.figures.loc[rows, str(population.target)].to_numpy(dtype=np.float64)


def _bins(population: Population, rows: pd.Index) -> NDArray[np.int64]:
    if population.cost is None or not len(rows):
        return np.full(len(rows), -1)
    cost = population.figures.loc[rows, population.cost].to_numpy()
    edges = np.unique(np.quantile(cost, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.searchsorted(edges, cost, side="left")


def _fit(population: Population, name: str) -> Fit:
    choice = population.choices[name].dropna()
    choice = choice.cat.remove_unused_categories()
    y, own = _column(population, choice.index), _one_hot(choice)
    trend = np.ones((len(y), 1))
    if population.cost is not None:
        size = np.log(population.figures.loc[choice.index, str(population.cost)].to_numpy(dtype=np.float64))
        size = (size - size.mean()) / (size.std() or 1.0)
        trend = np.stack([np.ones(len(y)), size, size**2], axis=1)
    levels, counts = list(map(str, choice.cat.categories)), own.sum(axis=0).astype(np.int64)
    basis = _basis(trend)
    y0, own0 = _without(basis, y), _without(basis, own)
    nothing = np.full(len(levels), math.nan)
    unknown_fit = Fit(len(y), pd.Series(y0, choice.index), levels, counts, nothing, nothing, nothing)
    scale, axes = np.linalg.eigh(own0.T @ own0)
    kept = scale > 1e-9 * max(1.0, float(counts.max()))
    equal, df = float(y0 @ y0), int(kept.sum())
    spare = len(y) - basis.shape[1] - df
    # If all numbers are equal, only rounding errors are left.
    if spare < _SPARE or df == 0 or equal <= 1e-18 * float(y @ y):
        return unknown_fit
    inverse = (axes[:, kept] / scale[kept]) @ axes[:, kept].T
    beta = inverse @ (own0.T @ y0)
    ours = float(y0 @ own0 @ beta)
    noise = max(0.0, equal - ours) / spare

    def told(contrast: Floats) -> tuple[float, float]:
        """Return value and standard error; NaN if the value determines the cost."""
        if not np.allclose(axes[:, ~kept].T @ contrast, 0, atol=1e-6):
            return math.nan, math.nan
        return float(contrast @ beta), math.sqrt(noise * max(0.0, float(contrast @ inverse @ contrast)))

    k = len(levels)
    known = np.array([told(row) for row in np.eye(k) - counts / counts.sum()])
    width = float(stats.t.ppf(1 - LEVEL / 2, spare)) * known[:, 1]
    share, low, high, p = _shares(ours, df, noise, spare, equal, len(y))
    fit: dict[str, Any] = {"share": share, "share_low": low, "share_high": high, "p": p}
    named = [i for i in range(k) if np.isfinite(known[i, 0]) and levels[i] != OTHER]
    if len(named) > 1:
        worst, *_, best = sorted(named, key=lambda i: known[i, 0] * (1 if population.maximise else -1))
        gain, error = told(np.eye(k)[best] - np.eye(k)[worst])
        wide = float(stats.t.ppf(1 - LEVEL / (k * (k - 1)), spare)) * error  # this pair was chosen among all pairs
        fit |= {"best": levels[best], "worst": levels[worst], "gain": abs(gain)}
        fit |= {"gain_low": abs(gain) - wide, "gain_high": abs(gain) + wide}
    return replace(unknown_fit, effects=known[:, 0], low=known[:, 0] - width, high=known[:, 0] + width, **fit)


def _shares(ours: float, df: int, noise: float, spare: int, equal: float, n: int) -> tuple[float, float, float, float]:
    """Return the share, its interval's bounds, and p."""
    if noise <= 1e-12 * equal / spare:
        return ours / equal, ours / equal, ours / equal, 0.0
    f = ours / df / noise

    def share_at(f: float, level: float) -> float:
        """Return the share at which an F of this size or smaller has probability `level`."""
        if stats.f.cdf(f, df, spare) <= level:
            return 0.0
        top = 2 * f * df + 10.0
        while stats.ncf.cdf(f, df, spare, top) > level:
            top *= 2
        found = optimize.brentq(lambda x: stats.ncf.cdf(f, df, spare, x) - level, 1e-9, top, xtol=1e-6 * top)
        return float(found / (found + n))

    share = max(0.0, ours - df * noise) / equal
    low, high = share_at(f, 1 - LEVEL / 2), share_at(max(f, 1.0), LEVEL / 2)  # an F below 1 is chance
    return share, min(low, share), max(high, share), float(stats.f.sf(f, df, spare))


def _verdict(fit: Fit, p: float) -> Verdict:
    if not math.isnan(fit.share_high) and fit.share_high < NEGLIGIBLE:
        return "hardly matters"
    return "matters" if p < LEVEL else "undecided"


def _holm(p_values: list[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm); NaN stays."""
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    result, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        result[index] = largest
    return result


def _one_hot(column: pd.Series) -> Floats:
    """Encode a column as [n, k]; a missing value is a level of its own."""
    codes = column.cat.codes.to_numpy()
    return (codes[:, None] == np.unique(codes)[None]).astype(np.float64)


def _basis(columns: Floats) -> Floats:
    """Return an orthonormal basis of the space that columns [n, k] span."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > 1e-9 * sizes[0]] if sizes.size and sizes[0] > 0 else left[:, :0]


def _without(basis: Floats, values: Floats) -> Floats:
    return values - basis @ (basis.T @ values)
