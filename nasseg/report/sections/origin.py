"""Protocols, machines and published networks: the origin of a page's figures."""

from collections import Counter

from nasseg import words
from nasseg.analyse.trials import broken_limit
from nasseg.figures import figure_in
from nasseg.records import StudyRecord
from nasseg.report.html import protocols
from nasseg.report.html.markup import Html, section, tag, text, titled
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import over_words
from nasseg.report.parts.tables import plain_table


def write(content: Content) -> Html:
    """Return the section."""
    record = content.record
    return section(
        "origin",
        "Where these figures come from",
        protocols_table(record),
        titled("Published networks beside the study's own", published_table(record)),
        provenance(record),
    )


def protocols_table(record: StudyRecord) -> Html | None:
    """Return a table of every protocol and machine behind the figures, with the number of trials of each."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for m in (trial.measurement for trial in record.trials if trial.measurement):
        if m.accuracy:
            a = m.accuracy
            seen["Accuracy", protocols.accuracy_protocol(a.protocol), protocols.environment(a.environment)] += 1
        if m.latency:
            seen[
                "Latency", protocols.latency_protocol(m.latency.protocol), protocols.environment(m.latency.environment)
            ] += 1
        if m.cost:
            seen["Cost", protocols.cost_protocol(m.cost.protocol), protocols.environment(m.cost.environment)] += 1
    rows = [
        tag("tr", *(tag("td", cell) for cell in key), tag("td", f"{count:,}", class_="number"))
        for key, count in sorted(seen.items())
    ]
    heads = (("figure", None), ("protocol", None), ("measured on", None), ("trials", "number"))
    return plain_table(heads, rows) if rows else None


def provenance(record: StudyRecord) -> Html:
    """Describe the study, the machine it ran on, and how to continue it."""
    facts = [("study", record.name), ("created", words.moment(record.created)), ("command", record.command)]
    facts += [(key, words.plain(value)) for key, value in record.identity.items()]
    extra = record.extra.items()
    facts += [(name.replace("_", " "), words.plain(v)) for name, v in extra if isinstance(v, int | float)]
    environment = {key: value for key, value in record.environment.items() if value is not None}
    facts.append(("environment", words.plain(environment)))
    pairs = [part for key, value in facts if value for part in (tag("dt", words.sentence(key)), tag("dd", value))]
    files = {"study_file": record.study_file, **{n: v for n, v in extra if not isinstance(v, int | float)}}
    folds = [
        tag("details", tag("summary", words.sentence(name.replace("_", " "))), tag("pre", words.plain(content)))
        for name, content in files.items()
        if content
    ]
    return text(tag("dl", *pairs), *folds)


def published_table(record: StudyRecord) -> Html | None:
    """Return a table of the published networks with their known figures."""
    if not record.published:
        return None
    names = list(dict.fromkeys(name for point in record.published for name in point.figures))
    figures = [figure_in(record, name) for name in names]
    heads = [("network", None), ("citation", None), *((figure.label, "number") for figure in figures)]
    rows = []
    for point in record.published:
        broken = broken_limit(record.limits, point)
        over = tag("small", f", {over_words(record, broken)}") if broken else None
        cells = [tag("td", point.name, over), tag("td", point.citation)]
        for figure in figures:
            cells.append(tag("td", figure.text(point.figures.get(figure.name)), class_="number"))
        rows.append(tag("tr", *cells))
    return plain_table(heads, rows)
