"""The verb of replay: compare samplers and halving on a table of networks that are all trained."""

import time
from pathlib import Path
from typing import Annotated

import typer

from nasseg.cli.shared import StorageOption, Table, Ticker, app, out, storage_of
from nasseg.errors import UserError, unknown


@app.command()
def replay(
    table: Annotated[Path, typer.Argument(help="Table of trained networks (CSV). With --from, it is written first.")],
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="Sampler: random, tpe, gp, nsga2, or NAME:OPTION=VALUE. Default: the first two."),
    ] = None,
    scheduler: Annotated[list[str] | None, typer.Option(help="Scheduler: none or halving. Default: both.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches for each policy.")] = 20,
    objectives: Annotated[str, typer.Option(help="Figures of the table to search for.")] = "miou,macs",
    budget: Annotated[
        float | None, typer.Option(help="Budget in full trainings. Default: a quarter of the networks.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a full training. Default: the table's last.")] = None,
    rungs: Annotated[
        str, typer.Option(help="Rungs: steps of the table, such as 30,90. Default: all below --steps.")
    ] = "",
    factor: Annotated[int, typer.Option(min=2, help="One network in so many is promoted from a rung.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Simulated workers.")] = 4,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that search in parallel.")] = 1,
    space: Annotated[str | None, typer.Option(help="Space of the table. Default: the YAML file beside it.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="File of the curves. Default: TABLE.html.")] = None,
    of_study: Annotated[str | None, typer.Option("--from", help="Study whose table to write first.")] = None,
    storage: StorageOption = None,
) -> None:
    """Search a table of trained networks, and plot hypervolume against compute for each sampler and scheduler."""
    from nasseg.report.pages.replay_curves import write_curves
    from nasseg.study.replay.policies import Policy, setting_of
    from nasseg.study.replay.replay import replay
    from nasseg.study.replay.trained_table import read_table, write_table
    from nasseg.study.store.read_study import read_study
    from nasseg.words import duration

    if of_study:
        out.print(f"table: {write_table(read_study(of_study, storage_of(storage)), table)}")
    loaded = read_table(table, space)
    schedulers = scheduler or ["none", "halving"]
    for name in schedulers:
        if name not in ("none", "halving"):
            raise unknown("scheduler", name, ("none", "halving"))
    setting = setting_of(
        loaded,
        tuple(objectives.split(",")),
        budget,
        steps,
        _steps(rungs),
        factor=factor,
        workers=workers,
    )
    policies = [Policy(s, h == "halving") for h in schedulers for s in sampler or ("random", "tpe")]
    begun = time.monotonic()

    def tell(done: int, of: int) -> None:
        left = duration((time.monotonic() - begun) / done * (of - done))
        ticker.update(f"{done} of {of} searches, about {left} left", 20 * done // of)

    with Ticker() as ticker:
        found = replay(loaded, policies, setting, seeds, jobs, tell)
    frame = found.summary()
    shown = Table(title=f"replay of {table.name}: {len(loaded.networks)} networks")
    for name in frame.columns:
        shown.add_column(str(name), no_wrap=True)
    for row in frame.itertuples(index=False):
        shown.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    out.print(shown)
    path = write_curves(found.curves(), output or table.with_suffix(".html"), f"replay of {table.name}", found.target)
    out.print(f"curves: {path}")


def _steps(given: str) -> tuple[int, ...] | None:
    try:
        return tuple(map(int, given.split(","))) if given else None
    except ValueError:
        raise UserError(f"--rungs: {given!r} must be steps with commas between them, such as 30,90") from None
