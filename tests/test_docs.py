"""The documentation is true: its commands exist, its examples run, all commands, options and settings are in it."""

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from nasseg.cli import app
from nasseg.figures import FIGURES
from nasseg.files import parse_yaml
from nasseg.space import load_space
from nasseg.study.study_file import load_study
from tests import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOT_RUN = ("needs", "takes")  # titles of what a test does not run; a file's name writes the block to it
GROUP: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def generated():
    """The module that writes the site's pages of commands and files."""
    pytest.importorskip("mkdocs")
    path = ROOT / "docs/generated.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return language, title and text of the page's blocks; of the README's indented ones as `sh`."""
    text = page.read_text()
    found = BLOCK.findall(text)
    if page.name in ("README.md", "CONTRIBUTING.md"):
        found += [("sh", "needs", line) for line in re.findall(r"^    (\S.*)$", BLOCK.sub("", text), re.MULTILINE)]
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for language, _, text in blocks(page):
            if language != "sh":
                continue
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if "nasseg" in words and words[0] != "docker":  # where it is the name of an image
                    yield f"{page.name}: {line}", words[words.index("nasseg") + 1 :]


def resolve(words: list[str]) -> Any:
    group = GROUP
    while hasattr(group, "commands"):
        group, words = group.commands[words[0]], words[1:]
    return group


def test_every_command_line_names_a_command_and_its_options():
    lines = list(commands())
    assert len(lines) > 40
    for where, words in lines:
        if words[0].startswith("-") or words[0] == "COMMAND":
            continue
        known = {name for parameter in resolve(words).params for name in [*parameter.opts, *parameter.secondary_opts]}
        given = {word for word in words if re.match(r"^--?[a-z]", word)}
        assert given <= known | {"--help"}, where


def test_every_command_is_in_a_guide_and_every_option_described():
    said = "\n".join(page.read_text() for page in PAGES)
    for name, command in GROUP.commands.items():
        assert f"nasseg {name}" in said, name
        for one in command.commands.values() if hasattr(command, "commands") else [command]:
            assert all(parameter.help for parameter in one.params), name


def test_links_between_files_lead_somewhere():
    """Also those of the README. Within docs/ the site checks them too, with their headings, when it is built."""
    pages = [*PAGES, ROOT / "examples/README.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    assert len(links) > 60
    made = {"../reference/files.md", "reference/commands.md"}  # by docs/generated.py
    for page, link in links:
        path = link.partition("#")[0]
        known = not path or path in made or path.startswith("http") or (page.parent / path).exists()
        assert known, f"{page.relative_to(ROOT)} links to {link}, which is not there"


def test_files_of_the_repository_that_pages_name_are_there():
    home = re.compile(
        r"`((?:nasseg|tests|docs|examples|spaces|studies|reports)/(?!my-)[\w./-]+)`"
    )  # my-: the reader's own
    named = [(page.name, path) for page in PAGES for path in home.findall(page.read_text())]
    assert len(named) > 60
    assert [(page, path) for page, path in named if not (ROOT / path).exists()] == []


def test_the_readme_is_one_screen_or_two():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_figure_is_explained():
    page = (ROOT / "docs/guide/figures.md").read_text()
    assert [name for name in FIGURES if f"`{name}`" not in page] == []


def test_every_extra_is_explained():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in ("README.md", "docs/guide/install.md"):
        said = (ROOT / page).read_text()
        assert [name for name in extras if f"`{name}`" not in said] == []


def test_every_key_of_a_file_has_a_meaning(generated):
    models, done = list(generated.FILES.values()), set()
    while models:
        model = models.pop()
        done.add(model)
        keys = {field.alias or name for name, field in model.model_fields.items()}
        assert keys == set(generated.meanings_of(model)[1]), model
        nested = {one for field in model.model_fields.values() for one in generated.models_of(field.annotation)}
        models += nested - done
    assert len(done) > 15


def test_the_page_of_commands_has_every_option(generated):
    page = generated.commands()
    for option in ("## nasseg search", "## nasseg data check", "`--remeasure`, `--no-remeasure`", "| KEY=VALUE |"):
        assert option in page


def test_spaces_and_studies_load(tmp_path):
    kinds = []
    for page in PAGES:
        for language, title, text in blocks(page):
            path = tmp_path / f"{len(kinds)}.yaml"
            path.write_text(text)
            if language == "yaml" and title in ("a space", "a study"):
                kinds.append((load_space if title == "a space" else load_study)(path))
            elif language == "yaml" and "--8<--" not in text:
                assert parse_yaml(text, path).data
    assert len(kinds) == 2


def test_the_messages_are_those_of_the_code():
    code = " ".join(" ".join(path.read_text().split()) for path in (ROOT / "nasseg").rglob("*.py"))
    code = re.sub(r'" f?"', "", code)
    messages = re.findall(r'\*\*"(.*?)"\*\*', (ROOT / "docs/guide/errors.md").read_text(), re.DOTALL)
    assert len(messages) > 40
    for message in messages:
        for part in " ".join(message.split()).split("..."):
            assert part.strip() in code, f"{message!r}: no message says {part.strip()!r}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_marked_runs(page, tmp_path, monkeypatch):
    """Blocks of a page run in their order, in one folder; those with a file's name as their title are that file."""
    monkeypatch.chdir(tmp_path)
    for language, title, text in blocks(page):
        text = re.sub(r'^--8<-- "(.*)"$', lambda match: (ROOT / match[1]).read_text(), text, flags=re.MULTILINE)
        if re.fullmatch(r"[\w-]+\.\w+", title):
            (tmp_path / title).write_text(text)
        elif language == "python":
            text = text.replace("trials=8", "trials=1")  # the same calls, in less time
            done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, done.stderr
        elif language == "sh" and not title.startswith(NOT_RUN):
            nasseg = f"{shlex.quote(sys.executable)} -m nasseg"
            script = re.sub(r"^nasseg", nasseg, text, flags=re.MULTILINE)
            done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{text}{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]  # --quiet forgives
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "price_per_hour" in (tmp_path / "reference/files.html").read_text()
