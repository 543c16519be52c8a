"""The command `reproduce`: print the papers' tables beside ours."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column

from nasseg.cli.shared import (
    JsonOption,
    SplitsOption,
    StorageOption,
    Table,
    Ticker,
    app,
    out,
    parse_settings,
    parse_size,
    print_json,
    splits_of,
    storage_of,
    this_command,
)
from nasseg.errors import UserError, unknown
from nasseg.redaction import shown

if TYPE_CHECKING:
    from nasseg.tables.fitted_recipe import Training


_FORMS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}


@app.command()
def reproduce(
    table: Annotated[str | None, typer.Argument(help="Table by name or path, or all. Default: list them.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Format: text, markdown, latex, csv, json or html. Default: from -o, or text."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="File to write. Default for html: reports/tables.html.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Time the rows that are not timed yet, in turns.")] = False,
    data: Annotated[
        str | None, typer.Option(help="Train the rows on this data: a folder, a data set by name, or scenes.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps. Default: the paper's.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0.001, help="Training epochs, instead of steps.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each row. Default: 1.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Image size for training. Default for scenes: 256x512.")
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DATA",
            help="Other data that rows need: to pre-train on, or labelled by `nasseg label`. Repeatable.",
        ),
    ] = None,
    splits: SplitsOption = None,
    recipe_settings: Annotated[
        list[str] | None,
        typer.Option("--recipe-set", metavar="KEY=VALUE", help="Replace a setting of all recipes. Repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads. With 1, runs repeat exactly.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the hours this would take.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a paper's table beside its printed values. Costs are computed; --data trains, --latency times.

    Call it again to resume and to show earlier measurements.
    """
    from nasseg.tables.fill import measured
    from nasseg.tables.reproduce import given_data
    from nasseg.tables.table_file import load_table, tables

    if table is None:
        if latency or data or dry_run or form or output:
            raise UserError("no table named: give a name, or all; `nasseg reproduce` without options lists them")
        _list(as_json)
        return
    form = "json" if as_json else form or _FORMS.get(output.suffix if output else "", "text")
    _check_output(form, output)
    given = {"--steps": steps, "--epochs": epochs, "--seeds": seeds, "--size": size, "--recipe-set": recipe_settings}
    given |= {"--splits": splits, "--extra": extra}
    options = {**({"size": list(seen)} if (seen := parse_size(size)) else {}), **splits_of(splits)}
    if data is None and (asked := [option for option, value in given.items() if value]):
        raise UserError(f"{', '.join(asked)} apply to training only: add data to train on, such as --data scenes")
    loaded = [load_table(name) for name in (tables() if table == "all" else [table])]
    training = None
    if data:
        sets = given_data(loaded, data, options, {k: str(v) for k, v in parse_settings(extra or [], "--extra").items()})
        training = _training(sets, steps, epochs, seeds or 1, recipe_settings, device, threads)
    where = storage_of(storage)
    if dry_run:
        _hours(loaded, training, device if latency else None, where, as_json)
        return
    records, stopped = _measure(loaded, training, device if latency else None, where)
    found = [measured(one, where, records.get(one.name)) for one in loaded]
    _show(found, form, output)
    if stopped:
        sys.stderr.write("interrupted; run the same command to resume\n")
        raise typer.Exit(130)


def _list(as_json: bool) -> None:
    from nasseg.tables.compute import at_hand, list_tables

    found = list_tables(at_hand())
    if as_json:
        print_json([asdict(summary) for summary in found])
        return
    heads = (Column("question", ratio=3), "rows", Column("runs now", ratio=1), Column("waits", ratio=2))
    shown = Table(Column("table", no_wrap=True), *heads, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True)
    for summary in found:
        needs = dict.fromkeys(summary.waits.values())
        labels = {what: [label for label, need in summary.waits.items() if need == what] for what in needs}
        waits = "; ".join(f"{', '.join(columns)}: needs {what}" for what, columns in labels.items())
        shown.add_row(summary.name, summary.question, str(summary.rows), ", ".join(summary.runs), waits)
    out.print(shown)
    out.print(
        "to fill columns that need data: --data PATH or --data scenes; that need a GPU: --latency, on this CPU too"
    )


def _training(
    sets: dict[str, Any],
    steps: int | None,
    epochs: float | None,
    seeds: int,
    recipe_settings: list[str] | None,
    device: str,
    threads: int,
) -> "Training":
    from nasseg.tables.fitted_recipe import Training

    settings = parse_settings(recipe_settings or [], "--recipe-set")
    return Training(
        **sets,
        steps=steps,
        epochs=epochs,
        settings=settings,
        seeds=seeds,
        device=device,
        threads=threads,
    )


def _measure(
    loaded: Sequence[Any], training: "Training | None", device: str | None, storage: str | None
) -> tuple[dict[str, Any], bool]:
    """Time and train. Return each table's study under this accuracy protocol, and whether it was interrupted."""
    from nasseg.tables.reproduce import time_tables, train_tables

    options: dict[str, Any] = {"storage": storage, "command": this_command()}
    if device is None and training is None:
        return {}, False
    out.stderr = True  # standard output gets the result only
    with Ticker() as ticker:
        if device is not None:
            time_tables(loaded, device, tell=ticker.say, **options)
        if training is None:
            return {}, False
        done, stopped = train_tables(loaded, training, tell=ticker.say, on_progress=ticker.update, **options)
    return {one.table.name: one.record for one in done}, stopped


def _check_output(form: str, output: Path | None) -> None:
    """Check the output now, not after hours of measuring."""
    from nasseg.analyse.paper_formats import FORMATS

    if form not in (*FORMATS, "html"):
        raise unknown("format", form, (*FORMATS, "html"))
    if output is None:
        return
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if output.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"cannot write {output}; choose another place with -o")


def _show(found: Sequence[Any], form: str, output: Path | None) -> None:
    from nasseg.analyse.paper_formats import render
    from nasseg.files import ELSEWHERE, output_file

    if form == "html":
        from nasseg.report.pages.tables_page import write_tables

        target = write_tables(found, output or Path("reports/tables.html"))
        print(f"report: {target}")
        return
    text = render(found, form, out.width if output is None and out.is_terminal else None)
    if output is None:
        print(shown(text))
        return
    with output_file(output, ELSEWHERE) as partial:
        partial.write_text(text, encoding="utf-8")


def _hours(
    loaded: Sequence[Any], training: "Training | None", device: str | None, storage: str | None, as_json: bool
) -> None:
    from nasseg.tables.reproduce import table_hours

    if training is None and device is None:
        raise UserError("a dry run estimates --latency, --data, or both: give at least one")
    found = table_hours(loaded, training, device, storage)
    if as_json:
        print_json([{**asdict(one), "hours": one.hours} for one in found])
        return
    names = ("trainings", "not done yet", "hours of training", "hours of timing")
    shown = Table(Column("table", no_wrap=True), *names)
    for one in found:
        shown.add_row(
            one.name,
            str(one.runs),
            str(one.left),
            f"{one.training_seconds / 3600:.2f}",
            f"{one.latency_seconds / 3600:.2f}",
        )
    out.print(shown)
    out.print(f"about {sum(one.hours for one in found):.1f} hours in total; dry run: nothing was stored")
