"""Data on disk: what is in a folder, and a class table and a study to begin with."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nasseg.cli.shared import JsonOption, app, out

data_app = typer.Typer(help="Look at data on disk.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A folder, a data set by name (with --root), or a class table.")],
    root: Annotated[Path | None, typer.Option(help="Folder of a data set that is given by name.")] = None,
    layout: Annotated[str | None, typer.Option(help="Of the data set. Default: what the folder looks like.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read so many images a split only.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet with overlays to this PNG.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Images on the sheet.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """What is there (counts, sizes, classes) and what is wrong (files, labels out of range); exit 1 if anything is."""
    from nasseg.data.check import check_data
    from nasseg.data.contact_sheet import contact_sheet, write_sheet

    options = {key: str(value) for key, value in {"root": root, "layout": layout}.items() if value is not None}
    found = check_data(name, limit=limit, **options)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        for line in found.lines():
            out.print(line, markup=False, highlight=False)
        head, rows = found.histogram()
        table = Table(*head)
        for row in rows:
            table.add_row(*map(str, row))
        out.print(table)
    if sheet is not None:
        write_sheet(contact_sheet(name, count=count, **options), sheet)
        out.print(f"contact sheet: {sheet}", markup=False)
    if found.faults:
        raise typer.Exit(1)


@app.command()
def init(
    data: Annotated[Path, typer.Option(help="Folder of images and labels.")],
    name: Annotated[str | None, typer.Option(help="Of the data set. Default: the folder's.")] = None,
) -> None:
    """Look at a folder, and write a class table and a study for it; nothing that is there is overwritten."""
    from nasseg.data.write_study import begin

    begun = begin(data, name=name)
    for line in begun.found:
        out.print(line, markup=False, highlight=False)
    for path in filter(None, [begun.table, begun.study, *begun.lists]):
        out.print(f"wrote {path}", markup=False)
    out.print(
        f"next: nasseg data check {begun.table or data}; nasseg search {begun.study.stem} --dry-run", markup=False
    )
