"""Input that would hang, fill the memory or end in a traceback is refused, with one message, before it is built."""

import signal
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from nasseg.cli.spaces import spaces
from nasseg.data.class_table import read_table
from nasseg.errors import UserError
from nasseg.files import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml
from nasseg.network.address import resolve
from nasseg.network.card import Card, read_card
from nasseg.space import load_space, space_from_text
from nasseg.study.study_file import load_study
from nasseg.tables.table_file import load_table
from nasseg.train.key_maps import read_rules
from nasseg.train.session import recipe_of
from tests.command_line import refused


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASSEG_STORAGE", raising=False)


def write(name, text):
    with open(name, "w") as file:
        file.write(text)
    return name


def gated(width, length):
    """Parameters in layers, each with all of the layer before for its conditions: as many ways as width ** length."""
    names = [[f"p{layer}_{n}" for n in range(width)] for layer in range(length)]
    lines = [f"  {name}: [1, 2]" for name in names[0]]
    for before, layer in pairwise(names):
        when = ", ".join(f"{name}: 1" for name in before)
        lines += [f"  {name}: {{choices: [1, 2], when: {{{when}}}}}" for name in layer]
    return "\n".join(lines)


def tied(count):
    """Clauses that tie each parameter to one far off: what was chosen is to be remembered for all of them."""
    names = [f"p{n}" for n in range(count)]
    clauses = [f"  - {{{one}: 1, {names[-1 - n]}: 2}}" for n, one in enumerate(names[: count // 2])]
    return "\n".join([*(f"  {name}: [1, 2]" for name in names), "forbid:", *clauses])


HEAD = "about: x\nparameters:\n  family: regseg\n"
BOMB = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)), "about: x"]
)
LARGE = {
    "a merge that expands without end": BOMB,
    "a list in itself": "a: &a [*a]",
    "a mapping that merges itself": "a: &a {<<: *a}",
    "3,000 brackets": f"about: {'[' * 3_000}{']' * 3_000}",
    "a million keys": "\n".join(f"k{n}: {n}" for n in range(1_000_000)),
    "10 MB of text": f"about: {'x ' * 5_000_000}",
    "6,000 digits": f"about: {'9' * 6_000}",
    "6,000 digits of base 16": f"about: 0x{'f' * 6_000}",
    "parameters that are all tied together": HEAD + tied(60),
    "1,000 parameters": HEAD + "\n".join(f"  p{n}: [1, 2]" for n in range(1_000)),
    "a template of 6,000 digits": HEAD + f'  dilations: {{template: "{"9" * 6_000}*(1,1)"}}',
    "a template of 3,000 terms": HEAD
    + f'  dilations: {{template: "{"+".join(["{a}*(1,1)"] * 3_000)}", holes: {{a: [0, 1]}}}}',
}


