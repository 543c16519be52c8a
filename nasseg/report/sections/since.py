"""The changes of a study since a date."""

from nasseg import words
from nasseg.analyse.compute_spent import since
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, section, tag
from nasseg.report.numbers.content import Content


def write(content: Content) -> Html | None:
    """Return the section; None if no date is given."""
    if content.since is None:
        return None
    return section("since", f"Since {content.since}", since_table(content.record, content.since))


def since_table(record: StudyRecord, date: str) -> Html:
    """Return a table of the compute spent and saved since a date, and of its results."""
    found = since(record, date)
    compute = found.compute
    rows = [("trials", f"{found.trials:,}"), ("training", words.duration(compute.trained))]
    rows.append(("saved, about", words.duration(compute.saved)))
    if compute.money is not None:
        rows.append(("cost", f"{compute.money:,.2f}"))
    if found.now is not None:
        rows.append(("hypervolume", f"{found.before or 0:.3f}, then {found.now:.3f}"))
    rows.append(("new on the front", ", ".join(f"#{n}" for n in found.new_front) or "none"))
    cells = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows)
    return tag("div", tag("table", tag("tbody", *cells)), class_="scroll")
