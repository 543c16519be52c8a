"""The papers' tables, printed against ours."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Column, Table

from nasseg.cli.shared import JsonOption, app, out


@app.command()
def reproduce(
    table: Annotated[str | None, typer.Argument(help="A table by name or path, or all. Default: list them.")] = None,
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex, csv or json.")] = "text",
    as_json: JsonOption = False,
) -> None:
    """A paper's table: every cell that the architecture decides computed, every other with the reason why not."""
    from nasseg.analyse.typeset import render
    from nasseg.study.reproduce import at_hand, list_tables, reproduce, reproduce_all

    if table is not None:
        found = reproduce_all() if table == "all" else [reproduce(table)]
        print(render(found, "json" if as_json else form))
        return
    tables = list_tables(at_hand())
    if as_json:
        print(json.dumps([asdict(summary) for summary in tables]))
        return
    shown = Table(Column("table", no_wrap=True), "what it asks", "rows", "runs now", "waits")
    for summary in tables:
        waits = "; ".join(f"{column}: needs {what}" for column, what in summary.waits.items())
        shown.add_row(summary.name, summary.question, str(summary.rows), ", ".join(summary.runs), waits)
    out.print(shown)
