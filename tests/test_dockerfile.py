"""The Dockerfile, as far as it can be checked without an engine that builds it."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import typer

from nasseg.cli import app
from nasseg.study.study_file import load_study
from tests import ROOT

LINES = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
COPIED = [words.split()[:-1] for instruction, words in LINES if instruction == "COPY"]


def runs():
    return [words for instruction, words in LINES if instruction == "RUN"]


def test_what_is_copied_exists_and_is_all_that_the_builder_is_sent():
    names = [name for names in COPIED for name in names]
    assert [name for name in names if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(names)


def test_it_installs_what_the_constraints_and_the_project_name():
    pins = re.findall("^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(pins) == 1
    assert "$(grep '^torch==' constraints.txt)" in runs()[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r"\.\[(.*)\]", runs()[1])[1].split(",")) <= set(extras)


def test_it_runs_the_first_command():
    last = {instruction: json.loads(words) for instruction, words in LINES if instruction in ("ENTRYPOINT", "CMD")}
    assert last["ENTRYPOINT"] == ["nasseg"]
    verb, study = last["CMD"]
    assert verb in typer.main.get_command(app).commands
    assert load_study(study).file.latency.device == "cpu"


@pytest.mark.slow
def test_the_package_installs_from_what_is_copied(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in [name for names in COPIED for name in names]:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(tmp_path / "site"), "."], cwd=source, check=True, capture_output=True)
    assert (tmp_path / "site/nasseg/_data/studies/quickstart.yaml").exists()
