"""The house itself: import rules, and that every file shipped loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from nasseg.families import make_arch, variants
from nasseg.files import list_files
from nasseg.space import load_space
from nasseg.study.file import load_study
from nasseg.study.published import check_space, published_in

ROOT = Path(__file__).resolve().parents[1]


def test_who_may_import_whom():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", list_files("spaces"))
def test_every_space_loads_and_names_fields_that_exist(name):
    space = load_space(name)
    check_space(space)
    assert space.count() > 1_000


@pytest.mark.parametrize("name", list_files("studies"))
def test_every_study_loads(name):
    study = load_study(name)
    check_space(study.space)
    assert study.file.question
    assert study.file.expected


@pytest.mark.parametrize("name", variants())
def test_every_variant_is_cited_and_valid(name):
    assert variants()[name].citation
    make_arch(name)


@pytest.mark.parametrize("family", ["bisenetv2", "regseg"])
def test_published_networks_lie_in_their_papers_space(family):
    assert family in published_in(load_space(family))