@pytest.fixture
def no_hang():
    """An end to what takes minutes, or all the memory."""

    def hang(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", LARGE)
def test_what_is_too_large_is_refused_at_once(no_hang, kind):
    path = write("space.yaml", LARGE[kind])
    with pytest.raises(UserError):
        load_space(path)


def test_conditions_of_conditions_are_followed_once(no_hang):
    assert space_from_text(HEAD + gated(5, 29), "s").count() > 2**5


def test_many_gates_and_values_are_counted(no_hang):
    lines = [f"  p{n}: {{range: [1, 9999]}}" for n in range(30)]
    assert space_from_text(HEAD + "\n".join(lines), "s").count() == 9_999**30


def test_a_template_is_solved_backwards_without_trying_what_failed_before(no_hang):
    holes = ", ".join(f"h{n}: {{range: [0, 3]}}" for n in range(30))
    text = "+".join(f"{{h{n}}}*(1,1)" for n in range(30))
    space = space_from_text(HEAD + f'  dilations: {{template: "{text}+(1,2)", holes: {{{holes}}}}}', "s")
    values = {hole: space.parameters[f"dilations.{hole}"].values for hole in space.templates["dilations"].holes}
    assert space.templates["dilations"].solve("60*(1,1)+(1,3)", values) is None
    solved = space.templates["dilations"].solve("60*(1,1)+(1,2)", values)
    assert sum(solved.values()) == 60


def test_schedules_are_not_listed_to_be_counted(no_hang, capsys):
    holes = ", ".join(f"{hole}: {{range: [1, 60]}}" for hole in "abcd")
    text = "{a}*(1,1)+{b}*(1,2)+{c}*(1,3)+{d}*(1,4)"
    write("space.yaml", HEAD + f'  dilations: {{template: "{text}", holes: {{{holes}}}}}')
    spaces("space.yaml")
    assert "at most 12,960,000 distinct schedules" in capsys.readouterr().out


def nested(depth, inside=""):
    return "[" * depth + inside + "]" * depth


ONES = ", ".join("1" * (MAX_VALUES // 2 - 3))


@pytest.mark.parametrize(
    ("text", "more"),  # more: one value too many, or one level
    [
        (f"a: [{', '.join('1' * (MAX_VALUES - 2))}]", f"a: [{', '.join('1' * (MAX_VALUES - 1))}]"),
        (f"a: &a [{ONES}]\nb: *a\nc: 1\nd: 1\ne: []", f"a: &a [{ONES}]\nb: *a\nc: 1\nd: 1\ne: [1]"),
        (f"a: {nested(MAX_DEPTH - 1)}", f"a: {nested(MAX_DEPTH)}"),
        (f"a: &a {nested(20)}\nb: {nested(30, '*a')}", f"a: &a {nested(20)}\nb: {nested(31, '*a')}"),
    ],
)
def test_the_largest_file_is_read_and_a_larger_one_refused(text, more):
    assert parse_yaml(text, Path("x.yaml")).data == yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    with pytest.raises(UserError, match=r"expand to more|nested deeper"):
        parse_yaml(more, Path("x.yaml"))


READERS = {
    "space": load_space,
    "study": load_study,
    "table": load_table,
    "class table": read_table,
    "recipe": lambda path: recipe_of(path, None, None, None),
    "architecture": lambda path: resolve(str(path)),
    "key map": read_rules,
    "card": lambda path: read_card(path.with_name("file.onnx")),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_file_above_the_limits_is_refused_before_it_is_built(kind, tmp_path, monkeypatch):
    """Time at the limits is measured by tests/benchmarks/bench_readers.py."""

    def unread(*_):
        raise AssertionError("it is read all the same")

    path = tmp_path / ("file.card.json" if kind == "card" else "file.yaml")
    path.write_text("a: 1\n#" + "ä" * (MAX_BYTES // 2))  # fewer characters than bytes
    with monkeypatch.context() as patch:
        patch.setattr(yaml, "parse", unread)
        patch.setattr(Card, "model_validate_json", unread)
        with pytest.raises(UserError, match=r"at most 1,000,000 bytes"):
            READERS[kind](path)
    if kind != "card":
        path.write_text(f"a: [{', '.join('1' * (2 * MAX_VALUES))}]")
        monkeypatch.setattr(yaml.constructor.BaseConstructor, "construct_document", unread)
        with pytest.raises(UserError, match=r"more than 20,000 values"):
            READERS[kind](path)


STUDY = """
question: x
expected: x
space: quickstart
data: {name: scenes, size: [64, 128]}
objectives: [miou, macs]
recipe: {steps: 10}
figures:
"""
CELLS = "paper: x\ntable: x\ntitle: x\nquestion: x\nexpected: x\ncolumns:\n"


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (load_space, HEAD + "forbid:\n" + "- {family: stdc}\n" * 2_001, "at most 2,000 clauses, got 2,001"),
        (
            load_study,
            STUDY + "".join(f"  f{n}: {{function: a.py:f, direction: minimize, phase: cost}}\n" for n in range(101)),
            "at most 100 figures of its own, got 101",
        ),
        (
            load_table,
            CELLS
            + "".join(f"  c{n}: {{label: a, cost: macs}}\n" for n in range(51))
            + "rows:\n"
            + "".join(f"- {{name: r{n}, variant: regseg, printed: {{}}}}\n" for n in range(100)),
            "at most 5,000 cells, got 5,100: 100 rows of 51 columns",
        ),
    ],
)
def test_more_than_a_second_would_do_is_refused(read, text, message):
    with pytest.raises(UserError, match=message):
        read(write("file.yaml", text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["measure", "arch.yaml"], "a key must be the name of a field, got 1"),
        (["measure", "regseg", "--set", "width=2026-13-45"], "width must be of type float"),
        (["measure", "regseg", "--set", f"width={'9' * 6_000}"], "width must be of type float"),
        (["measure", "regseg", "--set", f"dilations={'9' * 6_000}*(1,1)"], "a schedule is a sum of terms"),
        (["measure", "regseg", "--input", f"{'9' * 6_000}x9"], "a size is HEIGHTxWIDTH"),
        (["measure", "regseg", "--input", "²x3"], "a size is HEIGHTxWIDTH"),
        (["measure", f"mini#{'9' * 6_000}"], "an address is STUDY#NUMBER"),
        (["measure", "mini#²"], "an address is STUDY#NUMBER"),
        (["spaces", "os.yaml"], "os:system is no family"),
    ],
)
def test_what_was_a_traceback_is_a_message(arguments, message):
    write("arch.yaml", "family: regseg\n1: 2\n")
    write("os.yaml", HEAD.replace("regseg", "os:system"))
    assert message in refused(*arguments)
