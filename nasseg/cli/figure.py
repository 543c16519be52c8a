"""The verb of figures: draw a study's front for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from nasseg.cli.shared import StorageOption, app, out, storage_of


@app.command()
def figure(
    study: Annotated[str, typer.Argument(help="Study by name or path.")],
    x: Annotated[
        str | None, typer.Option("--x", metavar="COLUMN", help="Figure or parameter across. Default: a cost.")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", metavar="COLUMN", help="Figure or parameter upwards. Default: a gain.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File: .pdf, .svg or .png. Default: STUDY-X-Y.pdf.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="As wide as a page, 17.5 cm, not as a column, 8.5 cm.")] = False,
    storage: StorageOption = None,
) -> None:
    """Draw a study's front for a paper, as PDF, SVG or PNG, with text of 8 points. It needs no browser."""
    from nasseg.study.opened import open_study

    target = open_study(study, storage_of(storage)).save_front(output, x, y, wide=wide)
    out.print(f"figure: {target}")
