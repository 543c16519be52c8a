"""Commands for networks and spaces: list, sample, and measure."""

from typing import Annotated

import typer

from nasseg.cli.shared import (
    ArchArgument,
    ClassesOption,
    InputOption,
    JsonOption,
    SetOption,
    StorageOption,
    Table,
    TrustOption,
    app,
    in_one_line,
    out,
    parse_settings,
    parse_size,
    print_json,
    storage_of,
)


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="Space by name or path. Default: list all.")] = None,
) -> None:
    """List the search spaces, or show one: parameters, conditions, limits, size, published networks in it."""
    from nasseg.files import list_files
    from nasseg.space import load_space

    if name is None:
        table = Table("space", "families", "points", "about")
        for label, path in list_files("spaces").items():
            space = load_space(path)
            table.add_row(label, ", ".join(space.families), f"{space.count():,}", space.about.strip())
        out.print(table)
        return
    from nasseg.figures import FIGURES, own_figure
    from nasseg.limits import SIDES
    from nasseg.space.parameter import as_written, either
    from nasseg.study.check_space import check_space, published_in

    space = load_space(name)
    check_space(space)
    out.print(f"{space.name}: {space.about.strip()}\n{space.citation}")
    table = Table("parameter", "values", "when")
    for parameter in space.parameters.values():
        when = ", ".join(f"{name} = {either(values)}" for name, values in parameter.when)
        table.add_row(parameter.name, ", ".join(map(as_written, parameter.values)), when)
    out.print(table)
    for parameter_name, values in space.named.items():
        for choice, value in values.items():
            out.print(f"{parameter_name} = {choice}: {space.training[parameter_name]} {in_one_line(value)}")
    for template in space.templates.values():
        number, exact = space.schedules(template.name)
        out.print(f"{template.name}: {template.text}, {'' if exact else 'at most '}{number:,} distinct schedules")
    for clause in space.forbid:
        out.print(f"forbidden: {clause}")
    for name, limit in space.limits.items():
        figure = FIGURES.get(name) or own_figure(name, {})
        out.print(
            f"limit: {name} " + " and ".join(f"{SIDES[side]} {figure.text(bound)}" for side, bound in limit.items())
        )
    out.print(f"{space.count():,} points")
    out.print("published networks in it: " + (", ".join(published_in(space)) or "none"))


@app.command("variants")
def list_variants(as_json: JsonOption = False) -> None:
    """List the published architectures, each with its citation."""
    from dataclasses import asdict

    from nasseg.families import variants

    if as_json:
        print_json([asdict(variant) for variant in variants().values()])
        return
    table = Table("variant", "family", "citation", "note")
    for variant in variants().values():
        table.add_row(variant.name, variant.family, variant.citation, variant.note.strip())
    out.print(table)


@app.command()
def sample(
    space: Annotated[str, typer.Argument(help="Space by name or path.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of architectures.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed. The same seed draws the same architectures.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw architectures from a space."""
    import random

    from nasseg.space import load_space

    loaded, rng = load_space(space), random.Random(seed)
    points = [loaded.sample(rng) for _ in range(n)]
    drawn = [{**loaded.settings(point), **loaded.training_of(point)} for point in points]
    if as_json:
        print_json(drawn)
        return
    for settings in drawn:
        out.print("  ".join(f"{key}={value}" for key, value in settings.items()), highlight=False)


@app.command()
def measure(
    arch: ArchArgument,
    settings: SetOption = None,
    input_size: InputOption = None,
    classes: ClassesOption = None,
    latency: Annotated[bool, typer.Option("--latency", help="Also time it on --device.")] = False,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[str, typer.Option(help="Precision of the timing: fp32, fp16 or bf16.")] = "fp32",
    counter: Annotated[str, typer.Option(help="Counter: nasseg, or fvcore to show its count beside ours.")] = "nasseg",
    by_operator: Annotated[bool, typer.Option("--operators", help="Show the cost of each operator.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Print the cost, and optionally the latency, of one architecture."""
    from nasseg.network.measure import measure_address

    report = measure_address(
        arch,
        overrides=parse_settings(settings or []),
        input_size=parse_size(input_size),
        num_classes=classes,
        latency=latency,
        device=device,
        precision=precision,
        counter=counter,
        by_operator=by_operator,
        storage=storage_of(storage),
    )
    if as_json:
        print_json(report)
        return
    table = Table("figure", "value", title=f"{report['variant'] or report['family']} ({report['arch_id']})")
    memory = ("peak_activation_bytes", "eager_memory_bytes")
    names = ("params", "macs", "fvcore_flops", "activations", *memory, "field_of_view")
    for key in ("input_size", "form", *names):
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
    if "fvcore" in report:
        table.add_row("fvcore itself", f"{report['fvcore']['total']:,}")
    out.print(table)
    for kind, count in report["unknown"].items():
        out.print(f"no rule for {kind}: its {count} calls may multiply more than macs says")
    for name, count in report.get("fvcore", {}).get("unsupported", {}).items():
        out.print(f"fvcore has no rule for {name}: {count} calls")
    if by_operator:
        rows = Table("operator", "stride", "output", "params", "macs", "live bytes")
        for row in report["operators"]:
            size = "x".join(map(str, row["output_shape"]))
            counts = (f"{row[key]:,}" for key in ("params", "macs", "live_bytes"))
            rows.add_row(row["kind"], str(row["stride"] or ""), size, *counts)
        out.print(rows)
    out.print("macs: one multiply-add = 1; fvcore_flops: fvcore's own figure; field_of_view in pixels")
