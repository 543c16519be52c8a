"""Commands for studies: search, and read the results."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasseg.cli.shared import (
    DOUBTFUL,
    JsonOption,
    StorageOption,
    Table,
    Ticker,
    TrustOption,
    app,
    latency_cell,
    one_thread_for_samplers,
    out,
    print_json,
    storage_of,
    this_command,
)
from nasseg.cli.show_front import next_steps, print_front
from nasseg.errors import UserError

if TYPE_CHECKING:
    from nasseg.analyse.compute_spent import Compute
    from nasseg.study.search.dry_run import Preview


@app.command()
def search(
    study: Annotated[str, typer.Argument(help="Study by name or path.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Trained trials in total. Default: the study's.")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Begin nothing new after this many hours of searching.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes, one thread each. Default: the study's.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set. Default: the study's.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of sampler and trainings. Default: the study's.")
    ] = None,
    runs: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL for weights, shared by all nodes. Default: ./runs.")
    ] = None,
    reuse: Annotated[
        str | None, typer.Option(help="Try this study's trained networks first, without training them again.")
    ] = None,
    start_from: Annotated[str | None, typer.Option(help="Try this study's front first, measured again.")] = None,
    engine: Annotated[str, typer.Option(help="local: on this machine; ray: on a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Address of the Ray cluster. Default: start one here.")] = None,
    storage: StorageOption = None,
    report_path: Annotated[
        Path | None, typer.Option("-o", "--report", help="File of the report. Default: runs/STUDY/report.html.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show candidates it would draw and the time it would take. Stores nothing."),
    ] = False,
    remeasure: Annotated[
        bool | None,
        typer.Option(
            "--remeasure/--no-remeasure",
            help="Only time the front again, keeping both latencies. --no-remeasure skips this at the end of a search.",
        ),
    ] = None,
    trust_code: TrustOption = False,
) -> None:
    """Run a study, or resume it. Ctrl-C stops it cleanly."""
    one_thread_for_samplers()

    if remeasure and (dry_run or report_path or trials is not None or hours is not None):
        raise UserError("--remeasure only times the front again: leave out --dry-run, --trials, --hours and -o")
    if remeasure:  # of a record: the study's file may lie anywhere
        _remeasure(study, storage_of(storage))
        return
    from nasseg.study.study_file import load_study

    loaded = load_study(study)
    out.print(f"{loaded.name}: {loaded.file.question.strip()}\nexpected: {loaded.file.expected.strip()}")
    settings: dict[str, Any] = {"trials": trials, "hours": hours, "workers": workers, "data": data, "seed": seed}
    if dry_run:
        from nasseg.study.search.dry_run import preview

        with Ticker() as ticker:
            found = preview(
                loaded, storage=storage_of(storage), **settings, tell=lambda line: ticker.update(line, line)
            )
        _print_preview(found)
        return
    from nasseg.processes.children import start_server

    if engine == "local":
        start_server()
    from nasseg.analyse.trials import doubts_of
    from nasseg.study.predictions import with_examples
    from nasseg.study.search.run_study import run_study  # slow to import: print the first line before
    from nasseg.study.store.storage import runs_folder

    with Ticker() as ticker:
        ended = run_study(
            loaded,
            storage=storage_of(storage),
            **settings,
            runs=runs,
            reuse=reuse,
            start_from=start_from,
            engine=engine,
            address=address,
            time_again=remeasure is None,
            on_progress=lambda progress: ticker.update(
                progress.line(), progress.done, progress.rejected + progress.failed
            ),
            tell=ticker.say,
            command=this_command(),
        )
    out.print(ended.reason)
    if ended.interrupted:
        out.print(f"{ended.requeued} running trials were re-queued. To resume: {this_command()}")
    print_front(ended.record, {})
    if line := doubts_of(ended.record).line(loaded.name):
        out.print(line)
    from nasseg.report import write_report  # slow to import: a mistyped command should fail at once

    path = write_report(with_examples(ended.record), report_path or runs_folder(loaded.name) / "report.html")
    out.print(f"report: {path}")
    for line in next_steps(ended.record):
        out.print(line)
    if ended.fault:
        raise UserError(f"{ended.fault}; all measurements are kept: fix this and run the same command again")
    if ended.interrupted:
        raise typer.Exit(130)
    if not any(trial.state == "COMPLETE" for trial in ended.record.trials):
        raise typer.Exit(1)


@app.command()
def status(
    study: Annotated[str, typer.Argument(help="Study by name or path.")],
    since_date: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Also show the changes since this date.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is done, running, rejected or failed in a study, and why. Only reads."""
    from nasseg.analyse.compute_spent import compute_of, since, went_on
    from nasseg.analyse.rungs import rung_lines, rungs_frame
    from nasseg.analyse.trials import doubts_of, front_share, progress, reasons
    from nasseg.study.store.read_study import read_study
    from nasseg.words import duration

    record = read_study(study, storage_of(storage))
    counts = progress(record)
    why = {kind: reasons(record, kind) for kind in ("rejected", "failed", "stopped")}
    compute, latest = compute_of(record), since(record, since_date) if since_date else None
    front, doubts = front_share(record), doubts_of(record)
    if as_json:
        found = {
            "study": record.name,
            "trials": counts,
            "reasons": why,
            "front": front.members,
            "hypervolume": front.share,
            "latencies": vars(doubts),
        }
        found["rungs"] = json.loads(rungs_frame(record).to_json(orient="records"))
        found |= {"searched_seconds": record.extra["searched_seconds"], "compute": vars(compute)}
        if latest:
            found["since"] = {**vars(latest), "date": latest.date.isoformat(), "compute": vars(latest.compute)}
        print_json(found)
        return
    out.print(f"{record.name}: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n))
    if on := went_on(record.trials):
        out.print(f"{len(on)} of those that stopped at a rung went on from there, each as a new trial")
    if front.members:
        out.print(f"front {front.members}, hypervolume {front.share:.3f}")
    if said := doubts.line(record.name):
        out.print(said)
    out.print(f"searched for {duration(record.extra['searched_seconds'])}; {_spent(compute)}")
    for line in rung_lines(record):
        out.print(line)
    if latest:
        moved = "" if latest.now is None else f", hypervolume {latest.before or 0:.3f} -> {latest.now:.3f}"
        out.print(
            f"since {latest.date:%Y-%m-%d %H:%M}: {latest.trials} trials, "
            f"{len(latest.new_front)} new on the front{moved}; {_spent(latest.compute)}",
        )
    for trial in record.trials:
        if trial.state == "RUNNING":
            family = (trial.arch or {}).get("family", "unknown")
            rung = f", rung {trial.rung}" if trial.rung else ""
            out.print(f"running: trial {trial.number}, {family}{rung}, since {trial.started}")
    for kind, counted in why.items():
        for reason, n in counted.items():
            out.print(f"{kind}: {n} x {reason}")


@app.command()
def report(
    studies: Annotated[list[str], typer.Argument(help="Studies by name or path. Several are compared.")],
    output: Annotated[Path | None, typer.Option("-o", help="File to write. Default: runs/STUDY/report.html.")] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="For a folder of reports: share one plotting library and write an index.")
    ] = False,
    since_date: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Open with the changes since this date.")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write the HTML report of a study, or of several side by side: one file, readable offline."""
    from nasseg.report import write_report
    from nasseg.study.predictions import with_examples
    from nasseg.study.store.read_study import read_study
    from nasseg.study.store.storage import runs_folder

    records = [with_examples(read_study(study, storage_of(storage))) for study in studies]
    if len(records) > 1 and output is None:
        raise UserError("a report of several studies needs a file: give -o FILE")
    path = output or runs_folder(records[0].name) / "report.html"
    out.print(f"report: {write_report(records, path, shared=shared, since=since_date)}")


