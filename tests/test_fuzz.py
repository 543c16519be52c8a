"""Mutated space and study files: a clear error or something valid, never a traceback, never a hang.

A failure prints the number of its mutation and the text: `mutated(number)` gives it again.
"""

import pickle
import random
import re
import signal
from copy import deepcopy
from functools import cache, lru_cache
from pathlib import Path

import pytest
import yaml

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.files import list_files, parse_yaml
from nasseg.space.load import MAX_PARAMETERS, space_from
from nasseg.study.check_space import check_space
from nasseg.study.propose.graph_features import SpacePoints
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.study_file import sampler_name, study_from
from tests.study.fakes import COST

SECONDS = 5
HOSTILE = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    10**9,
    "",
    " ",
    "{a}",
    "family",
    "width",
    "☃",
    "\x00",
    "a" * 10_000,
    "!!python/object:os.system",
    "../../etc/passwd",
    "<script>",
    [],
    {},
    [[]],
    {"range": [0, 10**9]},
    {"range": [1, 0]},
    {"range": [0, 1], "step": 0},
    {"choices": []},
    {"template": "{x}", "holes": {}},
    {"choices": [1], "when": {"nothing": 1}},
    {"max": float("nan")},
    {"min": 2, "max": 1},
    [1, "1", 1.0, True],
    "regseg",
    ["regseg", "stdc"],
    "2026-11-21",
    0.1,
    "1e9",
    "tpe",
    {"name": 3},
    "./x.py:Y",
    "miou",
    ["miou", "miou"],
]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # as nasseg reads; in pure Python most of the time goes here
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
ODD = list("{}[]:-#&*!|>'\"%@`,?\t\n \\\x07é\u2028")


@cache
def shipped() -> tuple[tuple[str, str], ...]:
    return tuple((kind, path.read_text()) for kind in ("spaces", "studies") for path in list_files(kind).values())


def mutated(number: int) -> tuple[str, str]:
    """The kind and the text of a mutation."""
    rng = random.Random(number)
    kind, text = rng.choice(shipped())
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        text = (_of_text if rng.random() < 0.4 else _of_tree)(rng, text)
    # Last, for PyYAML itself, which changes trees, does not come to an end with some of them.
    return kind, _of_structure(rng, text) if rng.random() < 0.4 else text


def _of_text(rng: random.Random, text: str) -> str:
    lines = text.splitlines() or [""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    place = rng.randrange(len(text) + 1)
    change = rng.randrange(7)
    if change == 0:
        del lines[at]
    elif change == 1:
        lines.insert(at, lines[other])
    elif change == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif change == 3:
        lines[at] = rng.choice(["  ", "\t", " "]) + lines[at]
    elif change == 4:
        return text[:place]
    elif change == 5:
        return text[:place] + rng.choice(ODD) + text[place + rng.randrange(2) :]
    else:
        lines[at] = lines[at].lstrip()
    return "\n".join(lines)


def _of_tree(rng: random.Random, text: str) -> str:
    tree = pickle.loads(_pickled_tree(text))
    places = list(_places(tree))
    if not places:
        return text
    parent, key = rng.choice(places)
    change = rng.randrange(5)
    if change <= 1:
        parent[key] = rng.choice(HOSTILE)
    elif change == 2:
        del parent[key]
    elif change == 3 and isinstance(parent, dict):
        parent[rng.choice([f"{key}s", key[:-1] if isinstance(key, str) else "x", "family", 7, ""])] = parent.pop(key)
    else:
        other, name = rng.choice(places)
        parent[key] = deepcopy(other.get(name) if isinstance(other, dict) else None)
    return yaml.dump(tree, Dumper=DUMPER, sort_keys=False, allow_unicode=True)


@lru_cache(256)  # most mutations begin with a file that is shipped
def _pickled_tree(text: str) -> bytes:
    try:
        return pickle.dumps(yaml.load(text, LOADER))
    except (yaml.YAMLError, ValueError):
        return pickle.dumps(None)


def _places(tree):
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])


