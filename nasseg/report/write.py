"""Reports as files: one page that needs nothing else, or a folder of pages that share the plotting library."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

from plotly.offline import get_plotlyjs

from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.records import StudyRecord
from nasseg.report import words
from nasseg.report.markup import tag
from nasseg.report.page import LIBRARY, fill, render, stylesheet
from nasseg.report.several import render_several

INDEX = "index.html"
_HEAD = 65_536  # characters of a report in which all that an index needs is found


def write_report(
    records: StudyRecord | Sequence[StudyRecord], path: Path | str, *, shared: bool = False, since: str | None = None
) -> Path:
    """Write the report of a study, or of several beside each other, as one HTML file, whole or not at all.

    shared: for a folder of reports: the plotting library is not in the file but beside it, once for all of them, and
    the folder's index is renewed. Otherwise the file needs nothing else. Equal records give equal files. since: a date;
    the report of one study opens with what came since then.

    Raises:
        UserError: the file cannot be written, the date is none, or the studies share no objective.
    """
    target = Path(path)
    several = [records] if isinstance(records, StudyRecord) else list(records)
    if since and len(several) > 1:
        raise UserError("what came since a date is told of one study at a time; write a report of each")
    page = render(several[0], shared, since) if len(several) == 1 else render_several(several, shared)
    _write(target, page)
    if shared:
        library, text = target.with_name(LIBRARY), get_plotlyjs()
        if not library.exists() or library.read_text(encoding="utf-8") != text:
            _write(library, text)
        write_index(target.parent)
    return target


def write_index(folder: Path | str) -> Path:
    """Write a folder's index.html: its reports, the latest study first, with question, date and the front's size.

    Everything is read from the reports themselves; other pages are left out.

    Raises:
        UserError: the file cannot be written.
    """
    found = []
    for path in sorted(Path(folder).glob("*.html")):
        if path.name != INDEX:
            head = _Head()
            with path.open(encoding="utf-8", errors="replace") as file:
                head.feed(file.read(_HEAD))
            if "nasseg-created" in head.facts:
                found.append((path.name, head.title.strip(), head.facts))
    found.sort(key=lambda item: item[2]["nasseg-created"], reverse=True)
    rows = []
    for name, title, facts in found:
        link = tag("a", title or name, href=f"./{quote(name)}")
        date = tag("td", facts["nasseg-created"][:10], class_="nowrap")
        front = tag("td", facts.get("nasseg-front", words.NOTHING), class_="number")
        rows.append(tag("tr", tag("td", link), tag("td", facts.get("description", "")), date, front))
    heads = [tag("th", name, scope="col", class_="number" if name == "On the front" else None)
             for name in ("Study", "Question", "Begun", "On the front")]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), id="reports")
    body = tag("div", table, class_="scroll", tabindex="0") if rows else tag("p", "No report is here yet.")
    return _write(Path(folder) / INDEX, fill("index.html", style=stylesheet(), body=body))


def _write(target: Path, text: str) -> Path:
    try:
        with written_whole(target) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report {target}: {error.strerror}; choose another place with -o") from None
    return target


class _Head(HTMLParser):
    """Title and meta tags."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.facts, self._inside = "", dict[str, str](), False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "title" and not self.title
        found = dict(attrs)
        if tag == "meta" and found.get("name"):
            self.facts[str(found["name"])] = found.get("content") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.title += data
