"""Commands for training: one architecture with one recipe, pseudo-labels, and a front's networks to the end."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasseg.cli.shared import (
    DOUBTFUL,
    ArchArgument,
    InitMapOption,
    InitOption,
    InputOption,
    JsonOption,
    SetOption,
    SplitsOption,
    StorageOption,
    Table,
    Ticker,
    TrustOption,
    app,
    latency_cell,
    out,
    parse_settings,
    parse_size,
    print_json,
    splits_of,
    storage_of,
    this_command,
)
from nasseg.errors import UserError

if TYPE_CHECKING:
    from nasseg.train.run import RunProgress

DeviceOption = Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads. With 1, runs repeat exactly.")]
RecipeOption = Annotated[str, typer.Option(help="Recipe: a published one by name, or a YAML file.")]
RecipeSetOption = Annotated[
    list[str] | None,
    typer.Option("--recipe-set", metavar="KEY=VALUE", help="Replace a setting of the recipe. Repeatable."),
]
EpochsOption = Annotated[float | None, typer.Option(min=0.001, help="Training epochs, instead of the recipe's steps.")]


@app.command()
def train(
    arch: ArchArgument,
    data: Annotated[str, typer.Option(help="Data: a folder, a data set by name, or scenes.")],
    recipe: RecipeOption,
    recipe_settings: RecipeSetOption = None,
    epochs: EpochsOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs, each with its own seed.")] = 1,
    init: InitOption = None,
    init_map: InitMapOption = None,
    pseudo: Annotated[Path | None, typer.Option(help="Folder of pseudo-labels written by `nasseg label`.")] = None,
    splits: SplitsOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint.")] = False,
    settings: SetOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    storage: StorageOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Train one architecture. Weights, learning curve, predictions and metrics go to runs/train."""
    from nasseg.network.train import metrics, spread, train_address

    with Ticker() as ticker:
        trained = train_address(
            arch,
            data=data,
            recipe=recipe,
            recipe_settings=parse_settings(recipe_settings or [], "--recipe-set"),
            epochs=epochs,
            seeds=seeds,
            init=init,
            init_map=init_map,
            resume=resume,
            overrides=parse_settings(settings or []),
            device=device,
            threads=threads,
            storage=storage_of(storage),
            tell=ticker.say,
            data_options={**({"pseudo": str(pseudo)} if pseudo else {}), **splits_of(splits)},
            on_progress=lambda progress: ticker.update(progress.line(), _tenth(progress)),
        )
    of = "test" if trained.runs[0].data.val_is_test else "val"
    table = Table("figure", f"last.pt ({of})", f"best.pt ({of})")
    for metric in metrics(trained.results):
        table.add_row(metric.name, spread(metric.last), spread(metric.best))
    if trained.results:
        out.print(table)
    for run in trained.runs:
        out.print(f"{run.folder}: last.pt, best.pt, curve.svg, predictions.png")
    if trained.interrupted:
        out.print("interrupted; add --resume to the same command to continue")
        raise typer.Exit(130)
    if trained.failures:
        raise UserError("; ".join(map(str, trained.failures)))


