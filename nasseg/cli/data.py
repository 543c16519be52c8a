"""Commands for data on disk: check them, or write a class table and a study for them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nasseg.cli.shared import JsonOption, Table, app, out, print_json

data_app = typer.Typer(help="Check data on disk.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(help="Data: a folder, a data set by name, or a class table.")],
    root: Annotated[Path | None, typer.Option("--data", help="Folder of a data set given by name.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Layout of the data set. Default: recognised from the folder.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Open at most this many images of each split.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file for a contact sheet of images with their labels.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images from each split on the sheet.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """Check data: print counts, sizes, classes and faults. Exits with code 1 if there are faults."""
    from nasseg.data.check.check_data import check_data
    from nasseg.data.check.contact_sheet import contact_sheet, write_sheet

    options = {key: str(value) for key, value in {"root": root, "layout": layout}.items() if value is not None}
    found = check_data(name, limit=limit, **options)
    if as_json:
        print_json(found.as_dict())
    else:
        for line in found.lines():
            out.print(line, highlight=False)
        head, rows = found.histogram()
        table = Table(*head)
        for row in rows:
            table.add_row(*map(str, row))
        out.print(table)
    if sheet is not None:
        write_sheet(contact_sheet(name, count=count, **options), sheet)
        if not as_json:
            out.print(f"contact sheet: {sheet}")
    if found.faults:
        raise typer.Exit(1)


@app.command()
def init(
    data: Annotated[Path, typer.Option(help="Folder of images and labels.")],
    name: Annotated[str | None, typer.Option(help="Name of the data set. Default: the folder's name.")] = None,
    latency: Annotated[
        str | None,
        typer.Option(help="Latency limit of one image on this machine, such as 12ms. Default: ask, or none."),
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0.01, help="Hours to search. Default: 2.")] = None,
) -> None:
    """Write a class table and a study for a folder of images, sized for this machine. Overwrites nothing."""
    from nasseg.data.init.begin import begin
    from nasseg.data.init.study import Wishes, read_latency

    if latency is None and sys.stdin.isatty():
        latency = typer.prompt("Latency limit of one image on this machine, such as 12ms (empty: none)", default="")
    wishes = Wishes(read_latency(latency) if latency else None, hours)
    begun = begin(data, name=name, wishes=wishes, on_line=lambda line: out.print(line, highlight=False))
    for path in filter(None, [begun.table, begun.study, *begun.lists]):
        out.print(f"wrote {path}")
    checked = begun.table.stem if begun.table else data
    out.print(f"next:\n  nasseg data check {checked}\n  nasseg search {begun.study.stem}")
