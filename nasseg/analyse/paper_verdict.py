"""The answer of measured rows to a table's question, from their order and the differences between rows, against noise.

Values from another device, data set or length of training are not comparable with the printed ones, but their order and
their differences are. Rows are measured several times, with the same seeds (trainings) or rounds (timings) for all. A
shift that a seed or a round gives all rows alike cancels out; the rest is the noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Verdict = Literal["confirmed", "contradicted", "undecided", "untrained"]
UNTRAINED = "not trained far enough to tell"
Agreement = Literal["agrees", "disagrees", "open", "no claim"]
Kind = Literal["difference", "ratio"]
Early = Mapping[int, Mapping[str, Mapping[int, float]]]
LEVEL = 0.95
DRAWS = 4096
ALIKE = 0.01  # printed speeds that differ by less than this count as equal


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; no bounds if it was measured once."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row against another: a difference in the column's unit, or a ratio. printed: None if the paper has no value.

    agrees: our interval lies on the printed side of zero (of one, for ratios). no claim: printed alike, or not printed.
    """

    row: str
    to: str
    printed: float | None
    ours: Interval
    agreement: Agreement


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of one column. noise: standard deviation of one measurement of a row; for ratios, as a share.

    baseline: the value without a network, in the column's unit; below: rows that do not beat it. If there are any, the
    verdict is `untrained`, whatever the order. tau: Kendall's tau-b between printed and ours. repeats: seeds or rounds,
    as named in `repeated`. pairs: of all rows, or only with the base row if the paper names only a best row, or prints
    nothing for a row. early: percent of the steps, and tau there, by mIoU on the validation split.
    """

    quantity: str
    unit: str
    kind: Kind
    base: str
    best: str | None
    rows: int
    repeats: int
    repeated: str
    tau: Interval | None
    noise: float | None
    pairs: tuple[Pair, ...]
    caveats: tuple[str, ...]
    verdict: Verdict
    baseline: float | None = None
    below: int = 0
    early: tuple[tuple[int, float], ...] = ()

    def count(self, agreement: Agreement) -> int:
        return sum(pair.agreement == agreement for pair in self.pairs)

    @property
    def to_base(self) -> tuple[Pair, ...]:
        """The pairs of every row with the base row."""
        return tuple(pair for pair in self.pairs if pair.to == self.base)

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        why = f", because {' and '.join(self.caveats)}" if self.caveats else ""
        found = f"{self.quantity}: {in_words(self.verdict)}{why}"
        if self.tau is None:
            return f"{found}."
        over = f"{self.repeats} {self.repeated}{'s' if self.repeats != 1 else ''}"
        if self.tau.low is not None:
            over += f", 95 % interval {self.tau.low:.2f} to {self.tau.high:.2f}"
        claim = "as printed" if self.best is None else f"({self.best} above the others, says the paper)"
        found += f"; Kendall's tau between {self.rows} rows {claim} and as here is {self.tau.value:.2f} ({over})"
        if self.early:
            taus = ", ".join(f"{tau:.2f} after {percent} %" for percent, tau in self.early)
            found += f", and on the way, by mIoU on val: {taus}"
        claimed = len(self.pairs) - self.count("no claim")
        if self.noise is None:
            return f"{found}."
        if claimed:
            noise = f"{100 * self.noise:.1f} %" if self.kind == "ratio" else f"{self.noise:.2f} {points(self.unit)}"
            found += (
                f"; of {claimed} {self.kind}s {'between rows' if self.best is None else f'to {self.best}'}, with the "
                f"{'printed' if self.best is None else 'claimed'} sign beyond the noise of {noise}: "
                f"{self.count('agrees')}, with the opposite one: {self.count('disagrees')}"
            )
        return f"{found}{self._unclaimed()}."

    def _unclaimed(self) -> str:
        """Describe the results of rows for which the paper prints nothing."""
        form = ".2f" if self.kind == "ratio" else "+.2f"

        def words(pair: Pair) -> str:
            ours = pair.ours
            bounds = "" if ours.low is None else f" ({ours.low:{form}} to {ours.high:{form}})"
            return f"{pair.row} {ours.value:{form}}{bounds}"

        told = ", ".join(words(pair) for pair in self.to_base if pair.printed is None) if self.best is None else ""
        unit = "" if self.kind == "ratio" else f" in {points(self.unit)}"
        return f"; {self.kind}s to {self.base}{unit} of rows without print: {told}" if told else ""


def answer(
    quantity: str,
    printed: Mapping[str, float | None],
    ours: Mapping[str, Mapping[int, float]],
    base: str,
    *,
    unit: str = "",
    kind: Kind = "difference",
    best: str | None = None,
    repeated: str = "seed",
    caveats: Sequence[str] = (),
    baseline: float | None = None,
    early: Early | None = None,
) -> Answer:
    """Compare the order of our values (row -> seed or round -> value) with the printed order (row -> value).

    printed: every row of the question, measured or not; None if the paper prints nothing for it and so claims nothing.
    best: the row that the paper calls the best, if it prints no values at all; `base` is then that row. caveats:
    reasons that rule out an answer, whatever the figures are. baseline: the value from colour and place alone; the
    order of rows that do not beat it means nothing. early: percent of the steps -> row -> seed -> mIoU there.

    Confirmed: tau's interval lies above 0, more than half of the pairs agree and none disagrees (and the best row has
    the best mean). Contradicted: the reverse of that. Everything else is undecided, including a single seed and a table
    with missing rows.
    """
    told = {row: value if best is None else float(row == best) for row, value in printed.items()}
    claimed = {row: value for row, value in told.items() if value is not None}
    rows = [row for row in claimed if ours.get(row)]
    missing = len(claimed) - len(rows)
    repeats = sorted(set.intersection(*(set(ours[row]) for row in rows))) if rows else []
    own = [row for row in told if row not in claimed and {*ours.get(row, {})}.issuperset(repeats)]
    values = np.array([[ours[row][repeat] for repeat in repeats] for row in [*rows, *own]], dtype=np.float64)
    reasons = [*caveats]
    if missing:
        reasons.append(f"{missing} of {len(claimed)} rows are not measured")
    if len(rows) < 2:
        reasons.append("there are no two rows to compare")
    elif not repeats:
        reasons.append(f"no {repeated} is common to all rows")
    elif len(repeats) == 1:
        reasons.append(f"there is only one {repeated}")
    targets = np.array([claimed[row] for row in rows])
    if len(rows) > 1 and not np.ptp(targets):
        reasons.append("the paper prints no difference")
    if kind == "ratio" and len(rows):
        values, targets = np.log(values), np.log(targets)
    usable = len(rows) > 1 and len(repeats) > 0
    tau = kendall(targets, values[: len(rows)]) if usable else None
    if usable and tau is None and np.ptp(targets):
        reasons.append("all rows come out alike")
    pairs = _pairs([*rows, *own], base, targets, values, kind, best) if usable else ()
    means = [float(np.mean([*ours[row].values()])) for row in rows]
    below = 0 if baseline is None else sum(mean <= baseline for mean in means)
    if below:
        bar = f"{baseline:.1f} {unit}".rstrip()
        reasons.append(f"{below} of {len(rows)} rows are not above {bar}, which colour and place alone give")
    verdict: Verdict = "untrained" if below else "undecided" if reasons else _verdict(tau, pairs)
    if best is not None and verdict == "confirmed" and values.mean(axis=1).argmax() != rows.index(best):
        verdict = "undecided"
    return Answer(
        quantity=quantity,
        unit=unit,
        kind=kind,
        base=base,
        best=best,
        rows=len(rows),
        repeats=len(repeats),
        repeated=repeated,
        tau=tau,
        noise=_noise(values) if usable else None,
        pairs=pairs,
        caveats=tuple(reasons),
        verdict=verdict,
        baseline=baseline,
        below=below,
        early=tuple(_on_the_way(targets, rows, repeats, early or {})) if tau else (),
    )


def _on_the_way(
    printed: Floats, rows: Sequence[str], repeats: Sequence[int], early: Early
) -> Iterator[tuple[int, float]]:
    """Yield percent of the steps, and tau there, where each of these rows was evaluated with each of these seeds."""
    for percent, values in sorted(early.items()):
        if all({*repeats} <= {*values.get(row, ())} for row in rows):
            means = np.array([[np.mean([values[row][repeat] for repeat in repeats])] for row in rows])
            if not np.isnan(tau := float(_tau(printed, means)[0])):
                yield percent, tau


def _verdict(tau: Interval | None, pairs: Sequence[Pair]) -> Verdict:
    if tau is None or tau.low is None or tau.high is None:
        return "undecided"
    agree, disagree = (sum(pair.agreement == which for pair in pairs) for which in ("agrees", "disagrees"))
    half = sum(pair.agreement != "no claim" for pair in pairs) / 2
    if tau.low > 0 and agree > half and not disagree:
        return "confirmed"
    return "contradicted" if tau.high < 0 and disagree > half and not agree else "undecided"


def kendall(printed: Floats, ours: Floats) -> Interval | None:
    """Return tau-b between printed [rows] and the means of ours [rows, repeats]; None if either does not vary.

    The interval comes from a bootstrap over the repeats: of all resamples if they are few, otherwise of DRAWS.
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
    """Return tau-b of printed [rows] with each column of ours [rows, n]: [n]."""
    above = np.triu_indices(len(printed), 1)
    theirs = np.sign(printed[:, None] - printed)[above]
    mine = np.sign(ours[:, None] - ours)[above]
    with np.errstate(invalid="ignore"):
        taus: Floats = theirs @ mine / np.sqrt((theirs**2).sum() * (mine**2).sum(axis=0))
    return taus


