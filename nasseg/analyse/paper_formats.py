"""Comparisons with papers as Markdown, CSV, LaTeX, JSON and terminal text."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from textwrap import wrap
from typing import Literal

from nasseg.analyse.paper_table import (
    Cell,
    Column,
    Comparison,
    Verdict,
    comparison_frame,
    difference_text,
    text_of,
)
from nasseg.errors import unknown
from nasseg.redaction import cell

Format = Literal["text", "markdown", "csv", "latex", "json"]


@dataclass(frozen=True)
class Grid:
    """A comparison as strings: a head for each column, rows of cells, and numbered notes below.

    verdicts: of each cell that shows a judged or measured value: ours, or else the printed one.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdicts: tuple[tuple[Verdict | None, ...], ...]
    notes: tuple[str, ...]


def grid(comparison: Comparison) -> Grid:
    """Lay out a comparison: columns printed, ours and difference for computed values, printed alone for the others.

    Numbers in brackets refer to notes: why a cell differs or is empty, or how it was measured.
    """
    heads, flags = ["row"], list[str]()
    for column in comparison.columns:
        label = column.label if column.label.startswith(column.unit) else f"{column.label} ({column.unit})"
        heads.append(f"{label} printed")
        heads += [f"{label} ours"] * _filled(comparison, column) + ["difference"] * _numeric(comparison, column)
    rows = [[(row, None), *_cells(comparison, row, flags)] for row in comparison.rows]
    notes = [f"[{i}] {reason}" for i, reason in enumerate(flags, start=1)]
    notes += [f"{row}: {note}" for row, note in comparison.notes.items()]
    notes += _protocols(comparison)
    notes += [one.sentence for one in comparison.answers[1:]]
    texts = tuple(tuple(text for text, _ in row) for row in rows)
    verdicts = tuple(tuple(verdict for _, verdict in row) for row in rows)
    return Grid(tuple(heads), texts, verdicts, tuple(notes))


def _cells(comparison: Comparison, row: str, flags: list[str]) -> list[tuple[str, Verdict | None]]:
    texts: list[tuple[str, Verdict | None]] = []
    for column in comparison.columns:
        cell, filled = comparison.cell(row, column.name), _filled(comparison, column)
        verdict = cell.verdict if cell else None
        texts.append(((cell.printed or "") if cell else "", None if filled else verdict))
        if filled:
            texts.append((_ours(cell, flags) if cell else "", verdict))
        if _numeric(comparison, column):
            texts.append((difference_text(cell) if cell else "", None))
    return texts


def _ours(cell: Cell, flags: list[str]) -> str:
    shown = text_of(cell.ours, cell.printed)
    if cell.spread is not None:
        shown += f" ± {text_of(cell.spread, cell.printed)}"
    if cell.verdict not in ("flagged", "differs", "not run", "measured"):
        return shown
    reason = "; ".join(filter(None, [cell.protocol, cell.reason])) or "reason not known"
    if reason not in flags:
        flags.append(reason)
    return f"{shown} [{flags.index(reason) + 1}]".strip()


def _of(comparison: Comparison, column: Column) -> list[Cell]:
    return [cell for cell in comparison.cells if cell.column == column.name]


def _filled(comparison: Comparison, column: Column) -> bool:
    return any(cell.ours is not None for cell in _of(comparison, column))


def _numeric(comparison: Comparison, column: Column) -> bool:
    return any(cell.difference is not None and not isinstance(cell.ours, str) for cell in _of(comparison, column))


def _protocols(comparison: Comparison) -> list[str]:
    """Return a note for each kind of column: how its values are obtained, or why the whole column is empty."""
    lines: dict[str, list[str]] = {}
    for column in comparison.columns:
        reasons = dict.fromkeys(cell.reason for cell in _of(comparison, column) if cell.verdict == "not run")
        empty = f" Not run: {'; '.join(reasons)}." if reasons and not _filled(comparison, column) else ""
        lines.setdefault(f"{column.protocol}.{empty}", []).append(column.label)
    notes = [f"{', '.join(dict.fromkeys(labels))}: {line}" for line, labels in lines.items()]
    if any(cell.verdict == "cited" for cell in comparison.cells):
        notes.append("Rows without ours: other papers' networks, as the paper quotes them.")
    return notes


def _title(comparison: Comparison) -> str:
    return f"{comparison.citation}: {comparison.title}"


