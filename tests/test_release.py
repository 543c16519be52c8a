"""A release: one version, what it says of itself, what it depends on, and what its files hold."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from datetime import date
from pathlib import Path

import pytest
import yaml

import nasseg
from tests import ROOT
from tests.command_line import nasseg as run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Names under which packages are imported, where they differ from those under which they are installed.
IMPORTED = {"pillow": "pil", "pyyaml": "yaml", "nvidia-ml-py": "pynvml", "markdown-it-py": "markdown_it"}
PART_OF = {"pydantic_core": "pydantic"}  # of another package, which pins it


def test_there_is_one_version(tmp_path):
    newest = re.search(r"^## (\S+), (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == nasseg.__version__
    assert "version" in PROJECT["dynamic"]
    assert run("--version", cwd=tmp_path).stdout == f"nasseg {nasseg.__version__}\n"


def test_the_citation_is_valid_and_of_this_version():
    """The rules are those of the Citation File Format 1.2.0, as far as this file uses it."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    required = {"cff-version", "message", "title", "authors"}
    optional = {"abstract", "type", "version", "date-released", "license", "keywords"}
    assert required <= set(citation) <= required | optional
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["authors"] == PROJECT["authors"]
    assert citation["version"] == nasseg.__version__
    assert isinstance(citation["date-released"], date)
    assert f"## {citation['version']}, {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert (citation["license"], citation["keywords"]) == (PROJECT["license"], PROJECT["keywords"])
    assert citation["abstract"] == PROJECT["description"]


def names(requirements):
    """Return the names under which the packages of requirements are imported."""
    found = {re.match(r"[\w.-]+", one)[0].lower() for one in requirements}
    return {IMPORTED.get(name, name) for name in found}


@pytest.mark.slow
def test_what_is_imported_is_a_dependency_and_the_other_way_round():
    imported = set()
    for path in (ROOT / "nasseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = {PART_OF.get(name, name).lower() for name in imported - {*sys.stdlib_module_names, "nasseg"}}
    needed = names(PROJECT["dependencies"])
    extras = set().union(*(names(asked) for extra, asked in PROJECT["optional-dependencies"].items() if extra != "dev"))
    assert needed <= foreign
    assert foreign <= needed | extras


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return folder


def shipped(folder):
    """Return the files of a folder of the checkout, as paths from its root."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_spaces_and_studies_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    data = {f"nasseg/_data/{name}" for name in shipped("spaces") | shipped("studies")}
    assert held == shipped("nasseg") | data
    for name in ("py.typed", "report/web/page.js", "families/variants/regseg.yaml", "_data/studies/quickstart.yaml"):
        assert f"nasseg/{name}" in held


@pytest.mark.slow
def test_the_source_distribution_holds_what_the_wheel_is_built_from(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    about = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "PKG-INFO", ".gitignore"}
    assert held == shipped("nasseg") | shipped("spaces") | shipped("studies") | about


@pytest.fixture(scope="module")
def installed(built):
    """The programs of a clean environment where the wheel is installed; what it depends on is lent by this one."""
    venv.create(built / "clean", symlinks=True)
    (site,) = (built / "clean").glob("lib/python*/site-packages")
    python = str(built / "clean/bin/python")
    wheel = str(next(built.glob("*.whl")))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    # A .pth file inside a folder that a .pth file names is not read: the checkout's own nasseg stays out.
    (site / "lent.pth").write_text(str(Path(pytest.__file__).resolve().parents[1]))
    return built / "clean/bin"


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(installed, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def command(*words):
        line = [str(installed / words[0]), *words[1:]]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = command("python", "-c", "import nasseg; print(nasseg.__file__)")
    assert where.startswith(str(installed.parent))
    assert command("nasseg", "--version") == f"nasseg {nasseg.__version__}\n"
    assert "1 of 1 trained" in command("nasseg", "search", "quickstart", "--trials", "1")
    best = json.loads(command("nasseg", "front", "quickstart", "--json"))[0]["number"]
    command("nasseg", "report", "quickstart", "-o", "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
    command("nasseg", "export", f"quickstart#{best}", "-o", "best.pt2")
    assert (tmp_path / "best.card.json").exists()
    # A family of a user's own needs no fork.
    shutil.copy(ROOT / "examples/3-your-block/my_block.py", tmp_path)
    mine = command("nasseg", "measure", "my_block.py:LargeKernelArch", "--input", "64x128", "--json")
    assert json.loads(mine)["family"] == "largekernel"
