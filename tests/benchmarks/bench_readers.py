"""Measure the processor seconds of each reader of a user's file, for the largest files that it accepts.

    python -m tests.benchmarks.bench_readers          every file; exit 1 if one takes more than a second
    python -m tests.benchmarks.bench_readers table    only those whose name holds that word

A file is read three times, and the least counts. Larger files are refused unread: tests/test_large_input.py.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nasseg.data.class_table import MAX_CLASSES, read_table
from nasseg.errors import UserError
from nasseg.files import MAX_BYTES, MAX_VALUES, read_yaml
from nasseg.network.address import resolve
from nasseg.space import load_space
from nasseg.space.load import MAX_CLAUSES, MAX_PARAMETERS
from nasseg.study.study_file import MAX_FIGURES, load_study
from nasseg.tables.table_file import MAX_CELLS, load_table
from nasseg.train.key_maps import read_rules
from nasseg.train.recipe import load_recipe

SECONDS = 1.0
PARAMETERS = [f"p{n}" for n in range(MAX_PARAMETERS - 1)]
SPACE = "about: x\nparameters:\n  family: regseg\n"
STUDY = """question: x
expected: x
space: quickstart
data: {name: scenes, size: [64, 128]}
recipe: {steps: 10}
"""
LAYOUT = (
    "layouts: {a: {images: '{name}.png', labels: [{path: '{name}.png', hold: ids}], splits: {train: []}}}\nclasses:\n"
)
TABLE = "paper: regseg\ntable: Table 1\ntitle: x\nquestion: x\nexpected: x\n"
COLUMNS = "columns: {a: {label: a, cost: params}, b: {label: b, cost: macs}}\nrows:\n"
STUDY_ENDS = "objectives: [miou, macs]\n"


def times(line: str, values: int, taken: int = 40) -> str:
    """Return as many lines, of that many values each, as fit into a file. taken: values of the rest."""
    return "".join(line.format(n=n, m=n + 1) for n in range((MAX_VALUES - taken) // values))


def numbers(start: int, count: int) -> str:
    return ", ".join(map(str, range(start, start + count)))


def classes(ids: int) -> str:
    each = (f"- {{name: c{n}, colour: [0, 0, 0], ids: [{numbers(n * ids, ids)}]}}\n" for n in range(MAX_CLASSES))
    return "".join(each)


def choices(count: int) -> str:
    return "".join(f"  {name}: [{numbers(0, count)}]\n" for name in PARAMETERS)


def gates() -> str:
    """Each parameter after some, under conditions on the hundred before it."""
    when = [", ".join(f"{name}: 1" for name in PARAMETERS[max(0, n - 100) : n]) for n in range(len(PARAMETERS))]
    lines = zip(PARAMETERS, when, strict=True)
    return "".join(f"  {name}: {{choices: [1, 2], when: {{{gate}}}}}\n" for name, gate in lines)


def rows(count: int, more: str = "") -> str:
    line = "- {{name: r{n}, variant: regseg, " + more + "printed: {{}}}}\n"
    return "".join(line.format(n=n) for n in range(count))


def scaled(count: int) -> str:
    """Columns in each of which the networks see another size."""
    line = "  c{n}: {{label: a, accuracy: miou, data: a, split: val, set: {{input_scale: 0.{n:03}}}}}\n"
    return "columns:\n" + "".join(line.format(n=n) for n in range(100, 100 + count)) + "rows:\n"


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "space, text": (load_space, "about: " + "x " * (MAX_BYTES // 2 - 500) + "\nparameters: {family: regseg}\n"),
    "space, values": (load_space, SPACE + choices(132)),
    "space, conditions": (load_space, SPACE + gates()),
    "space, forbidden pairs": (
        load_space,
        SPACE
        + choices(3)
        + "forbid:\n"
        + "".join(f"- {{p{n % 149}: 1, p{(n % 149 + 1) % 149}: {n % 3}}}\n" for n in range(MAX_CLAUSES)),
    ),
    "space, forbidden values": (
        load_space,
        SPACE
        + choices(79)
        + "forbid:\n"
        + "".join(f"- {{p{n % 149}: {{min: {0.1 + n / 9e3:.5f}, max: 0.9}}}}\n" for n in range(MAX_CLAUSES)),
    ),
    "study, objectives": (load_study, STUDY + "objectives: [miou, " + times("iou.c{n}, ", 1) + "macs]\n"),
    "study, figures": (
        load_study,
        STUDY
        + STUDY_ENDS
        + "figures:\n"
        + "".join(f"  f{n}: {{function: 'a.py:f', direction: minimize, phase: cost}}\n" for n in range(MAX_FIGURES)),
    ),
    "study, limits": (
        load_study,
        STUDY + STUDY_ENDS + "limits:\n" + times("  iou.c{n}: {{max: 1}}\n", 2),
    ),
    "study, published": (load_study, STUDY + STUDY_ENDS + "published: [" + times("regseg, ", 1) + "regseg]\n"),
    "class table, ids": (read_table, LAYOUT + classes(70)),
    "class table, ignored ids": (
        read_table,
        f"ignore: {{ids: [{numbers(100_000, 9_000)}]}}\n" + LAYOUT + classes(36),
    ),
    "class table, ignored colours": (
        read_table,
        "ignore: {colours: ["
        + ", ".join(f"[{n // 256}, {n % 256}, 9]" for n in range(2_400))
        + "]}\n"
        + LAYOUT.replace("hold: ids", "hold: colours")
        + "".join(
            f"- {{name: c{n}, colour: [{n}, 0, 0], rgb: [{', '.join(f'[{n}, {m}, 1]' for m in range(8))}]}}\n"
            for n in range(MAX_CLASSES)
        ),
    ),
    "recipe, heads": (
        lambda path: load_recipe(read_yaml(path).data),
        "heads:\n" + times("- {{kind: auxiliary, features: [a]}}\n", 4),
    ),
    "recipe, class weights": (
        lambda path: load_recipe(read_yaml(path).data),
        "class_weights: [" + times("1.5, ", 1) + "1]\n",
    ),
    "architecture, schedule": (
        lambda path: resolve(str(path)),
        "variant: regseg\ndilations: " + "+".join(["(1,1)"] * 990) + "\n",
    ),
    "architecture, unknown fields": (lambda path: resolve(str(path)), "variant: regseg\n" + times("f{n}: 1\n", 1)),
    "key map": (read_rules, times("a{n}.*: b{n}.*\n", 1)),
    "table, rows": (load_table, TABLE + COLUMNS + rows(MAX_CELLS // 2)),
    "table, rows of other networks": (load_table, TABLE + COLUMNS + rows(MAX_CELLS // 2, "set: {{width: 1.{n}}}, ")),
    "table, columns of other networks": (load_table, TABLE + scaled(70) + rows(70)),
    "table, more cells": (load_table, TABLE + scaled(100) + rows(100)),
}


def seconds(read: Callable[[Path], object], path: Path) -> tuple[float, str]:
    """Return the least processor seconds of three reads, and what came of it."""
    came, taken = "read", []
    for turn in range(3):
        own = path.with_name(f"{turn}-{path.name}")  # class tables are remembered by path
        path.rename(own)
        begun = time.process_time()
        try:
            read(own)
        except UserError as error:
            came = f"refused: {str(error).partition(': ')[2][:90]}"
        taken.append(time.process_time() - begun)
        own.rename(path)
    return min(taken), came


def main() -> int:
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.py").write_text("def f(model, measurement):\n    return 1\n")
        for name, (read, text) in FILES.items():
            if not all(word in name for word in sys.argv[1:]):
                continue
            path = Path(folder, "file.yaml")
            path.write_text(text)
            taken, came = seconds(read, path)
            slow += taken > SECONDS
            print(f"{taken:6.2f} s  {name} ({len(text) / 1e3:,.0f} kB): {came}", flush=True)
    print(f"{slow} of {len(FILES)} take more than {SECONDS:g} s")
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
