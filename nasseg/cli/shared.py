"""Parts that commands share: their order in the help, output, options, and the parsing of arguments."""

import json
import math
import os
import select
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import rich.table
import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from nasseg.errors import UserError
from nasseg.files import parse_value
from nasseg.redaction import command_line, redact_all, shown
from nasseg.version import __version__

# The commands in the order of use, as the help shows them.
PANELS = {
    "Your data": ("init", "data"),
    "Search": ("search", "status"),
    "Results": ("front", "report", "figure"),
    "Finish and ship": ("finish", "evaluate", "export", "predict"),
    "Papers": ("reproduce", "variants"),
    "Spaces and single networks": ("spaces", "sample", "measure", "latency", "train", "pretrain", "label", "replay"),
}


_UsageError: Any = typer.BadParameter.__base__  # Typer does not export it


class _InOrderOfWork(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for panel, names in PANELS.items():
            for name in names:
                self.commands[name].rich_help_panel = panel  # type: ignore[attr-defined]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of PANELS."""
        return [name for names in PANELS.values() for name in names]

    def invoke(self, ctx: Any) -> Any:
        """Run a command. A message about its arguments shows them without passwords.

        An EOFError or a broken pipe inside it is a fault with a traceback, which Typer would hide.
        """
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            error.message = shown(error.message)
            raise
        except (EOFError, BrokenPipeError) as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                raise
            raise RuntimeError("a file or a pipe ended too early") from error


def _nobody_reads() -> bool:
    """Return whether the reader of our output is gone, as `head` is after its lines."""
    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _fd, event in poll.poll(0))


app = typer.Typer(
    cls=_InOrderOfWork,
    help="Explore design spaces of real-time segmentation networks: search, measure, compare.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"nasseg {__version__}")
        raise typer.Exit


@app.callback()
def _before_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


class Output(Console):
    """The terminal. It prints strings as plain text, without passwords. In a pipe, tables have no frames."""

    def print(self, *objects: Any, **options: Any) -> None:
        if not self.is_terminal and len(objects) == 1 and isinstance(objects[0], Table):
            self.file.write("".join(f"{line}\n" for line in objects[0].lines()))  # rich turns tabs into spaces
            return
        told = [shown(one) if isinstance(one, str) else one for one in objects]
        super().print(*told, **{"markup": False, "emoji": False, **options})


class Table(rich.table.Table):
    """A table of plain text. Names in the first column are never cut; other columns wrap between words."""

    def __init__(self, *headers: Any, title: str | None = None, **options: Any) -> None:
        super().__init__(title=_as_text(title), **options)
        for header in headers:
            if isinstance(header, rich.table.Column):
                header._index = len(self.columns)
                self.columns.append(header)
            else:
                self.add_column(header)

    def add_column(self, header: Any = "", *more: Any, **options: Any) -> None:
        first = {"no_wrap": True} if not self.columns else {"overflow": "fold"}
        super().add_column(_as_text(header), *more, **{**first, **options})

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_as_text, cells), **options)

    def lines(self) -> list[str]:
        """Return the title, the heads and the rows, with tabs between cells."""
        heads = [column.header for column in self.columns]
        rows = [heads, *zip(*(column.cells for column in self.columns), strict=True)]
        title = [str(self.title)] if self.title else []
        return [*title, *("\t".join(" ".join(str(cell).split()) for cell in row) for row in rows)]


def _as_text(value: Any) -> Any:
    return Text(shown(value)) if isinstance(value, str) else value


def print_json(value: Any) -> None:
    """Print plain data for machines."""
    print(json.dumps(redact_all(value)))


def in_one_line(value: Any) -> str:
    """Return a value of a YAML file as it could be written there, on one line."""
    return json.dumps(value)


def this_command() -> str:
    """Return the running command without its secrets."""
    return command_line(["nasseg", *sys.argv[1:]])


