"""The house itself: import rules, and that every file shipped loads."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

import nasseg
from nasseg.families import make_arch, variants
from nasseg.files import list_files
from nasseg.space import load_space
from nasseg.study.check_space import check_space, published_in
from nasseg.study.study_file import load_study
from tests import ROOT

FOLDERS = sorted({path.parent for path in (ROOT / "nasseg").rglob("*.py")})


def _code(folder):
    """Return the code files of a folder, without __init__."""
    return [path for path in folder.iterdir() if path.suffix in (".py", ".js") and path.stem != "__init__"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_holds_at_most_a_dozen_code_files_of_at_most_400_lines(folder):
    assert len(_code(folder)) <= 12
    long = {path.name: n for path in _code(folder) if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_a_test_file_has_at_most_400_lines():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_file_is_kept_from_the_formatter():
    kept = [
        path
        for top in ("nasseg", "tests")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"#\s*fmt:", path.read_text())
    ]
    assert kept == []


def test_no_four_folders_share_the_name_of_a_file():
    stems = Counter(path.stem for folder in FOLDERS for path in _code(folder))
    assert [name for name, count in stems.items() if count > 3] == []


def test_the_tests_mirror_the_package():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [folder for folder in folders - {Path("gpu")} if not (ROOT / "nasseg" / folder).is_dir()]
    assert not missing, f"no such folder of nasseg: {missing}"


def test_the_guide_for_contributors_names_files_that_exist():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    named = [path for path in re.findall(r"`([\w./-]+)`", guide) if "/" in path or path.endswith(".md")]
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []
    wanted = ["a family", "a built-in figure", "a report section", "an engine", "a data set", "a study or a table"]
    assert re.findall("^### (.*)$", guide, re.MULTILINE) == [*wanted, "a command"]


def test_the_map_of_the_house_names_every_folder():
    drawn = (ROOT / "CONTRIBUTING.md").read_text().partition("    nasseg/\n")[2].partition("\n\n")[0]
    above, named = [], set()
    for line in drawn.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 3
        above[depth:] = [line.split()[0].rstrip("/")]
        assert (ROOT / "nasseg").joinpath(*above).exists(), line
        named.add(ROOT.joinpath("nasseg", *above))
    assert set(FOLDERS) - {ROOT / "nasseg"} <= named


def test_public_modules_are_complete_under_mypy_strict():
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    (strict,) = (one["module"] for one in overrides if one.get("warn_return_any"))
    assert set(strict) == {"nasseg", *nasseg._HOMES.values()}
    assert (ROOT / "nasseg/py.typed").exists()


def test_commits_are_checked_by_the_tools_of_make_lint():
    makefile = (ROOT / "Makefile").read_text()
    tools = re.findall(r"\$\(BIN\)/(.*)", makefile.partition("\nlint:")[2].partition("\n\n")[0])
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [re.sub(" --force-exclude", "", hook["entry"]).removeprefix(".venv/bin/") for hook in hooks]
    assert [tool.removesuffix(" .") for tool in tools] == entries


def test_who_may_import_whom():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_every_room_with_folders_says_in_which_order_they_import():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = {room for contract in contracts for room in contract.get("containers", [])}
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "nasseg").rglob("*/__init__.py")]
    rooms = Counter(".".join(folder.parent.parts) for folder in folders)
    assert {room for room, count in rooms.items() if count > 1} <= layered


@pytest.mark.parametrize("name", list_files("spaces"))
def test_every_space_loads_and_names_fields_that_exist(name):
    space = load_space(name)
    check_space(space)
    assert space.count() > (250 if name == "replay" else 1_000)  # one is there to be trained as a whole


def test_nothing_runs_what_is_in_a_file():
    """YAML is read safely, weights as weights only; users' own figures are the one kind of code that a study names."""
    loads = re.compile(
        r"pickle|yaml\.(load|unsafe_load|full_load)\(|torch\.load\((?!.*weights_only=True)|\b(eval|exec)\("
    )
    for path in (ROOT / "nasseg").rglob("*.py"):
        found = [line.strip() for line in path.read_text().splitlines() if loads.search(line)]
        assert not [line for line in found if ".eval(" not in line], f"{path}: {found}"


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


NO_VERB = re.compile(
    "An?|The|This|That|These|Those|It|Its|Their|From|To|In|Into|On|Over|Under|Within|Without|After|Before|Beyond|Away"
    "|At|About|And|Or|Not?|None|Nothing|Never|Only|Same|One|Two|Three|Four|Every|Everything|Each|All|Any|Both|Half"
    "|Ours|Different|Whatever"
)
NO_NOUN = re.compile("What|Which|Of|Whether|How|Where|Why|Who|Whose|When|By|For|As|With")


def _docstrings(path):
    """Yield (line, whether it is a function's, docstring); properties, classes and modules count as nouns."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            decorators = {ast.unparse(one) for one in getattr(node, "decorator_list", ())}
            yield (
                getattr(node, "lineno", 1),
                isinstance(node, ast.FunctionDef) and not decorators & {"property", "cached_property"},
                text,
            )


def _first_word(text):
    return text.split()[0].rstrip(".,:;")


def begins_with_a_verb(text):
    word = _first_word(text)
    plural = word.endswith("s") and not word.endswith("ss")
    return word.isalpha() and word.istitle() and not plural and not NO_VERB.fullmatch(word)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_say_what_the_thing_does(folder):
    """A function's begins with a verb, "Return ..."; any other may be a noun phrase, "The columns of ..."."""
    offenders = [
        f"{path.name}:{line}: {text.splitlines()[0]}"
        for path in sorted(folder.glob("*.py"))
        for line, function, text in _docstrings(path)
        if (function and not begins_with_a_verb(text)) or NO_NOUN.fullmatch(_first_word(text))
    ]
    assert not offenders, "\n".join(["begin with a verb:", *offenders])