def _noise(values: Floats) -> float | None:
    """Return the noise of values [rows, repeats]: what the means of rows and repeats leave unexplained, over all rows.

    Rows with the same values are one network, measured once.
    """
    apart = np.unique(values, axis=0)
    rows, repeats = apart.shape
    if repeats < 2 or rows < 2:
        return None
    rest = apart - apart.mean(axis=1, keepdims=True) - apart.mean(axis=0) + apart.mean()
    return float(((rest**2).sum() / ((rows - 1) * (repeats - 1))) ** 0.5)


def _half(first: Floats, second: Floats, noise: float, rows: int) -> float:
    """Return half the width of the interval of a difference of two means of [repeats], for all pairs at once (Tukey).

    The noise is the larger of all rows' and this difference's: a row may be less steady than others. For two rows, the
    interval is that of the paired t-test.
    """
    repeats = len(first)
    variance = max(noise**2, float((first - second).var(ddof=1)) / 2)
    return _tukey(rows, (rows - 1) * (repeats - 1)) * (variance / repeats) ** 0.5


@lru_cache
def _tukey(rows: int, freedom: int) -> float:
    return float(stats.studentized_range.ppf(LEVEL, rows, freedom))


def _pairs(rows: list[str], base: str, printed: Floats, ours: Floats, kind: Kind, best: str | None) -> tuple[Pair, ...]:
    """Return the pairs of rows [n], those with the base row first. printed: of the first rows."""
    noise, apart = _noise(ours), len(np.unique(ours, axis=0))
    order = sorted(range(len(rows)), key=lambda i: rows[i] != base)
    pairs = []
    for at, i in combinations(order, 2):
        if rows[at] != base and (best is not None or max(at, i) >= len(printed)):
            continue
        mine = float((ours[i] - ours[at]).mean())
        half = None if noise is None else _half(ours[i], ours[at], noise, apart)
        bounds = [] if half is None else [mine - half, mine + half]
        theirs = float(printed[i] - printed[at]) if max(at, i) < len(printed) else None
        if theirs is None or abs(theirs) <= (ALIKE if kind == "ratio" else 0):
            agreement: Agreement = "no claim"
        elif bounds and bounds[0] * bounds[1] > 0:
            agreement = "agrees" if mine * theirs > 0 else "disagrees"
        else:
            agreement = "open"
        if kind == "ratio":
            mine, *bounds = np.exp([mine, *bounds]).tolist()
            theirs = None if theirs is None else float(np.exp(theirs))
        shown = None if best else theirs
        pairs.append(Pair(row=rows[i], to=rows[at], printed=shown, ours=Interval(mine, *bounds), agreement=agreement))
    return tuple(pairs)


def points(unit: str) -> str:
    return "points" if unit == "%" else unit


def in_words(verdict: Verdict) -> str:
    """Return a verdict in words."""
    return UNTRAINED if verdict == "untrained" else verdict