out = Output(soft_wrap=True)
OFTEN_SECONDS = 10.0  # between progress lines off a terminal, if something has ended
SELDOM_SECONDS = 60.0  # if nothing has

ArchArgument = Annotated[
    str,
    typer.Argument(help="Network: a variant, a family, a YAML file, or trained: a run, STUDY#TRIAL, TABLE#ROW."),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage", help="Optuna URL or journal file (*.log). Default: $NASSEG_STORAGE, or runs/STUDY/study.db."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the network. Repeatable.")
]
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="HxW", help="Size of the image. Default: the trial's, or 1024x2048.")
]
ClassesOption = Annotated[int | None, typer.Option(min=1, help="Number of classes. Default: the trial's, or 19.")]
InitOption = Annotated[
    str | None,
    typer.Option(help="Weights: a file of nasseg, RegSeg, DABNet, STDC, torchvision or timm, or a trained network."),
]
SplitsOption = Annotated[
    str | None,
    # The backslash keeps Typer's help, and Markdown, from taking [train, val] for markup.
    typer.Option(help="Splits to use instead of the data's own, as YAML: {train: \\[train, val], val: test}."),
]
InitMapOption = Annotated[
    Path | None, typer.Option(help="YAML file of patterns, `name there: name here`, for weights with other names.")
]


def _trust(given: bool) -> bool:
    if given:
        from nasseg.own_code import trust_records

        trust_records()
    return given


TrustOption = Annotated[
    bool,
    typer.Option("--trust-code", callback=_trust, help="Run code and commands that a study from elsewhere names."),
]


def one_thread_for_samplers() -> None:
    """Give NumPy's and SciPy's algebra one thread, unless the user has set a number. Call this before importing them.

    A sampler's matrices are small: beside busy workers, several threads would mostly wait for each other.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def storage_of(option: str | None) -> str | None:
    return option or os.environ.get("NASSEG_STORAGE")


def splits_of(text: str | None) -> dict[str, Any]:
    """Return --splits as an option of the data."""
    return {} if text is None else {"splits": parse_value(text)}


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse `512x1024` as (height, width)."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not all(side.isdecimal() and len(side) <= 6 and int(side) for side in (height, width)):
        raise UserError(f"a size is HEIGHTxWIDTH, such as 512x1024, got {text!r}")
    return int(height), int(width)


_EXAMPLES = {
    "--set": "width=0.5",
    "--recipe-set": "batch_size=4",
    "--max": "latency_ms=12",
    "--extra": "Cityscapes=cityscapes",
}


def parse_settings(items: list[str], option: str = "--set") -> dict[str, Any]:
    """Return an option's `key=value` items as fields. Values are read as YAML: 0.5 is a number, true a boolean."""
    settings = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise UserError(f"{option} takes KEY=VALUE, such as {_EXAMPLES[option]}, got {item!r}")
        settings[key.strip()] = parse_value(value)
    return settings


DOUBTFUL = "~ timed beside other work: doubtful"


def latency_cell(text: str, disturbed: bool) -> str:
    """Return a latency for a table, marked if other work ran meanwhile."""
    return f"~{text}" if disturbed and text else text


class Ticker:
    """Progress: one line that updates itself on a terminal; separate lines elsewhere, as `update` says."""

    def __init__(self) -> None:
        self._status = out.status("starting") if out.is_terminal else None
        self._last: tuple[object, object] = (None, None)
        self._told = -math.inf

    def __enter__(self) -> "Ticker":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def update(self, line: str, mark: object, often: object = None) -> None:
        """Show the line. Off a terminal: if `mark` is new, every few seconds if `often` is new, else each minute."""
        if self._status:
            self._status.update(_as_text(line))
            return
        before, now = self._last, time.monotonic()
        pause = 0.0 if mark != before[0] else OFTEN_SECONDS if often != before[1] else SELDOM_SECONDS
        if now - self._told >= pause:
            self.say(line)
            self._last, self._told = (mark, often), now

    def say(self, line: str) -> None:
        out.print(line, highlight=False)
