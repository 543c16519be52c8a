"""The list of a page's sections."""

import sys
from pathlib import Path

from nasseg.report import sections
from nasseg.report.html.one_file import scripts_in
from nasseg.report.html.scripts import bundle
from nasseg.report.numbers.content import content_of
from nasseg.report.pages.study_page import render
from tests.report.fake import fake_record


def test_every_module_of_sections_is_on_the_page():
    written = {Path(sys.modules[section.write.__module__].__file__) for section in sections.SECTIONS}
    folder = Path(sections.__file__).parent
    assert written == {path for path in folder.glob("*.py") if path.stem != "__init__"}


def test_what_a_section_gives_its_script_is_read():
    keys = [section.key for section in sections.SECTIONS if section.data]
    assert len({*keys}) == len(keys)
    script = bundle(*scripts_in("sections"), "page.js")
    assert [key for key in keys if f"data.{key}" not in script and f'section("{key}",' not in script] == []


def test_the_page_is_the_sections_in_their_order():
    record = fake_record(12)
    content = content_of(record, "2020-01-01")
    found = [section.write(content) for section in sections.SECTIONS]
    page, place = render(record, shared=True, since="2020-01-01"), 0
    assert sum(part is not None for part in found) > 5
    for part in found:
        if part is not None:
            place = page.index(part, place) + len(part)
