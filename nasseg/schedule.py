"""Dilation schedules in the papers' own notation, `(1,1)+(1,2)+4*(1,4)+7*(1,14)`.

A schedule is a tuple of entries, one for each block; an entry is a tuple of dilation rates, one for each branch.
"""

import re
from itertools import groupby

from nasseg.errors import UserError

Schedule = tuple[tuple[int, ...], ...]

MAX_ENTRIES = 1_000
MAX_LENGTH = 20_000  # of the text
_TERM = re.compile(r"(?:([0-9]{1,9})\*)?\(([0-9]{1,9}(?:,[0-9]{1,9})*)\)")


def parse_schedule(text: str) -> Schedule:
    """Parse a schedule written as a sum of terms `n*(d1,d2,...)`; `n*` may be left out, and n may be 0.

    Raises:
        UserError: a term does not parse, a rate is below 1, or there is no entry at all, or too many.
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"a schedule has at most {MAX_LENGTH:,} characters, got {len(text):,}")
    entries: list[tuple[int, ...]] = []
    for term in text.replace(" ", "").split("+"):
        match = _TERM.fullmatch(term)
        if match is None:
            raise UserError(f"a schedule is a sum of terms like 4*(1,14), got {term!r} in {text!r}")
        count = int(match[1]) if match[1] else 1
        rates = tuple(int(rate) for rate in match[2].split(","))
        if min(rates) < 1:
            raise UserError(f"dilation rates start at 1, got {term!r} in {text!r}")
        if len(entries) + count > MAX_ENTRIES:
            raise UserError(f"a schedule has at most {MAX_ENTRIES} entries, got {text!r}")
        entries += [rates] * count
    if not entries:
        raise UserError(f"a schedule needs at least one entry, got {text!r}")
    return tuple(entries)


def format_schedule(schedule: Schedule) -> str:
    """Write a schedule in the papers' notation, joining equal neighbours: the inverse of `parse_schedule`."""
    terms = []
    for entry, run in groupby(schedule):
        count = len(list(run))
        rates = "(" + ",".join(map(str, entry)) + ")"
        terms.append(rates if count == 1 else f"{count}*{rates}")
    return "+".join(terms)
