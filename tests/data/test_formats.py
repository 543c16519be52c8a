"""Every form in which people have their data: init, check and load_data read what is right, and say it.

docs/data-formats.md is made from the imitations by `python -m tests.data.test_formats`, and compared here.
"""

import os
import re
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pytest

from nasseg.data.check.check_data import check_data
from nasseg.data.dataset import find_folder, load_data
from nasseg.data.init import study
from nasseg.data.init.begin import begin
from nasseg.data.init.machine import Machine
from tests.data import imitations
from tests.slow import slow

# Shapes are drawn by COCO's rule for edges, and lossy masks lose a little there.
MOSTLY = 0.985
PAGE = Path(__file__).parents[2] / "docs/data-formats.md"
HEAD = """# Data formats, and what nasseg says about them

`nasseg init --data FOLDER` reads the forms below on its own; `nasseg data check NAME` then
opens every file. Each row is a tiny imitation of a common download or export. Lines about pairs, the machine and the
study are left out. `python -m tests.data.test_formats` writes this page; a test compares it with what comes out.

| as downloaded | what init says | what check says |
| --- | --- | --- |
"""
_NOT_SHOWN = re.compile(
    r"pairs of|measured|no latency budget|\d+ trials|networks see|mine:|fingerprint|note: (pairs|there is)"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "measure_machine", measured)


def measured(*_):
    return Machine("cpu", 2, (8.0, 12.0, 20.0), 0.25)


def said(form, root):
    """The truth, and the lines of init and of check."""
    truth = imitations.FORMS[form](root)
    begun = begin(root, name="mine")
    return truth, begun.found, check_data("mine")


@pytest.mark.parametrize(
    "form",
    [slow(form) if form.startswith("masks ") else form for form in imitations.FORMS],
)
def test_a_form_is_read_right_and_the_page_says_what_is_said(form, tmp_path):
    root = tmp_path / "data"
    truth, told, found = said(form, root)
    data, text = load_data("mine"), "\n".join(told)
    assert found.usable, (found.faults, text)
    assert not [fault for fault in found.faults if "nearly the same" not in fault], text
    assert dict(data.counts) == truth.splits, text
    assert data.classes == truth.names or not truth.names, text
    classes = {number for label in truth.labels.values() for number in label.ravel()} - {255}
    assert len(data.classes) == len(classes), text
    for split, samples in find_folder("mine")[0].samples.items():
        for number, sample in enumerate(samples):
            right = truth.labels[sample.image.relative_to(root).as_posix()]
            read = np.asarray(data.split(split).labels[number])
            assert read.shape == right.shape
            assert (read == right).mean() > MOSTLY, (sample, text)
    assert row(form, told, found, root) in PAGE.read_text(), "run python -m tests.data.test_formats"


def test_the_page_has_these_forms_and_no_others():
    text = PAGE.read_text()
    assert text.startswith(HEAD)
    assert [line.split(" | ")[0].removeprefix("| ") for line in text[len(HEAD) :].splitlines()] == list(
        imitations.FORMS
    )


def row(form, told, found, root):
    init = [line for line in told if not _NOT_SHOWN.match(line)]
    check = [line for line in found.lines() if not _NOT_SHOWN.match(line)]
    cells = ("<br>".join(lines).replace(str(root) + "/", "").replace("|", "\\|") for lines in (init, check))
    return f"| {form} | {' | '.join(cells)} |\n"


def write_page():
    rows = []
    for form in imitations.FORMS:
        with (
            TemporaryDirectory() as home,
            chdir(home),
            mock.patch.object(study, "measure_machine", measured),
            mock.patch.dict(os.environ, NASSEG_CACHE=f"{home}/cache"),
        ):
            root = Path(home).resolve() / "data"
            _, told, found = said(form, root)
            rows.append(row(form, told, found, root))
    PAGE.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    write_page()
