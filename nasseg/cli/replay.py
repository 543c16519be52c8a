"""The command `replay`: compare samplers and halving on a table of networks that are all trained."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasseg.cli.shared import StorageOption, Table, Ticker, app, one_thread_for_samplers, out, storage_of
from nasseg.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

# hedged: half of the compute trains networks to the end, whatever the rungs say
SCHEDULERS = ("none", "halving", "hedged")


@app.command()
def replay(
    tables: Annotated[
        list[Path], typer.Argument(help="Tables of trained networks (CSV); with --from, where to write one.")
    ],
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="Sampler: random, tpe, ehvi, gp or NAME:OPTION=VALUE. Default: the first three."),
    ] = None,
    scheduler: Annotated[
        list[str] | None, typer.Option(help="Scheduler: none, halving or hedged. Default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches for each policy.")] = 20,
    objectives: Annotated[str, typer.Option(help="Figures of the table to optimise.")] = "miou,macs",
    budget: Annotated[
        float | None, typer.Option(help="Budget in full trainings. Default: a quarter of the networks.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a full training. Default: the table's last.")] = None,
    rungs: Annotated[
        str, typer.Option(help="Rungs: steps of the table, such as 30,90. Default: all below --steps.")
    ] = "",
    factor: Annotated[int, typer.Option(min=2, help="Promote one network in this many from each rung.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Simulated workers.")] = 4,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that search in parallel.")] = 1,
    space: Annotated[str | None, typer.Option(help="Space of the tables. Default: the YAML file beside each.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="File for the curves. Default: TABLE.html.")] = None,
    of_study: Annotated[
        str | None, typer.Option("--from", help="Study to write the table from, before searching it.")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Search tables of trained networks, and plot hypervolume against compute for each sampler and scheduler.

    With several tables, it prints how far the default policy gets on each, worst first.
    """
    one_thread_for_samplers()

    from nasseg.report.pages.replay_curves import write_curves
    from nasseg.study.replay.policies import DEFAULT, HEDGED, Policy, setting_of
    from nasseg.study.replay.replay import replay, worst_first
    from nasseg.study.replay.trained_table import read_table, write_table
    from nasseg.study.store.read_study import read_study

    if len(tables) > 1 and (output or of_study):
        raise UserError("-o and --from apply to one table: name only one")
    if of_study:
        out.print(f"table: {write_table(read_study(of_study, storage_of(storage)), tables[0])}")
    schedulers = scheduler or list(SCHEDULERS)
    for name in schedulers:
        if name not in SCHEDULERS:
            raise unknown("scheduler", name, SCHEDULERS)
    policies = [
        Policy(s, h != "none", HEDGED if h == "hedged" else 0.0)
        for h in schedulers
        for s in sampler or ("random", "tpe", "ehvi")
    ]
    if len(tables) > 1:
        policies = list(dict.fromkeys([*policies, DEFAULT]))
    loaded = [read_table(table, space) for table in tables]
    settings = [
        setting_of(table, tuple(objectives.split(",")), budget, steps, _steps(rungs), factor=factor, workers=workers)
        for table in loaded
    ]
    results = []
    for path, table, setting in zip(tables, loaded, settings, strict=True):
        with Ticker() as ticker:
            found = replay(table, policies, setting, seeds, jobs, _teller(ticker))
        results.append(found)
        _print_summary(found.summary(), f"replay of {path.name}: {len(table.networks)} networks")
        page = write_curves(found.curves(), output or path.with_suffix(".html"), f"replay of {path.name}", found.target)
        out.print(f"curves: {page}")
    if len(tables) > 1:
        _print_summary(worst_first(results, DEFAULT), f"{DEFAULT}: compute to reach what random search ends with")


def _teller(ticker: Ticker) -> Callable[[int, int], None]:
    from nasseg.words import duration

    begun = time.monotonic()

    def tell(done: int, of: int) -> None:
        left = duration((time.monotonic() - begun) / done * (of - done))
        ticker.update(f"{done} of {of} searches, about {left} left", 20 * done // of)

    return tell


def _print_summary(frame: "pd.DataFrame", title: str) -> None:
    shown = Table(title=title)
    for name in frame.columns:
        shown.add_column(str(name), no_wrap=True)
    for row in frame.itertuples(index=False):
        shown.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    out.print(shown)


def _steps(given: str) -> tuple[int, ...] | None:
    try:
        return tuple(map(int, given.split(","))) if given else None
    except ValueError:
        raise UserError(f"--rungs takes steps separated by commas, such as 30,90, got {given!r}") from None
