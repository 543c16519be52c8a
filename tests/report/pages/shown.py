"""What a page shows in a browser."""

import re
from html import unescape


def opened(page, number):
    """The panel's text, when it shows that trial."""
    page.wait_for_selector(f"#panel .title:has-text('#{number} ')")
    return page.inner_text("#panel")


def rows_of(page, chart="front", meta="trials"):
    """The rows that a chart shows."""
    found = page.evaluate(
        """([chart, meta]) => document.getElementById(chart).data.flatMap(
        (t) => t.meta === meta && t.visible !== false ? t.customdata : [])""",
        [chart, meta],
    )
    return {row for row in found if row is not None and row >= 0}


def population_shown(page):
    page.locator("#population").scroll_into_view_if_needed()
    page.wait_for_selector("body[data-population=yes]")


def plain(markup):
    """What a browser shows of the markup."""
    return unescape(re.sub("<[^>]*>", "", markup))


def position(page, row):
    """Where the mark of a row is on the screen."""
    return page.evaluate(
        """(row) => {
        const chart = document.getElementById("front"), box = chart.querySelector(".nsewdrag").getBoundingClientRect();
        const trace = chart.data.find((t) => t.meta === "trials" && t.customdata.includes(row));
        const i = trace.customdata.indexOf(row), { xaxis, yaxis } = chart._fullLayout;
        return [box.x + xaxis.d2p(trace.x[i]), box.y + yaxis.d2p(trace.y[i])];
    }""",
        row,
    )
