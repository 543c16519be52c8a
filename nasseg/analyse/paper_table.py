"""A paper's table beside ours: the printed values, ours, the difference, and why a cell is empty or differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Literal

import pandas as pd

from nasseg.analyse.paper_verdict import Answer, in_words
from nasseg.analyse.paper_verdict import Verdict as Answered

Verdict = Literal["equal", "flagged", "differs", "not printed", "measured", "not run", "cited", "given"]
VERDICTS: dict[Verdict, str] = {
    "equal": "equal to print rounding",
    "flagged": "differs, for a known reason",
    "differs": "differs",
    "not printed": "ours alone: the paper prints no number here",
    "measured": "trained or timed here; the printed conditions differ, so not judged",
    "not run": "not measured, for the reason given",
    "cited": "quoted, of another paper's network",
    "given": "set by the paper, not measured",
}
MAX_DECIMALS = 9


@dataclass(frozen=True, kw_only=True)
class Column:
    """A printed column. `label` carries the unit, `protocol` says how our values are obtained."""

    name: str
    label: str
    unit: str
    protocol: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the table. `ours` is in the column's unit; None if nothing was measured, and `reason` then says why.

    protocol: how a measured value was obtained; empty if the column's protocol holds. spread: the standard deviation of
    repeated values, None for one value. alike: the value was measured under the printed conditions.
    """

    row: str
    column: str
    printed: str | None
    ours: float | str | None
    verdict: Verdict
    reason: str = ""
    protocol: str = ""
    spread: float | None = None
    alike: bool = False

    @property
    def difference(self) -> float | None:
        """Return ours minus printed, in the column's unit, if both are numbers under the same conditions."""
        printed = number(self.printed)
        if self.verdict == "measured" and not self.alike:
            return None
        return None if printed is None or not isinstance(self.ours, float | int) else float(self.ours) - float(printed)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A table of a paper beside ours. Rows and columns are in printed order. Printed and computed values have a cell.

    answers: from trained or timed values, accuracy first. against: what computed cells are compared with, if not the
    printed values.
    """

    name: str
    paper: str
    table: str
    title: str
    question: str
    expected: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: tuple[Cell, ...]
    notes: dict[str, str]  # row -> remark
    answers: tuple[Answer, ...] = ()
    against: str = "print"

    @property
    def citation(self) -> str:
        return f"{self.paper}, {self.table}"

    def cell(self, row: str, column: str) -> Cell | None:
        return next((cell for cell in self.cells if (cell.row, cell.column) == (row, column)), None)

    @property
    def verdict(self) -> Answered:
        """The verdict of the first answer, or else of the computed cells; confirmed only if no cell is missing."""
        counts = self.counts()
        if self.answers:
            first = self.answers[0].verdict
            return "undecided" if first == "confirmed" and counts["not run"] else first
        if counts["differs"]:
            return "contradicted"
        return "undecided" if counts["not run"] or not counts["equal"] else "confirmed"

    @property
    def conclusion(self) -> str:
        """The result in one sentence, from the first answer and the computed cells."""
        counts = self.counts()
        judged = sum(counts[verdict] for verdict in ("equal", "flagged", "differs"))
        known = [f"{counts['equal']} of {judged} computed cells are equal to {self.against}"] if judged else []
        if counts["flagged"]:
            known.append(f"{counts['flagged']} differ for a known reason")
        computed = ", ".join(known)
        waits = ", ".join(dict.fromkeys(cell.reason for cell in self.cells if cell.verdict == "not run"))
        why = f"some asked values were not measured ({waits})" if waits else ""
        if self.answers:
            first = self.answers[0]
            found = [first.sentence.removesuffix("."), why if self.verdict != first.verdict else "", computed]
            return "; ".join(filter(None, found)) + "."
        if counts["measured"] and not why:
            why = "only one row was measured"
        return f"{in_words(self.verdict)}: {'; '.join(filter(None, [why, computed]))}."

    def counts(self) -> dict[Verdict, int]:
        """Return the number of cells with each verdict, zeros included."""
        return {verdict: sum(cell.verdict == verdict for cell in self.cells) for verdict in VERDICTS}


def number(printed: str | None) -> Decimal | None:
    """Parse a printed number without its spread (78.13±0.48 -> 78.13); None if it is no number."""
    try:
        value = Decimal((printed or "").split("±")[0])
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def decimals(printed: str | None) -> int:
    """Return the number of decimals of a printed number, at most MAX_DECIMALS."""
    return min(MAX_DECIMALS, len((printed or "").split("±")[0].partition(".")[2]))


def judge(printed: str | None, ours: float | str, flag: str | None) -> Verdict:
    """Compare our value with the printed one: numbers to half of the last printed digit, texts exactly.

    A flagged cell whose values are equal gets `equal`: its flag is stale.
    """
    if printed is None or printed == "-":
        return "not printed"
    value = number(printed)
    if value is None or isinstance(ours, str):
        equal = printed == str(ours)
    else:
        equal = abs(Decimal(str(ours)) - value) <= Decimal(5).scaleb(-decimals(printed) - 1)
    return "equal" if equal else "flagged" if flag else "differs"


def text_of(value: float | str | None, printed: str | None) -> str:
    """Format our value with one decimal more than the printed one, so that a difference below print rounding shows."""
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    if number(printed) is None:
        return f"{value:.4g}"
    return str(Decimal(str(value)).quantize(Decimal(1).scaleb(-decimals(printed) - 1), ROUND_HALF_EVEN))


def difference_text(cell: Cell) -> str:
    """Format the difference like `text_of`: signed, or 0 if it vanishes."""
    if cell.difference is None or isinstance(cell.ours, str):
        return ""
    shown = text_of(cell.ours, cell.printed)
    difference = Decimal(shown) - (number(cell.printed) or 0)
    return f"{difference:+}" if difference else "0"


def comparison_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a row for each cell.

    Columns: name, paper, table, row, column, unit, printed (as text), ours, difference (NaN unless both are numbers),
    verdict, reason, protocol, spread.
    """
    rows = []
    for comparison in comparisons:
        columns = {column.name: column for column in comparison.columns}
        for cell in comparison.cells:
            column = columns[cell.column]
            rows.append(
                {
                    "name": comparison.name,
                    "paper": comparison.paper,
                    "table": comparison.table,
                    "row": cell.row,
                    "column": column.label,
                    "unit": column.unit,
                    "printed": cell.printed,
                    "ours": cell.ours,
                    "difference": cell.difference,
                    "verdict": cell.verdict,
                    "reason": cell.reason,
                    "protocol": cell.protocol or column.protocol,
                    "spread": cell.spread,
                }
            )
    names = [
        "name",
        "paper",
        "table",
        "row",
        "column",
        "unit",
        "printed",
        "ours",
        "difference",
        "verdict",
        "reason",
        "protocol",
        "spread",
    ]
    return pd.DataFrame(rows, columns=names).astype({"difference": float, "spread": float})
