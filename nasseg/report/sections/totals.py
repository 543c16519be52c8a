"""The study's result in a sentence, its counts, and the best network for each objective."""

from nasseg.report.html.markup import Html
from nasseg.report.numbers.content import Content
from nasseg.report.parts import summary


def write(content: Content) -> Html:
    """Return the section."""
    record, shown, view = content.record, content.shown, content.view
    return summary.summary_section(summary.headline(record, shown, view), summary.tiles(record, shown, view))
