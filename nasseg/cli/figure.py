"""The command `figure`: draw a study's front for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from nasseg.cli.shared import StorageOption, app, out, storage_of


@app.command()
def figure(
    study: Annotated[str, typer.Argument(help="Study by name or path.")],
    x: Annotated[
        str | None, typer.Option("--x", metavar="COLUMN", help="Figure or parameter on the x axis. Default: a cost.")
    ] = None,
    y: Annotated[
        str | None,
        typer.Option("--y", metavar="COLUMN", help="Figure or parameter on the y axis. Default: one to maximise."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File: .pdf, .svg or .png. Default: STUDY-X-Y.pdf.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Make it 17.5 cm wide (a page) instead of 8.5 cm (a column).")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Draw a study's front for a paper, as PDF, SVG or PNG, with 8-point text. Needs no browser."""
    from nasseg.study.opened import open_study

    target = open_study(study, storage_of(storage)).save_front(output, x, y, wide=wide)
    out.print(f"figure: {target}")
