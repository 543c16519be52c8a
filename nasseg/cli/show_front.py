"""The command `front`: print a study's front, the best network within its limits, and what to do next."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasseg.cli.shared import (
    DOUBTFUL,
    JsonOption,
    StorageOption,
    Table,
    app,
    latency_cell,
    out,
    parse_settings,
    print_json,
    storage_of,
)
from nasseg.errors import UserError, unknown
from nasseg.limits import SIDES
from nasseg.redaction import shown
from nasseg.words import counted, empty_front

if TYPE_CHECKING:
    from nasseg.records import StudyRecord


@app.command()
def front(
    study: Annotated[str, typer.Argument(help="Study by name or path.")],
    at_most: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="FIGURE=VALUE", help="Only networks within this upper limit. Repeatable."),
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table (booktabs).")] = False,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print BibTeX entries of the study's papers.")] = False,
    rows: Annotated[
        bool, typer.Option("--rows", help="Print the networks as rows of a table, for `nasseg reproduce`.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the Pareto front of a study, best first."""
    whole = latex or bibtex or rows
    if sum((latex, bibtex, rows, as_json, bool(at_most and whole))) > 1:
        raise UserError("choose one of --latex, --bibtex, --rows and --json; of these, only --json takes --max")
    from nasseg.study.store.read_study import read_study

    bounds = _bounds(at_most or [])
    record = read_study(study, storage_of(storage))
    if latex or bibtex:
        from nasseg.report.parts import for_paper

        print(shown((for_paper.latex_front if latex else for_paper.bibtex)(record).rstrip("\n")))
    elif rows:
        from nasseg.tables.front_rows import front_rows

        print(shown(front_rows(record).rstrip("\n")))
    elif as_json:
        print_json(_within(record, bounds))
    else:
        print_front(record, bounds)


def _bounds(items: list[str]) -> dict[str, float]:
    bounds = parse_settings(items, "--max")
    for name, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise UserError(f"--max takes FIGURE=NUMBER, such as latency_ms=12, got {name}={bound}")
    return bounds


def _within(record: "StudyRecord", bounds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the rows of the front whose figures are within the bounds."""
    from nasseg.analyse.trials import front_rows, shown_figures

    rows, figures = front_rows(record), shown_figures(record)
    for name, bound in bounds.items():
        if name not in figures:
            raise unknown("figure", name, figures)
        rows = [row for row in rows if row[name] is not None and row[name] <= bound]
    return rows


def print_front(record: "StudyRecord", bounds: Mapping[str, float]) -> None:
    """Print the networks on the front that are within the bounds, with what the study searched for."""
    from nasseg.figures import figure_in

    rows = _within(record, bounds)
    figures = [figure_in(record, objective.name) for objective in record.objectives]
    within = "".join(f", {name} at most {figure_in(record, name).text(bound)}" for name, bound in bounds.items())
    if not rows and not (whole := _within(record, {})):
        out.print(empty_front(record.name))
        return
    if not rows:
        known = {name: [row[name] for row in whole if row[name] is not None] for name in bounds}
        least = ", ".join(f"{name} {figure_in(record, name).text(min(of))}" for name, of in known.items() if of)
        out.print(f"no network of the front has{within[1:]}; the least there: {least}")
        return
    table = Table("trial", "family", title=f"front of {record.name}{within}: {counted(len(rows), 'network')}")
    for figure in figures:
        table.add_column(figure.name, justify="right")
    for row in rows:
        cells = (latency_cell(f.text(row[f.name]), row["disturbed"] and f.part == "latency") for f in figures)
        table.add_row(str(row["number"]), str(row["family"]), *cells)
    out.print(table)
    if any(row["disturbed"] for row in rows) and any(figure.part == "latency" for figure in figures):
        out.print(DOUBTFUL)


def next_steps(record: "StudyRecord") -> list[str]:
    """Return the best network within the study's limits, and the commands to run next."""
    from nasseg.analyse.trials import front_rows
    from nasseg.figures import figure_in

    rows = front_rows(record)
    if not rows:
        return []
    best = rows[0]
    first = figure_in(record, record.objectives[0].name)
    limits = [
        f"{name} {SIDES[side]} {figure_in(record, name).text(bound)}"
        for name, limit in record.limits.items()
        for side, bound in limit.items()
    ]
    most = "lowest" if first.direction == "minimize" else "highest"
    chosen = f"{record.name}#{best['number']}"
    return [
        f"{'with ' + ', '.join(limits) if limits else 'without limits'}, the {most} {first.name} is "
        f"{first.text(best[first.name])}: {chosen}, {best['family']}",
        "next:",
        f"  nasseg finish {record.name}    train the front to the end, with three seeds",
        f"  nasseg export {chosen} -o {record.name.split('/')[-1]}.onnx",
    ]
