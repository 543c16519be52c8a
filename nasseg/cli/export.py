"""Commands for deployment: export a network, and segment pictures."""

from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from nasseg.cli.shared import (
    ArchArgument,
    ClassesOption,
    InitMapOption,
    InitOption,
    InputOption,
    SetOption,
    StorageOption,
    TrustOption,
    app,
    out,
    parse_settings,
    parse_size,
    storage_of,
)


@app.command()
def export(
    arch: ArchArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File: NAME.onnx, .pt2 or .pt. Its card is NAME.card.json.")
    ],
    file_format: Annotated[
        str | None, typer.Option("--format", help="Format: onnx, pt2 or state_dict. Default: from the file's suffix.")
    ] = None,
    argmax: Annotated[bool, typer.Option("--argmax", help="Return classes (uint8) instead of logits.")] = False,
    settings: SetOption = None,
    input_size: InputOption = None,
    classes: ClassesOption = None,
    batch: Annotated[int, typer.Option(min=0, help="Images in a batch. 0 allows any number (onnx only).")] = 1,
    data: Annotated[str | None, typer.Option(help="Data set whose class names and colours go into the card.")] = None,
    opset: Annotated[int | None, typer.Option(min=18, help="ONNX opset. Default: torch's choice.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Compute in float16. Images stay float32.")] = False,
    init: InitOption = None,
    init_map: InitMapOption = None,
    storage: StorageOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Export a network and its weights to a file, with a card beside it, and check the file against PyTorch."""
    from nasseg.network.export import export_address

    done = export_address(
        arch,
        output,
        file_format=file_format,
        argmax=argmax,
        overrides=parse_settings(settings or []),
        input_size=parse_size(input_size),
        num_classes=classes,
        batch=batch or None,
        data=data,
        opset=opset,
        half=half,
        init=init,
        init_map=init_map,
        storage=storage_of(storage),
    )
    for line in [*done.card.lines(), f"card: {done.card_path}"]:
        out.print(line)


@app.command()
def predict(
    network: Annotated[
        str,
        typer.Argument(help="Network: a file written by `nasseg export`, or trained: a run, STUDY#TRIAL, TABLE#ROW."),
    ],
    images: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, and videos.")],
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for NAME.png (labels) and NAME.overlay.png.")],
    storage: StorageOption = None,
    trust_code: TrustOption = False,
) -> None:
    """Segment pictures with an exported or a trained network. Label maps come back at the picture's size."""
    from nasseg.network.predict import predict as run

    seconds = []
    for done in run(network, images, folder, storage_of(storage)):
        out.print(done.line())
        seconds.append(done.seconds)
    if seconds:
        count = f"{len(seconds)} picture{'s' * (len(seconds) > 1)}"
        out.print(f"{count}, {1e3 * median(seconds):.3g} ms each (median), from pixels to classes")
