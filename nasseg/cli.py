"""The command line: verbs only. Everything it does is callable from Python."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nasseg.errors import UserError

if TYPE_CHECKING:
    from nasseg.records import StudyRecord
    from nasseg.study.preview import Preview
    from nasseg.study.progress import Progress

app = typer.Typer(
    help="Explore design spaces of real-time segmentation networks: search, measure, compare.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
out = Console(soft_wrap=True)

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage", help="Optuna URL or journal file (*.log). Default: runs/STUDY/study.db, or NASSEG_STORAGE."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def main() -> None:
    """Run the command line: user errors are one line and exit code 2."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


@app.command()
def spaces(name: Annotated[str | None, typer.Argument(help="A space by name or path.")] = None) -> None:
    """List the search spaces, or show one: parameters, conditions, limits, size, published points in it."""
    from nasseg.files import list_files
    from nasseg.space import load_space

    if name is None:
        table = Table("space", "families", "points", "about")
        for label, path in list_files("spaces").items():
            space = load_space(path)
            table.add_row(label, ", ".join(space.families), f"{space.count():,}", space.about.strip())
        out.print(table)
        return
    from nasseg.study.published import published_in

    space = load_space(name)
    out.print(f"{space.name}: {space.about.strip()}\n{space.citation}", markup=False)
    table = Table("parameter", "values", "when")
    for parameter in space.parameters.values():
        when = ", ".join(f"{n} in {list(v)}" if len(v) > 1 else f"{n} = {v[0]}" for n, v in parameter.when)
        table.add_row(parameter.name, ", ".join(map(str, parameter.values)), when)
    out.print(table)
    for template in space.templates.values():
        schedules = list(space.schedules(template.name))
        out.print(f"{template.name}: {template.text}, {len(set(schedules)):,} distinct schedules", markup=False)
    for clause in space.forbid:
        out.print(f"forbidden: {clause}", markup=False)
    for figure, limit in space.limits.items():
        out.print(f"limit: {figure} {limit}", markup=False)
    out.print(f"{space.count():,} points", markup=False)
    out.print("published networks in it: " + (", ".join(published_in(space)) or "none"), markup=False)


@app.command("variants")
def list_variants(as_json: JsonOption = False) -> None:
    """List the published architectures, each with its citation."""
    from dataclasses import asdict

    from nasseg.families import variants

    if as_json:
        print(json.dumps([asdict(variant) for variant in variants().values()]))
        return
    table = Table("variant", "family", "citation", "note")
    for variant in variants().values():
        table.add_row(variant.name, variant.family, variant.citation, variant.note.strip())
    out.print(table)


@app.command()
def sample(
    space: Annotated[str, typer.Argument(help="A space by name or path.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed draws the same points.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw architectures from a space."""
    import random

    from nasseg.space import load_space

    loaded, rng = load_space(space), random.Random(seed)
    for _ in range(n):
        settings = loaded.settings(loaded.sample(rng))
        line = json.dumps(settings) if as_json else "  ".join(f"{key}={value}" for key, value in settings.items())
        out.print(line, markup=False, highlight=False)


@app.command()
def measure(
    arch: Annotated[str, typer.Argument(help="A variant, a family, a YAML file, or STUDY#TRIAL.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field.")] = None,
    input_size: Annotated[str | None, typer.Option("--input", metavar="HxW", help="Default 1024x2048.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Default 19.")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Time it on --device.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cost, and latency if asked, of one architecture."""
    from nasseg.study.measure import measure_address

    report = measure_address(
        arch, overrides=parse_settings(settings or []), input_size=parse_size(input_size), num_classes=classes,
        latency=latency, device=device, precision=precision, storage=_storage(storage),
    )  # fmt: skip
    if as_json:
        print(json.dumps(report))
        return
    table = Table("figure", "value", title=f"{report['variant'] or report['family']} ({report['arch_id']})")
    for key in ("input_size", "form", "params", "macs", "fvcore_flops", "activations", "field_of_view"):
        value = report[key]
        table.add_row(
            key,
            f"{value:,}"
            if isinstance(value, int)
            else "x".join(map(str, value))
            if key == "input_size"
            else str(value),
        )
    for key, value in (report.get("latency") or {}).items():
        if isinstance(value, int | float):
            table.add_row(f"latency {key}", f"{value:.3g}" if isinstance(value, float) else str(value))
    out.print(table)
    out.print(
        "macs: one multiply-add = 1; fvcore_flops: the figure fvcore gives; field_of_view in pixels", markup=False
    )


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
            _print_preview(preview(loaded, storage=_storage(storage), **settings))
        return
    with _Ticker() as ticker:
        ended = run_study(
            loaded, storage=_storage(storage), **settings, on_progress=ticker,
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

    record = read_study(study, _storage(storage))
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

    record = read_study(study, _storage(storage))
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

    record = read_study(study, _storage(storage))
    out.print(f"report: {write_report(record, output or runs_folder(record.name) / 'report.html')}", markup=False)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`512x1024` as (height, width)."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UserError(f"a size is HEIGHTxWIDTH, like 512x1024, got {text!r}")
    return int(height), int(width)


def parse_settings(items: list[str]) -> dict[str, Any]:
    """`key=value` items as fields; values are read as YAML, so 0.5, true and names are what they look like."""
    import yaml

    settings = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise UserError(f"--set takes KEY=VALUE, like width=0.5, got {item!r}")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            settings[key.strip()] = value
    return settings


def _storage(option: str | None) -> str | None:
    return option or os.environ.get("NASSEG_STORAGE")


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


class _Ticker:
    """Progress: one line that renews itself on a terminal, a line a trained trial elsewhere."""

    def __init__(self) -> None:
        self._status = out.status("starting") if out.is_terminal else None
        self._last = -1

    def __enter__(self) -> "_Ticker":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, progress: "Progress") -> None:
        if self._status:
            self._status.update(progress.line())
        elif progress.done != self._last:
            out.print(progress.line(), markup=False, highlight=False)
            self._last = progress.done
