"""Test what commands share: JSON of one form, and lines of progress for a terminal and for a pipe."""

import errno
import inspect
import json
import os

import pytest

from nasseg import cli
from nasseg.cli import shared
from nasseg.cli.shared import Ticker
from tests.command_line import nasseg
from tests.data.test_dataset import write_camvid


def printed(*arguments):
    return nasseg(*arguments, cwd=".").stdout


@pytest.mark.parametrize("command", ["variants", "sample quickstart -n 3", "reproduce", "reproduce dabnet/table-1"])
def test_many_things_are_one_array(command):
    found = json.loads(printed(*command.split(), "--json"))
    assert isinstance(found, list)
    assert all(isinstance(one, dict) for one in found)
    assert len(found) == 3 or not command.startswith("sample")


def test_a_contact_sheet_is_not_told_of_in_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_camvid(tmp_path / "camvid")
    assert json.loads(printed("data", "check", "camvid", "--sheet", "sheet.png", "--count", "1", "--json"))
    assert (tmp_path / "sheet.png").exists()


def test_every_command_prints_its_json_with_the_one_function():
    commands = [*cli.app.registered_commands]
    for group in cli.app.registered_groups:
        commands += group.typer_instance.registered_commands
    sources = {one.callback.__name__: inspect.getsource(inspect.getmodule(one.callback)) for one in commands}
    assert len(sources) > 15
    assert [name for name, source in sources.items() if "json.dumps" in source] == []


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_off_a_terminal_rejections_are_told_every_few_seconds_and_something_each_minute(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(shared, "time", clock)
    with Ticker() as ticker:
        for rejected in range(80):  # eight a second
            ticker.update(f"0 of 5 trained, {rejected} over a limit", 0, rejected)
            clock.now += 0.125
        ticker.update("0 of 5 trained, 80 over a limit", 0, 80)
        for second in range(59):  # nothing ends
            ticker.update(f"0 of 5 trained, 80 over a limit, step {second}", 0, 80)
            clock.now += 1.0
        clock.now += 1.0
        ticker.update("0 of 5 trained, 80 over a limit", 0, 80)
        ticker.update("1 of 5 trained, 80 over a limit", 1, 80)
        ticker.update("2 of 5 trained, 80 over a limit", 2, 80)
    counts = [
        "0 of 5 trained, 0",
        "0 of 5 trained, 80",
        "0 of 5 trained, 80",
        "1 of 5 trained, 80",
        "2 of 5 trained, 80",
    ]
    assert capsys.readouterr().out.splitlines() == [f"{count} over a limit" for count in counts]


def test_a_samplers_algebra_has_one_thread_unless_the_user_says_otherwise(monkeypatch):
    for given, used in ((None, "1"), ("3", "3")):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", given or "")
        if given is None:
            monkeypatch.delenv("OPENBLAS_NUM_THREADS")
        shared.one_thread_for_samplers()
        assert os.environ["OPENBLAS_NUM_THREADS"] == used


@pytest.mark.parametrize("kind", [EOFError, BrokenPipeError])
def test_a_pipe_that_ended_within_is_not_told_as_a_wish_to_stop(monkeypatch, kind):
    def ended(*_arguments):
        raise kind(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(shared.TyperGroup, "invoke", ended)
    with pytest.raises(RuntimeError, match="ended too early"):
        cli.app(["variants"])


def test_a_reader_who_has_read_enough_is_not_told_of_a_fault(monkeypatch):
    def ended(*_arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(shared.TyperGroup, "invoke", ended)
    before, (read, write) = os.dup(1), os.pipe()
    os.close(read)
    os.dup2(write, 1)
    try:
        with pytest.raises(SystemExit) as left:
            cli.app(["variants"])
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(write)
    assert left.value.code == 1