KEYS = ["1", "1.5", "null", "true", "2026-11-29", "[a]", "{a: b}", "!!binary aGk=", "0x10", "~", "<<"]
NUMBERS = [str(10**19), str(10**40), str(10**4_200) + "0" * 200, "0x" + "f" * 20, "0x" + "f" * 5_000, "1e400", "-.inf"]
VALUES = [
    "2026-13-45",
    "2026-11-29",
    "2026-11-29 10:00:00",
    "12:30:45",
    "!!set {a, b}",
    "!!timestamp x",
    "!!pairs [a: 1]",
]
ENDLESS = ["&x [*x, {<<: *x}]", "&x {<<: [*x, *x]}", *("[" * depth + "]" * depth for depth in (30, 60, 3_000))]
RANGES = ["{range: [0, 9999]}", "{range: [0, 10000000]}", "{range: [0, 2026-11-29]}"]


def _of_structure(rng: random.Random, text: str) -> str:
    """Change what text and plain data cannot: types of keys, tags, merges, nesting, the length of numbers."""
    lines = text.splitlines() or [""]
    at = rng.randrange(len(lines))
    indent = " " * (len(lines[at]) - len(lines[at].lstrip()))
    change = rng.randrange(5)
    if change == 0:
        lines.insert(at, f"{indent}{rng.choice(KEYS)}: {rng.choice(['2', '[]', '{}', '*nothing', '{a: 1}'])}")
    elif change == 1:
        lines[at] = re.sub(r"(?<![\w.])\d[\d.]*(?![\w.])", rng.choice(NUMBERS), lines[at], count=1)
    elif change == 2:
        lines[at] = re.sub(r":\s.*$", f": {rng.choice([*VALUES, *ENDLESS, *RANGES])}", lines[at])
    elif change == 3:
        bomb = [f"{indent}b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}" for n in range(1, 9)]
        lines[at:at] = [f"{indent}b0: &b0 {{a: 1}}", *bomb, f"{indent}<<: [*b8, *b7]"]
    else:
        count = rng.choice([20, MAX_PARAMETERS + 1])
        when = [", ".join(f"q{other}: 1" for other in range(max(0, n - 8), n)) for n in range(count)]
        lines[at:at] = [f"{indent}q{n}: {{choices: [1, 2], when: {{{gates}}}}}" for n, gates in enumerate(when)]
    return "\n".join(lines)


def refused(message: str) -> str:
    assert message.strip()
    assert len(message) <= 1_500
    return "refused"


def check(kind: str, text: str) -> str:
    """Load as a command would, and use what was loaded once. Which of the two it came to."""
    try:
        document = parse_yaml(text, Path("fuzz.yaml"))
        if kind == "studies":
            study = study_from(document, "fuzz")
            points = SpacePoints(study.space, study.objectives, study.limits, COST)
            make_sampler(*sampler_name(study.file.sampler), seed=0, points=points)
            space = study.space
        else:
            space = space_from(document, "fuzz")
        check_space(space)
    except UserError as error:
        return refused(str(error))
    assert space.count() > 0
    settings = space.settings(space.sample(random.Random(0)))
    try:
        make_arch(settings.pop("family"), **settings)
    except UserError:  # a field of the right name whose value the family refuses: known when it is drawn
        return "refused when drawn"
    return "valid"


def fuzz(numbers) -> dict[str, int]:
    outcomes: dict[str, int] = {}

    def hang(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, hang)  # of its own time: others may work here
    try:
        for number in numbers:
            kind, text = mutated(number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                outcome = check(kind, text)
            except BaseException as error:
                raise AssertionError(f"mutation {number} ({kind}): {error!r}\n{text[:4000]}") from error
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    finally:
        signal.signal(signal.SIGPROF, before)
    return outcomes


def test_mutated_files():
    outcomes = fuzz(range(1_000))
    assert outcomes["valid"] > 50  # else nothing but the parser is tested
    assert outcomes["refused"] > 250


@pytest.mark.slow
def test_thousands_of_mutated_files():
    fuzz(range(1_000, 8_000))