@app.command()
def pretrain(
    arch: ArchArgument,
    data: Annotated[Path, typer.Option(help="Folder of images: train/CLASS/*.jpg and val/CLASS/*.jpg.")],
    recipe: RecipeOption = "stdc-imagenet",
    recipe_settings: RecipeSetOption = None,
    epochs: EpochsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, batches and views.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint.")] = False,
    settings: SetOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
) -> None:
    """Train STDC or a backbone as a classifier of whole images, to start a segmentation network from (`--init`)."""
    from nasseg.network.address import resolve
    from nasseg.train.classification.pretrain import pretrain as run

    with Ticker() as ticker:
        done = run(
            resolve(arch, parse_settings(settings or [])).arch,
            data,
            recipe,
            settings=parse_settings(recipe_settings or [], "--recipe-set"),
            epochs=epochs,
            seed=seed,
            resume=resume,
            device=device,
            threads=threads,
            tell=ticker.say,
            on_progress=lambda step, of, line: ticker.update(line, 10 * step // of),
        )
    if done is None:
        out.print("interrupted; add --resume to the same command to continue")
        raise typer.Exit(130)
    out.print(
        f"top-1 on the validation split: {done.top1:.2f} % (best: {done.best_top1:.2f} %, step {done.best_step:,})"
    )
    out.print(f"start a segmentation network from it: nasseg train ... --init {done.folder / 'best.pt'}")


@app.command()
def evaluate(
    arch: ArchArgument,
    data: Annotated[str, typer.Option(help="A folder, a data set by name, or scenes.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    init: InitOption = None,
    init_map: InitMapOption = None,
    scales: Annotated[str, typer.Option(help="Average over these scales of the image: 0.5,0.75,1,1.25,1.5.")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average over each view mirrored, too.")] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for label maps in the data set's own values.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="Folder for the result. Default: one in runs/evaluate.")
    ] = None,
    input_size: InputOption = None,
    settings: SetOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Score a network on a split of a data set, with its own weights or those of a file. Trains nothing."""
    from nasseg.network.evaluate import evaluate_address

    chosen = _scales(scales)
    out.stderr = as_json  # standard output gets the result only
    with Ticker() as ticker:
        result, folder = evaluate_address(
            arch,
            data,
            split=split,
            overrides=parse_settings(settings or []),
            init=init,
            init_map=init_map,
            scales=chosen,
            flip=flip,
            save=save,
            folder=output,
            input_size=parse_size(input_size),
            device=device,
            threads=threads,
            storage=storage_of(storage),
            on_progress=lambda n, of: ticker.update(f"{n} of {of} images", 10 * n // max(1, of)),
        )
    if as_json:
        print_json(asdict(result))
        return
    for line in result.loaded:
        out.print(line)
    if result.miou is None:
        out.print(f"no label of {split} holds a class: there are no figures")
    else:
        table = Table("figure", f"{result.protocol.data}, {split}, %")
        for name, value in result.rows():
            table.add_row(name, "" if value is None else f"{value:.2f}")
        out.print(table)
    if save:
        out.print(f"{save}: {result.images} label maps")
    out.print(f"{folder}: result.json, confusion.svg")


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise UserError(f"--scales takes numbers separated by commas, such as 0.5,1,2, got {text!r}") from None


@app.command()
def label(
    teacher: Annotated[str, typer.Argument(help="Trained network: a run's folder, STUDY#TRIAL, or TABLE#ROW.")],
    images: Annotated[Path, typer.Argument(help="Folder of images without labels.")],
    output: Annotated[Path, typer.Option("-o", help="Folder for the pseudo-labels.")],
    scales: Annotated[str, typer.Option(help="Scales of the image, each also mirrored.")] = "0.5,1,2",
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Ignore pixels with a lower probability.")] = 0.5,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    storage: StorageOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Label images with a trained network, for `nasseg train --pseudo` (self-training, as in ESeg)."""
    from nasseg.network.label import label_folder

    chosen = _scales(scales)
    with Ticker() as ticker:
        done = label_folder(
            teacher,
            images,
            output,
            scales=chosen,
            confidence=confidence,
            device=device,
            threads=threads,
            storage=storage_of(storage),
            on_progress=lambda n, of: ticker.update(f"{n} of {of} images", 10 * n // max(1, of)),
        )
    sure = "" if done.sure is None else f", {done.sure:.0%} of their pixels"
    out.print(f"{done.folder}: {done.images} images, {done.written} labelled now{sure}")
    if done.interrupted:
        out.print("interrupted; run the same command to resume")
        raise typer.Exit(130)


@app.command()
def finish(
    study: Annotated[str, typer.Argument(help="Study by name or path, or one trial of it: STUDY#21.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe by name, or a YAML file. Default: the study's own, five times as long.")
    ] = None,
    recipe_settings: RecipeSetOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per network.")] = 3,
    epochs: EpochsOption = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set. Default: the study's.")] = None,
    purpose: Annotated[str, typer.Option("--as", help="Purpose. The results are the study STUDY@PURPOSE.")] = "finish",
    device: Annotated[str | None, typer.Option(help="Device to train on. Default: the study's.")] = None,
    threads: ThreadsOption = 1,
    storage: StorageOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Train the front's networks to the end, time them again, and evaluate once on the held-out split."""
    from nasseg.analyse.finished import FIGURES, finished_frame
    from nasseg.report import write_report
    from nasseg.study.finish.finish import best_made, finish_study, made
    from nasseg.study.store.storage import runs_folder

    with Ticker() as ticker:
        done = finish_study(
            study,
            recipe=recipe,
            recipe_settings=parse_settings(recipe_settings or [], "--recipe-set"),
            epochs=epochs,
            seeds=seeds,
            purpose=purpose,
            data=data,
            device=device,
            threads=threads,
            storage=storage_of(storage),
            command=this_command(),
            tell=ticker.say,
            on_progress=lambda network, progress: ticker.update(
                f"{network}, {progress.line()}", (network, _tenth(progress))
            ),
        )
    frame = finished_frame(done.record, done.searched)
    table = Table("network", "ms again", "in the search", "seeds", *FIGURES.values(), title=done.record.name)
    rows: list[Any] = frame.to_dict("records")
    for row in rows:
        times = (
            latency_cell(_cell(row["latency_ms"]), row["disturbed"]),
            latency_cell(_cell(row["searched_latency_ms"]), row["searched_disturbed"]),
            str(row["seeds"]),
        )
        mious = (_spread(row[name], row[f"{name}_sd"]) for name in FIGURES)
        table.add_row(f"{done.searched.name}#{row['number']} {row['family']}", *times, *mious)
    out.print(table)
    if frame["disturbed"].any() or frame["searched_disturbed"].any():
        out.print(DOUBTFUL)
    for number, entries in made(done.record).items():
        named = ", ".join(f"{address} (seed {seed})" for seed, address in entries)
        out.print(f"trial {number} of {done.searched.name}, trained to the end: {named}")
    for note in done.notes:
        out.print(note)
    if done.interrupted:
        out.print("interrupted; run the same command to resume")
        raise typer.Exit(130)
    if frame.empty:
        raise UserError(
            f"no network of the front of {done.searched.name} is finished: fix the faults above and run this again"
        )
    if best := best_made(done.record):
        out.print(f"to export the best on the validation split: nasseg export {best} -o {done.searched.name}.onnx")
    path = write_report(done.record, runs_folder(done.record.name) / f"{purpose}.html")
    out.print(f"report: {path}")


def _tenth(progress: "RunProgress") -> tuple[int, int]:
    """Return a mark that changes with each tenth of a run, for output that cannot update a line."""
    return progress.seed, 10 * progress.step // progress.steps


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _spread(mean: float, deviation: float) -> str:
    return _cell(mean) if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"
