"""The command `latency`: time networks against each other."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from nasseg.cli.shared import (
    InitMapOption,
    InitOption,
    JsonOption,
    StorageOption,
    Table,
    TrustOption,
    app,
    out,
    parse_size,
    print_json,
    storage_of,
)


@app.command()
def latency(
    archs: Annotated[list[str], typer.Argument(help="Networks: variants, families, YAML files, or trained networks.")],
    against: Annotated[
        str | None, typer.Option(help="Network that ratios are relative to. Default: the first.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds. Each round times every network once.")] = 5,
    protocol: Annotated[
        str | None, typer.Option(help="A paper's protocol: bisenetv2, stdc, eseg, regseg or dabnet.")
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option("--input", metavar="HxW", help="Size of the image. Default: the protocol's, or 1024x2048."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of classes. Default: 19.")] = None,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[str | None, typer.Option(help="Precision: fp32, fp16 or bf16. Default: fp32.")] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="Backend: eager, cuda-graph, onnxruntime, tensorrt, compile or command. Default: eager."),
    ] = None,
    command: Annotated[
        str | None, typer.Option(help="Command that times on a target, such as './bench.sh {onnx}'.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: 1.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images in a batch. Default: 1.")] = None,
    fold_bn: Annotated[bool, typer.Option("--fold-bn", help="Fold BatchNorm into convolutions.")] = False,
    upsampling: Annotated[
        str | None, typer.Option(help="Time the last upsampling (inside) or leave it out (outside). Default: inside.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Also time encoder, context, decoder and head separately.")
    ] = False,
    init: InitOption = None,
    init_map: InitMapOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Time networks in turns (A B A B), and print their ratios with spread."""
    from nasseg.network.time_in_turns import time_addresses

    settings: dict[str, Any] = {
        "precision": precision,
        "threads": threads,
        "batch": batch,
        "upsampling": upsampling,
        "backend": backend or ("command" if command else None),
        "command": command,
        "fold_bn": fold_bn or None,
    }
    found = time_addresses(
        archs,
        against=against,
        repeat=repeat,
        preset=protocol,
        input_size=parse_size(input_size),
        num_classes=classes,
        device=device,
        settings={key: value for key, value in settings.items() if value is not None},
        parts=parts,
        init=init,
        init_map=init_map,
        storage=storage_of(storage),
    )
    if as_json:
        print_json(asdict(found))
        return
    table = Table("network", "p50 ms", "rounds ms", "p90", "p99", "fps", f"ratio to {found.base}", "rounds", "")
    for row in found.rows:
        low, high = row.range_ms
        last = row.rounds[-1]
        table.add_row(
            row.label,
            f"{row.p50_ms:.3g}",
            f"{low:.3g} to {high:.3g}",
            f"{last.p90_ms:.3g}",
            f"{last.p99_ms:.3g}",
            f"{1e3 * last.protocol.batch / row.p50_ms:.3g}",
            f"{row.ratio:.3f}",
            f"{min(row.ratios):.3f} to {max(row.ratios):.3f}",
            f"{row.disturbed} disturbed" if row.disturbed else "",
        )
    out.print(table)
    for label, by_part in found.parts.items():
        longest = max(by_part.values())
        out.print(f"{label}, by part:")
        for name, ms in by_part.items():
            out.print(f"  {name:<10} {ms:8.3g} ms  {'#' * round(40 * ms / longest)}", highlight=False)
    for line in found.notes:
        out.print(line)
