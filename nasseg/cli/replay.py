"""Replay: what a sampler or a scheduler would have found, from a table of networks that are all trained."""

import time
from pathlib import Path
from typing import Annotated

import typer

from nasseg.cli.shared import StorageOption, Table, Ticker, app, out, storage_of
from nasseg.errors import UserError, unknown


@app.command()
def replay(
    table: Annotated[Path, typer.Argument(help="A table of trained networks (CSV), or where to write a study's.")],
    sampler: Annotated[
        list[str] | None, typer.Option(help="random, tpe, gp, nsga2, or NAME:OPTION=VALUE. Default: the first two.")
    ] = None,
    scheduler: Annotated[list[str] | None, typer.Option(help="none or halving. Default: both.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches a policy.")] = 20,
    objectives: Annotated[str, typer.Option(help="Figures of the table.")] = "miou,macs",
    budget: Annotated[float | None, typer.Option(help="In full trainings. Default: a quarter of the networks.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of a full training. Default: the table's last.")] = None,
    rungs: Annotated[str, typer.Option(help="Steps of the table, such as 30,90. Default: all below that.")] = "",
    factor: Annotated[int, typer.Option(min=2)] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Simulated.")] = 4,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    space: Annotated[str | None, typer.Option(help="Of the table. Default: the YAML file beside it.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Default: TABLE.html.")] = None,
    of_study: Annotated[str | None, typer.Option("--from", help="First write the table of this study.")] = None,
    storage: StorageOption = None,
) -> None:
    """Search a table of networks that are all trained already: hypervolume against compute, policy by policy."""
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
