"""The sections of a study's page, one module each. `write` returns the section, or None if there is nothing to show.

A section's script is the file in report/web/sections with its `key`; the page starts it with its data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nasseg.report.html.markup import Html
from nasseg.report.numbers.content import Content
from nasseg.report.parts import answer
from nasseg.report.sections import (
    cheap_figures,
    every_trial,
    finished,
    front,
    front_table,
    measured_again,
    origin,
    population,
    search_history,
    since,
    totals,
)


@dataclass(frozen=True)
class Section:
    """A section of the page. data: read by its script, under the name `key`."""

    write: Callable[[Content], Html | None]
    key: str = ""
    data: Callable[[Content], Any] | None = None


SECTIONS = (  # in the page's order
    Section(since.write),
    Section(front.write, "budget", answer.data),
    Section(totals.write),
    Section(finished.write),
    Section(measured_again.write),
    Section(front_table.write, "paper", front_table.data),
    Section(every_trial.write, "trials", every_trial.data),
    Section(population.write, "population", population.data),
    Section(cheap_figures.write),
    Section(search_history.write, "hypervolume", search_history.data),
    Section(origin.write),
)
