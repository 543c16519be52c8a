"""Test that tables fit a terminal of 80 or 120 columns without cutting names, and are plain in a pipe."""

import io
from dataclasses import replace

import pytest
from rich.table import Column

from nasseg.analyse.trials import front_frame
from nasseg.cli import show_front as front
from nasseg.cli.shared import Output, Table
from nasseg.words import number
from tests.command_line import nasseg, refused
from tests.report.fake import fake_record

ROWS = [
    ("bisenetv2-t3-lambda-1-16-a-long-name", "BiSeNetV2, Table 3, row lambda = 1/16", "a note of many words " * 4),
    ("regseg", "", "short"),
]
AT_80 = """\
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┓
┃ variant                              ┃ citation          ┃ note              ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━┩
"""


def printed(table, width=None):
    """Return what a terminal of a width shows; without one, what goes into a pipe."""
    file = io.StringIO()
    Output(file=file, width=width, force_terminal=width is not None, color_system=None, soft_wrap=True).print(table)
    return file.getvalue()


def small():
    table = Table("variant", "citation", "note")
    for row in ROWS:
        table.add_row(*row)
    return table


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_whole_names_within_its_width(width):
    text = printed(small(), width)
    assert max(map(len, text.splitlines())) <= width
    assert ROWS[0][0] in text
    assert "…" not in text
    assert text.count("many") == 4
    assert width != 80 or text.startswith(AT_80)


def test_a_pipe_gets_one_line_a_row_with_tabs():
    assert printed(small()).splitlines() == [
        "variant\tcitation\tnote",
        "\t".join([*ROWS[0][:2], ROWS[0][2].strip()]),
        "regseg\t\tshort",
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", ["variants", "spaces", "reproduce dabnet/table-1", "reproduce regseg/table-4"])
def test_commands_keep_to_the_width_of_the_terminal(command, width, monkeypatch):
    file = io.StringIO()
    terminal = Output(file=file, width=width, force_terminal=True, color_system=None, soft_wrap=True)
    for module in ("spaces", "reproduce"):
        monkeypatch.setattr(f"nasseg.cli.{module}.out", terminal)
    text = nasseg(*command.split(), cwd=".").stdout + file.getvalue()
    table = [line for line in text.splitlines() if line.startswith(tuple("┏┃┡│└")) or "  " in line or "---" in line]
    assert len(table) > 5
    assert max(map(len, table)) <= width
    assert "…" not in text


def test_a_front_has_units_bounds_and_next_steps(capsys):
    record = replace(fake_record(60), name="fake")
    front.print_front(record, {"macs": 2.5e9})
    title, heads, *rows, doubtful = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert title == [f"front of fake, macs at most 2.5 G: {len(rows)} networks"]
    assert heads == ["trial", "family", "miou", "latency_ms", "macs"]
    assert doubtful[0].startswith("~")
    assert all(row[2].endswith(" %") and row[3].endswith(" ms") for row in rows)
    macs = [float(row[4].removesuffix(" G")) for row in rows if row[4].endswith(" G")]
    assert len(macs) > 2
    assert max(macs) <= 2.5
    front.print_front(record, {"macs": 1.0})
    least = number(front_frame(record)["macs"].min())
    said = f"no network of the front has macs at most 1; the least there: macs {least}\n"
    assert capsys.readouterr().out == said
    front.print_front(replace(record, trials=()), {"latency_ms": 12.0})
    nothing = "no network was trained to the end: the front of fake is empty; `nasseg status fake` says why\n"
    assert capsys.readouterr().out == nothing
    best = front_frame(record).iloc[0]
    assert front.next_steps(record) == [
        f"with macs at most 7 G, latency_ms at most 80 ms, the highest miou is {best['miou']:.4g} %: "
        f"fake#{best['number']}, {best['family']}",
        "next:",
        "  nasseg finish fake    train the front to the end, with three seeds",
        f"  nasseg export fake#{best['number']} -o fake.onnx",
    ]


@pytest.mark.parametrize("command", [["front", "--latex"], ["front", "--rows"], ["figure"]])
def test_an_empty_front_makes_no_empty_table_or_picture(tmp_path, monkeypatch, command):
    nothing = replace(fake_record(20), name="fake", trials=())
    for module in ("store.read_study", "opened"):
        monkeypatch.setattr(f"nasseg.study.{module}.read_study", lambda *_: nothing)
    assert "the front of fake is empty; `nasseg status fake` says why" in refused(*command, "fake", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bound_is_a_number_of_a_known_figure(tmp_path, monkeypatch):
    monkeypatch.setattr("nasseg.study.store.read_study.read_study", lambda *_: fake_record(20))
    assert "did you mean 'latency_ms'" in refused("front", "fake", "--max", "latencyms=2", cwd=tmp_path)
    assert "such as latency_ms=12, got macs=x" in refused("front", "fake", "--max", "macs=x", cwd=tmp_path)
    assert (
        "front of street-scenes/cpu-front, macs at most 3 G"
        in nasseg("front", "fake", "--max", "macs=3e9", cwd=tmp_path).stdout
    )


def test_columns_with_settings_of_their_own_have_their_heads():
    table = Table(Column("table", no_wrap=True), "rows")
    table.add_row("regseg/table-8", "14")
    assert table.lines() == ["table\trows", "regseg/table-8\t14"]