def markdown(comparison: Comparison) -> str:
    """Return the comparison as a section of GitHub-flavoured Markdown."""
    table = grid(comparison)
    right = ["---", *["---:"] * (len(table.heads) - 1)]
    lines = [_bar(table.heads), _bar(right), *map(_bar, table.rows)]
    notes = [f"- {note}" for note in table.notes]
    head = [f"## {_title(comparison)}", "", comparison.question, "", comparison.conclusion, ""]
    return "\n".join([*head, *lines, "", *notes]) + "\n"


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def latex(comparison: Comparison) -> str:
    """Return the comparison as a LaTeX table (booktabs)."""
    table = grid(comparison)
    rows = [" & ".join(map(tex, row)) + r" \\" for row in table.rows]
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{tex(_title(comparison))}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
                r"\toprule",
                " & ".join(map(tex, table.heads)) + r" \\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                *(rf"\par\footnotesize {tex(note)}" for note in (comparison.conclusion, *table.notes)),
                r"\end{table}",
            ]
        )
        + "\n"
    )


def tex(text: str) -> str:
    """Return text escaped for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {c: "\\" + c for c in "&%$#_{}"} | {"<": r"\textless{}", ">": r"\textgreater{}"}
    special |= {"±": r"$\pm$", "\u00d7": r"$\times$"}
    special |= {"[": "{[}"}  # after the end of a row or a rule, a bare [ would begin its argument
    return "".join(special.get(character, character) for character in text)


def terminal(comparison: Comparison, width: int | None = None) -> str:
    """Return the comparison as plain text in aligned columns.

    width: of the terminal; columns that do not fit follow below, again beside the names of rows.
    """
    table = grid(comparison)
    columns = list(zip(*table.rows, strict=True))
    heads = [
        wrap(head, max(len(word) for word in [*head.split(), *column]))
        for head, column in zip(table.heads, columns, strict=True)
    ]
    widths = [max(map(len, [*head, *column])) for head, column in zip(heads, columns, strict=True)]
    body = []
    for block in _blocks(widths, width):
        above = list(zip_longest(*(heads[i] for i in block), fillvalue=""))
        lines = [*above, *(tuple(row[i] for i in block) for row in table.rows)]
        padded = [
            "  ".join(c.rjust(widths[i]) if i else c.ljust(widths[i]) for i, c in zip(block, line, strict=True))
            for line in lines
        ]
        rule = "-" * len(padded[0])
        body += [line.rstrip() for line in [*padded[: len(above)], rule, *padded[len(above) :]]] + [""]
    head = [_title(comparison), comparison.question, comparison.conclusion, ""]
    return "\n".join([*head, *body, *table.notes]) + "\n"


def _blocks(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Return the columns of each block: the first column, and as many others as fit, at least one."""
    blocks, used = [[0]], widths[0]
    for column, wide in enumerate(widths[1:], start=1):
        if width is not None and used + 2 + wide > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += 2 + wide
    return blocks


def csv(comparisons: Sequence[Comparison]) -> str:
    """Return CSV with one line per cell, all comparisons below each other."""
    text: str = comparison_frame(comparisons).map(cell).to_csv(index=False, lineterminator="\n")
    return text


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as a JSON list, each with its cells and the counts by verdict."""
    data = []
    for one in comparisons:
        cells = [
            {
                "row": c.row,
                "column": c.column,
                "printed": c.printed,
                "ours": c.ours,
                "difference": c.difference,
                "verdict": c.verdict,
                "reason": c.reason,
                "protocol": c.protocol,
                "spread": c.spread,
            }
            for c in one.cells
        ]
        columns = {c.name: {"label": c.label, "unit": c.unit, "protocol": c.protocol} for c in one.columns}
        data.append(
            {
                "name": one.name,
                "citation": one.citation,
                "title": one.title,
                "question": one.question,
                "expected": one.expected,
                "columns": columns,
                "counts": one.counts(),
                "notes": one.notes,
                "cells": cells,
                "conclusion": one.conclusion,
                "answers": [{**asdict(each), "sentence": each.sentence} for each in one.answers],
            }
        )
    return json.dumps(data, ensure_ascii=False, indent=1)


_EACH: dict[str, Callable[[Comparison], str]] = {"markdown": markdown, "latex": latex}
_ALL: dict[str, Callable[[Sequence[Comparison]], str]] = {"csv": csv, "json": as_json}
FORMATS = ("text", *_EACH, *_ALL)


def render(comparisons: Sequence[Comparison], form: str = "text", width: int | None = None) -> str:
    """Return comparisons as one text: `text` of a width, `markdown`, `latex`, `csv` or `json`.

    Raises:
        UserError: no such format.
    """
    if form == "text":
        return "\n".join(terminal(one, width) for one in comparisons)
    if form in _ALL:
        return _ALL[form](comparisons)
    if form not in _EACH:
        raise unknown("format", form, FORMATS)
    return "\n".join(map(_EACH[form], comparisons))