def _remeasure(study: str, storage: str | None) -> None:
    from nasseg.study.finish.remeasure import remeasure

    with Ticker() as ticker:
        done = remeasure(
            study,
            storage=storage,
            command=this_command(),
            on_progress=lambda n, of: ticker.update(f"{n} of {of} timings", n),
            tell=ticker.say,
        )
    table = Table("trial", "family", "search, ms", "again, ms", "ratio", "rounds, ms", "front", title=done.record.name)
    for row in done.frame.itertuples():
        front = "on it" if row.on_front else "no longer" if row.was_on_front else ""
        table.add_row(
            str(row.number),
            str(row.family),
            f"{row.old_ms:.4g}",
            f"{row.new_ms:.4g}",
            f"{row.ratio:.3f}",
            f"{row.low_ms:.4g} to {row.high_ms:.4g}",
            str(row.over_limit or front),
        )
    out.print(table)
    for line in done.lines():
        out.print(line)


def _spent(compute: "Compute") -> str:
    from nasseg.words import duration

    parts = {"limits": compute.by_limits, "duplicates": compute.by_duplicates, "halving": compute.by_halving}
    saved = ", ".join(f"{duration(seconds)} by {what}" for what, seconds in parts.items() if seconds)
    money = "" if compute.money is None else f", cost {compute.money:.2f}"
    return f"trained for {duration(compute.trained)}{money}" + (f"; saved about {saved}" if saved else "")


def _print_preview(found: "Preview") -> None:
    table = Table("family", "macs", "params", "latency_ms", "verdict", title="some candidates that it would draw")
    for sample in [*found.timed, *(s for s in found.samples if s.verdict)][:10]:
        cost = sample.measurement.cost if sample.measurement else None
        latency = sample.measurement.latency if sample.measurement else None
        table.add_row(
            str(sample.settings["family"]),
            f"{cost.macs:,.4g}" if cost else "",
            f"{cost.params:,}" if cost else "",
            latency_cell(f"{latency.p50_ms:.3g}", latency.disturbed) if latency else "",
            sample.verdict or "would be trained",
        )
    out.print(table)
    if any(s.measurement and s.measurement.latency and s.measurement.latency.disturbed for s in found.timed):
        out.print(DOUBTFUL)
    for line in found.lines():
        out.print(line)
    out.print("dry run: nothing was stored")
