"""Studies: search, and what became of it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from nasseg.cli.shared import JsonOption, StorageOption, Ticker, app, out, storage_of
from nasseg.errors import UserError

if TYPE_CHECKING:
    from nasseg.records import StudyRecord
    from nasseg.study.preview import Preview


@app.command()
def search(
    study: Annotated[str, typer.Argument(help="A study by name or path.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Trained trials in all. Default: the study's.")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Begin nothing new after so many hours of searching.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of one thread. Default: the study's.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set. Default: the study's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: the study's.")] = None,
    runs: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL of the weights, shared by all nodes. Default: ./runs.")
    ] = None,
    reuse: Annotated[
        str | None, typer.Option(help="A study whose trained networks are tried first and not trained again.")
    ] = None,
    start_from: Annotated[str | None, typer.Option(help="A study whose front is tried first, measured anew.")] = None,
    storage: StorageOption = None,
    report_path: Annotated[Path | None, typer.Option("-o", "--report", help="Default: runs/STUDY/report.html.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sampled and how long it would take.")
    ] = False,
) -> None:
    """Run a study, or go on with it. Ctrl-C stops it cleanly."""
    from nasseg.report import write_report
    from nasseg.study.file import load_study
    from nasseg.study.run import run_study
    from nasseg.study.storage import runs_folder

    loaded = load_study(study)
    out.print(f"{loaded.name}: {loaded.file.question.strip()}\nexpected: {loaded.file.expected.strip()}", markup=False)
    settings: dict[str, Any] = {"trials": trials, "hours": hours, "workers": workers, "data": data, "seed": seed}
    if dry_run:
        from nasseg.study.preview import preview

        with out.status("sampling, costing, timing, training a few steps"):
            _print_preview(preview(loaded, storage=storage_of(storage), **settings))
        return
    with Ticker() as ticker:
        ended = run_study(
            loaded, storage=storage_of(storage), **settings, runs=runs, reuse=reuse, start_from=start_from,
            on_progress=lambda progress: ticker.update(progress.line(), progress.done),
            command=" ".join(["nasseg", *sys.argv[1:]]),
        )  # fmt: skip
    out.print(ended.reason, markup=False)
    if ended.interrupted:
        out.print(
            f"{ended.requeued} running trials were re-queued. To go on: nasseg {' '.join(sys.argv[1:])}", markup=False
        )
    _print_front(ended.record)
    path = write_report(ended.record, report_path or runs_folder(loaded.name) / "report.html")
    out.print(f"report: {path}", markup=False)
    if ended.fault:
        raise UserError(f"{ended.fault}; what was measured is kept: mend this and run the same command again")
    if ended.interrupted:
        raise typer.Exit(130)


@app.command()
def front(
    study: Annotated[str, typer.Argument(help="A study by name or path.")],
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """The Pareto front of a study."""
    from nasseg.analyse.table import front_frame
    from nasseg.study.read import read_study

    record = read_study(study, storage_of(storage))
    if as_json:
        print(front_frame(record).to_json(orient="records"))
    else:
        _print_front(record)


@app.command()
def status(
    study: Annotated[str, typer.Argument(help="A study by name or path.")],
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """What of a study is done, runs, failed or was rejected, and why; read from the storage alone."""
    from nasseg.analyse.table import progress, reasons
    from nasseg.study.budget import duration
    from nasseg.study.read import read_study

    record = read_study(study, storage_of(storage))
    counts = progress(record)
    why = {kind: reasons(record, kind) for kind in ("rejected", "failed", "stopped")}
    if as_json:
        seconds = record.extra["searched_seconds"]
        print(json.dumps({"study": record.name, "trials": counts, "reasons": why, "searched_seconds": seconds}))
        return
    out.print(f"{record.name}: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n), markup=False)
    out.print(f"searched for {duration(record.extra['searched_seconds'])}", markup=False)
    for trial in record.trials:
        if trial.state == "RUNNING":
            family = (trial.arch or {}).get("family", "unknown")
            out.print(f"running: trial {trial.number}, {family}, since {trial.started}", markup=False)
    for kind, counted in why.items():
        for reason, n in counted.items():
            out.print(f"{kind}: {n} x {reason}", markup=False)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study by name or path.")],
    output: Annotated[Path | None, typer.Option("-o", help="Default: runs/STUDY/report.html.")] = None,
    storage: StorageOption = None,
) -> None:
    """Write the HTML report of a study: one file, readable offline."""
    from nasseg.report import write_report
    from nasseg.study.read import read_study
    from nasseg.study.storage import runs_folder

    record = read_study(study, storage_of(storage))
    out.print(f"report: {write_report(record, output or runs_folder(record.name) / 'report.html')}", markup=False)


def _print_front(record: "StudyRecord") -> None:
    from nasseg.analyse.table import front_frame

    frame = front_frame(record)
    names = [objective.name for objective in record.objectives]
    if frame.empty:
        out.print("no trial is finished yet: the front is empty", markup=False)
        return
    table = Table("trial", "family", *names, title=f"front of {record.name}: {len(frame)} networks")
    for _, row in frame.sort_values(names[0], ascending=False).iterrows():
        table.add_row(str(row["number"]), str(row["family"]), *(f"{row[name]:,.4g}" for name in names))
    out.print(table)


def _print_preview(found: "Preview") -> None:
    table = Table("family", "macs", "params", "latency_ms", "verdict", title="candidates: a few that would be drawn")
    for sample in [*found.timed, *(s for s in found.samples if s.verdict)][:10]:
        cost = sample.measurement.cost if sample.measurement else None
        latency = sample.measurement.latency if sample.measurement else None
        table.add_row(
            str(sample.settings["family"]),
            f"{cost.macs:,.4g}" if cost else "",
            f"{cost.params:,}" if cost else "",
            f"{latency.p50_ms:.3g}" if latency else "",
            sample.verdict or "would be trained",
        )
    out.print(table)
    for line in found.lines():
        out.print(line, markup=False)
    out.print("dry run: nothing was stored", markup=False)
