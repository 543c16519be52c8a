"""Reports as files: one self-contained page, or a folder of pages that share the plotting library."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt
from plotly.offline import get_plotlyjs

from nasseg import words
from nasseg.errors import UserError
from nasseg.files import ELSEWHERE, output_file
from nasseg.processes.collection import no_collection
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill
from nasseg.report.pages.several_studies import render_several
from nasseg.report.pages.study_page import LIBRARY, render, stylesheet

INDEX = "index.html"
_HEAD = 65_536  # characters at the start of a report that hold all that an index needs


def write_report(
    records: StudyRecord | Sequence[StudyRecord], path: Path | str, *, shared: bool = False, since: str | None = None
) -> Path:
    """Write the report of a study, or of several side by side, as one HTML file, complete or not at all.

    shared: for a folder of reports: the plotting library is beside the file, once for all, and the folder's index is
    rewritten. By default the file is self-contained. Equal records give equal files. since: a date; the report of one
    study then opens with the changes since.

    Raises:
        UserError: the file cannot be written, the date is invalid, or the studies share no objective.
    """
    target = Path(path)
    several = [records] if isinstance(records, StudyRecord) else list(records)
    if since and len(several) > 1:
        raise UserError("changes since a date work for one study at a time; write a report of each")
    with no_collection():
        page = render(several[0], shared, since) if len(several) == 1 else render_several(several, shared)
    _write(target, page)
    if shared:
        library, code = target.with_name(LIBRARY), get_plotlyjs()
        if not library.exists() or library.read_text(encoding="utf-8") != code:
            _write(library, code)
        write_index(target.parent)
    return target


def write_index(folder: Path | str) -> Path:
    """Write a folder's index.html: its reports, the latest study first, with question, date and the front's size.

    It also lists pages of tables, and each subfolder with an index.html or a README.md, with its data and first
    picture. A README.md becomes a page beside it, for browsers. Everything is read from the files themselves. Other
    pages are left out.

    Raises:
        UserError: the file cannot be written.
    """
    root, found, tables = Path(folder), [], []
    for path in sorted(root.glob("*.html")):
        head = _Head(path)
        if path.name != INDEX and "nasseg-created" in head.facts:
            found.append((path.name, head.title.strip(), head.facts))
        elif "nasseg-tables" in head.facts:
            tables.append(_card(path.name, head.title.strip(), head.facts["nasseg-tables"]))
    found.sort(key=lambda item: item[2]["nasseg-created"], reverse=True)
    rows = []
    for name, title, facts in found:
        link = tag("a", title or name, href=f"./{quote(name)}")
        date = tag("td", facts["nasseg-created"][:10], class_="nowrap")
        front = tag("td", facts.get("nasseg-front", words.NOTHING), class_="number")
        rows.append(tag("tr", tag("td", link), tag("td", facts.get("description", "")), date, front))
    heads = [
        tag("th", name, scope="col", class_="number" if name == "On the front" else None)
        for name in ("Study", "Question", "Begun", "On the front")
    ]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), id="reports")
    cards = [*tables, *(card for path in sorted(root.glob("*/")) if (card := _folder_card(path)))]
    body = tag("div", table, class_="scroll", tabindex="0") if rows else tag("p", "There is no report here yet.")
    beside = text(tag("h2", "Beside them"), tag("div", *cards, class_="cards")) if cards else None
    parts = {"title": "Reports", "kicker": "Design-space search", "style": stylesheet()}
    return _write(root / INDEX, fill("index.html", **parts, body=body, beside=text(beside)))


def _folder_card(folder: Path) -> Html | None:
    """Describe a subfolder by its page or its text: title, first picture, data."""
    page = next((path for name in (INDEX, "README.md") if (path := folder / name).is_file()), None)
    if page is None:
        return None
    text_of = page
    if page.name == INDEX:
        head = _Head(page)
        title, said = head.title.strip(), head.facts.get("nasseg-tables") or head.facts.get("description", "")
    else:
        lines = page.read_text(encoding="utf-8", errors="replace").splitlines()
        title, said = next((line[2:].strip() for line in lines if line.startswith("# ")), folder.name), ""
        page = _text_page(page.with_suffix(".html"), title, [line for line in lines if line != f"# {title}"])
    pictures = [path for kind in ("png", "svg") for path in sorted(folder.glob(f"*.{kind}"))]
    data = sorted(path for kind in ("csv", "json", "md") for path in folder.glob(f"*.{kind}") if path != text_of)
    files = [[f"{folder.name}/{path.name}" for path in paths] for paths in (pictures[:1], data)]
    return _card(f"{folder.name}/{page.name}", title or folder.name, said, *files)


def _text_page(target: Path, title: str, lines: Sequence[str]) -> Path:
    """Write a page from a Markdown text. HTML markup in it stays text; lines that are comments are left out."""
    said = [line for line in lines if not (line.startswith("<!--") and line.endswith("-->"))]
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render("\n".join(said))
    parts = {"title": title, "kicker": "Reports", "style": stylesheet()}
    return _write(target, fill("index.html", **parts, body=Html(body), beside=""))


def _card(page: str, title: str, said: str, pictures: Sequence[str] = (), data: Sequence[str] = ()) -> Html:
    at, links = f"./{quote(page)}", []
    for path in data:
        links += [tag("a", path.rpartition("/")[2], href=f"./{quote(path)}"), " "]
    shown = [tag("a", tag("img", src=f"./{quote(path)}", alt="", loading="lazy"), href=at) for path in pictures]
    notes = [tag("p", part, class_="note") for part in (said, text(*links)) if part]
    return tag("div", *shown, tag("div", tag("h3", tag("a", title, href=at)), *notes), class_="card")


def _write(target: Path, text: str) -> Path:
    with output_file(target, ELSEWHERE) as partial:
        partial.write_text(text, encoding="utf-8")
    return target


class _Head(HTMLParser):
    """Title and meta tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.title, self.facts, self._inside = "", dict[str, str](), False
        with path.open(encoding="utf-8", errors="replace") as file:
            self.feed(file.read(_HEAD))

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
