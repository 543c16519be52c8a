"""What measured rows say to a table's question: their order, and each difference to a base row against noise.

Values of another device, data set or length of training do not compare with the printed ones; their order and their
differences do. Rows are measured several times: with seeds (trainings) or in rounds (timings), the same for all.
Whatever of a row moves with the seed or the round for all rows alike drops out; what is left is the noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Verdict = Literal["confirmed", "contradicted", "undecided"]
Agreement = Literal["agrees", "disagrees", "open", "no claim"]
Kind = Literal["difference", "ratio"]
LEVEL = 0.95
DRAWS = 4096
ALIKE = 0.01  # printed speeds that differ by less are not claimed to differ


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; no bounds are known of what was measured once."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A row against the base row: a difference in the column's unit, or a ratio. printed: None where only the sign is.

    agrees: the interval of ours lies on the printed side of zero (of one, for ratios); no claim: printed alike.
    """

    row: str
    printed: float | None
    ours: Interval
    agreement: Agreement


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of one column. noise: standard deviation of one measurement of a row, of ratios as a share.

    tau: Kendall's tau-b between printed and ours. repeats: seeds or rounds, as `repeated` calls them.
    """

    quantity: str
    unit: str
    kind: Kind
    base: str
    rows: int
    repeats: int
    repeated: str
    tau: Interval | None
    noise: float | None
    pairs: tuple[Pair, ...]
    caveats: tuple[str, ...]
    verdict: Verdict

    def count(self, agreement: Agreement) -> int:
        return sum(pair.agreement == agreement for pair in self.pairs)

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        found = f"{self.quantity}: {self.verdict}{', for ' if self.caveats else ''}{' and '.join(self.caveats)}"
        if self.tau is None:
            return f"{found}."
        over = f"{self.repeats} {self.repeated}{'s' if self.repeats != 1 else ''}"
        if self.tau.low is not None:
            over += f", 95 % interval {self.tau.low:.2f} to {self.tau.high:.2f}"
        found += f"; Kendall's tau between {self.rows} rows as printed and as here is {self.tau.value:.2f} ({over})"
        claimed = sum(pair.agreement != "no claim" for pair in self.pairs)
        if self.noise is None or not claimed:
            return f"{found}."
        noise = f"{100 * self.noise:.1f} %" if self.kind == "ratio" else f"{self.noise:.2f} {points(self.unit)}"
        return (
            f"{found}; of {claimed} {self.kind}s to {self.base}, with the printed sign beyond the noise of {noise}: "
            f"{self.count('agrees')}, with the opposite one: {self.count('disagrees')}."
        )


def answer(
    quantity: str,
    printed: Mapping[str, float],
    ours: Mapping[str, Mapping[int, float]],
    base: str,
    *,
    unit: str = "",
    kind: Kind = "difference",
    best: str | None = None,
    repeated: str = "seed",
    caveats: Sequence[str] = (),
) -> Answer:
    """Whether ours, row -> seed or round -> value, are ordered as printed, row -> value.

    best: a row of which the paper says that it is the best, where it prints no values; then `base` is that row.
    caveats: what makes an answer impossible whatever the figures are.

    Confirmed: tau's interval lies above 0, some pair agrees and none disagrees. Contradicted: the mirror image of that.
    All else is undecided; so is one seed, and a table of which rows are missing.
    """
    claimed = dict(printed) if best is None else {row: float(row == best) for row in ours}
    rows = [row for row in claimed if ours.get(row)]
    missing = len(claimed) - len(rows)
    repeats = sorted(set.intersection(*(set(ours[row]) for row in rows))) if rows else []
    values = np.array([[ours[row][repeat] for repeat in repeats] for row in rows], dtype=np.float64)
    reasons = [*caveats]
    if missing:
        reasons.append(f"{missing} of {len(claimed)} rows are not measured")
    if len(rows) < 2:
        reasons.append("there are no two rows to compare")
    elif not repeats:
        reasons.append(f"no {repeated} is common to all rows")
    elif len(repeats) == 1:
        reasons.append(f"there is one {repeated} only")
    targets = np.array([claimed[row] for row in rows])
    if len(rows) > 1 and not np.ptp(targets):
        reasons.append("the paper prints no difference")
    if kind == "ratio" and len(rows):
        values, targets = np.log(values), np.log(targets)
    usable = len(rows) > 1 and len(repeats) > 0
    tau = kendall(targets, values) if usable else None
    noise, half = _noise(values) if usable else (None, None)
    pairs = _pairs(rows, base, targets, values, half, kind, best) if usable and base in rows else ()
    return Answer(
        quantity=quantity, unit=unit, kind=kind, base=base, rows=len(rows), repeats=len(repeats), repeated=repeated,
        tau=tau, noise=noise, pairs=pairs, caveats=tuple(reasons), verdict=_verdict(tau, pairs, reasons),
    )  # fmt: skip


def _verdict(tau: Interval | None, pairs: Sequence[Pair], reasons: Sequence[str]) -> Verdict:
    agree, disagree = (any(pair.agreement == which for pair in pairs) for which in ("agrees", "disagrees"))
    if reasons or tau is None or tau.low is None or tau.high is None:
        return "undecided"
    if tau.low > 0 and agree and not disagree:
        return "confirmed"
    return "contradicted" if tau.high < 0 and disagree and not agree else "undecided"


def kendall(printed: Floats, ours: Floats) -> Interval | None:
    """Tau-b between printed [rows] and the means of ours [rows, repeats]; None where either does not vary.

    The interval is that of a bootstrap over the repeats: all resamples where those are few, else DRAWS of them.
    """
    n = ours.shape[1]
    found = float(_tau(printed, ours.mean(axis=1, keepdims=True))[0])
    if np.isnan(found):
        return None
    if n == 1:
        return Interval(value=found)
    if n**n <= DRAWS:
        drawn = np.array(list(product(range(n), repeat=n)))
    else:
        drawn = np.random.default_rng(0).integers(0, n, (DRAWS, n))
    taus = _tau(printed, ours[:, drawn].mean(axis=2))
    low, high = np.nanquantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return Interval(value=found, low=float(low), high=float(high))


def _tau(printed: Floats, ours: Floats) -> Floats:
    """Tau-b of printed [rows] with each column of ours [rows, n]: [n]."""
    above = np.triu_indices(len(printed), 1)
    theirs = np.sign(printed[:, None] - printed)[above]
    mine = np.sign(ours[:, None] - ours)[above]
    with np.errstate(invalid="ignore"):
        taus: Floats = theirs @ mine / np.sqrt((theirs**2).sum() * (mine**2).sum(axis=0))
    return taus


def _noise(values: Floats) -> tuple[float | None, float | None]:
    """Of values [rows, repeats]: their noise, and half the width of the interval of a difference to the base row.

    The noise is what is left of the values without the means of rows and of repeats, taken to be equal for all rows;
    for two rows the interval is that of the paired t-test. The intervals of all differences hold together
    (Bonferroni).
    """
    rows, repeats = values.shape
    if repeats < 2:
        return None, None
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    freedom = (rows - 1) * (repeats - 1)
    variance = float((rest**2).sum() / freedom)
    quantile = stats.t.ppf(1 - (1 - LEVEL) / (2 * (rows - 1)), freedom)
    return variance**0.5, float(quantile * (2 * variance / repeats) ** 0.5)


def _pairs(
    rows: list[str], base: str, printed: Floats, ours: Floats, half: float | None, kind: Kind, best: str | None
) -> tuple[Pair, ...]:
    means, at = ours.mean(axis=1), rows.index(base)
    pairs = []
    for i, row in enumerate(rows):
        if i == at:
            continue
        theirs, mine = float(printed[i] - printed[at]), float(means[i] - means[at])
        bounds = [] if half is None else [mine - half, mine + half]
        if abs(theirs) <= (ALIKE if kind == "ratio" else 0):
            agreement: Agreement = "no claim"
        elif bounds and bounds[0] * bounds[1] > 0:
            agreement = "agrees" if mine * theirs > 0 else "disagrees"
        else:
            agreement = "open"
        if kind == "ratio":
            theirs, mine, *bounds = np.exp([theirs, mine, *bounds]).tolist()
        pairs.append(Pair(row=row, printed=None if best else theirs, ours=Interval(mine, *bounds), agreement=agreement))
    return tuple(pairs)


def points(unit: str) -> str:
    return "points" if unit == "%" else unit
