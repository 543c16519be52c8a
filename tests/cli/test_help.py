"""The help: every command, argument and option is described, shortly, and commands come in the order of the work."""

import typer
from rich.text import Text

from nasseg.cli import app
from nasseg.cli.shared import PANELS
from tests.test_house import begins_with_a_verb

ROOT = typer.main.get_command(app)
MOST = 120  # characters: about two lines of help on a terminal of 120 columns


def _commands(command, name=""):
    """Yield the names and commands below a command, those of groups too."""
    for word, below in getattr(command, "commands", {}).items():
        yield f"{name} {word}".strip(), below
        yield from _commands(below, f"{name} {word}".strip())


def test_every_argument_and_option_is_described_in_two_lines():
    params = {(name, param.name): param.help or "" for name, command in _commands(ROOT) for param in command.params}
    assert len(params) > 100
    assert [where for where, text in params.items() if not text.endswith(".")] == []
    assert {where: text for where, text in params.items() if len(text) > MOST} == {}


def test_the_help_loses_no_word_to_markup():
    """Typer reads help as markup: `[train, val]` would be a tag, and vanish."""
    texts = [command.help or "" for _, command in _commands(ROOT)]
    texts += [param.help or "" for _, command in _commands(ROOT) for param in command.params]
    assert [text for text in texts if Text.from_markup(text).plain != text.replace("\\[", "[")] == []


def test_every_commands_help_begins_with_a_verb():
    helps = {name: command.help or "" for name, command in _commands(ROOT)}
    assert [name for name, text in helps.items() if not text or not begins_with_a_verb(text)] == []


def test_commands_are_listed_in_the_order_of_the_work():
    listed = [name for names in PANELS.values() for name in names]
    assert ROOT.list_commands(None) == listed
    assert set(ROOT.commands) == set(listed)
    panels = {panel: tuple(n for n in listed if ROOT.commands[n].rich_help_panel == panel) for panel in PANELS}
    assert panels == PANELS
