"""The examples run."""

import json
import os
import shutil
import subprocess
import sys
import time
from threading import Event, Thread

import pytest

from nasseg.study import opened
from tests import ROOT
from tests.report.fake import fake_record

EXAMPLES = ROOT / "examples"
# The commands of examples/README.md; a longer line is one that it leaves to its reader.
COMMANDS = {
    "1-your-folder": [
        "python make_pictures.py",
        "nasseg init --data pictures --hours 0.02",
        "nasseg search pictures --trials 2",
    ],
    "2-your-figure": ["nasseg search my_study.yaml", "nasseg search energy_study.yaml"],
    "3-your-block": ["python check.py", "nasseg search my_study.yaml"],
    "4-your-target": ["nasseg search my_study.yaml"],
    "6-your-table": ["nasseg reproduce mine.yaml -o mine.md"],
}


def test_the_notebook_reads_a_study(monkeypatch):
    record = fake_record(120)
    asked = []
    monkeypatch.setattr(opened, "read_study", lambda name, storage: asked.append(name) or record)
    cells = json.loads((EXAMPLES / "5-read-a-study.ipynb").read_text())["cells"]
    assert len(cells) == 15
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile(cell["source"], cell["id"], "exec"), names)
    assert asked == ["quickstart"]
    assert names["within"]["latency_ms"].max() <= names["budget_ms"]
    assert names["best"]["miou"] == names["finished"]["miou"].max()
    assert set(names["classes"]) >= {"road", "person"}


def test_each_example_is_listed_with_its_commands():
    listed = (EXAMPLES / "README.md").read_text()
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(COMMANDS)
    for name, commands in COMMANDS.items():
        row = next(line for line in listed.splitlines() if f"({name})" in line)
        assert all(f"`{command}`" in row for command in commands), name


@pytest.fixture
def counter(tmp_path):
    """A file that counts energy as the kernel's does: 20 W, in microjoules."""
    file, over = tmp_path / "energy_uj", Event()

    def count():
        while not over.wait(0.01):
            partial = file.with_suffix(".partial")
            partial.write_text(f"{int(20e6 * time.monotonic())}\n")
            partial.replace(file)

    thread = Thread(target=count)
    thread.start()
    yield file
    over.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_runs(name, tmp_path, counter):
    if name == "4-your-target":
        pytest.importorskip("onnxruntime")
    home = shutil.copytree(EXAMPLES / name, tmp_path / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for program, arguments in (("python", ""), ("nasseg", "-m nasseg ")):
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / program).chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    env["ENERGY_COUNTER"] = str(counter)
    for command in COMMANDS[name]:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    searches = sum(command.startswith("nasseg search") for command in COMMANDS[name])
    assert len(list(home.glob("runs/*/report.html"))) == searches
    assert searches or (home / "mine.md").exists()
