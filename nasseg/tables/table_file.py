"""Papers' tables as files: the printed rows and columns, and the meaning of each.

studies/<paper>/table-3a.yaml holds the printed values (as quoted text: trailing digits count) and the meaning of each
row: a published variant with the row's own settings, another paper's network (`cited`), or one that cannot be built
here (`missing`). It holds nothing that can be computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasseg.analyse.paper_table import number
from nasseg.errors import UserError, unknown
from nasseg.families import PAPERS, Arch, make_arch
from nasseg.files import Document, checked_name, find_file, list_files, read_yaml
from nasseg.records import Size
from nasseg.tables.own_table import with_base
from nasseg.train.recipe import Recipe, load_recipe

# Costs of the inference form: weights, multiply-adds, each paper's FLOPs, and RegSeg's Equations 1 and 2.
CostRule = Literal["params", "macs", "fvcore_flops", "bisenetv2_flops", "eseg_flops", "field_of_view"]
# Figures of the module that a row names, in the built model (nasseg.tables.module_figures).
LayerRule = Literal[
    "kernel",
    "kernel_size",
    "channels",
    "expansion",
    "stride",
    "dilation",
    "dilations",
    "repeat",
    "output_size",
    "conv_weights",
    "field_of_view_1",
    "field_of_view_2",
    "field_of_view_3",
    "field_of_view_4",
    "fields_of_view",
]
UNITS = {"M": 1e6, "G": 1e9, "B": 1e9}
MAX_CELLS = 5_000  # networks to build: well under a second
KINDS = ("cost", "layer", "field", "latency", "accuracy", "given")


class TableColumn(BaseModel):
    """A printed column of exactly one of KINDS.

    cost: a figure of the whole network. layer: a figure of the row's module. field: a field of the Arch. latency: the
    device and how it was timed. accuracy: miou, miou_reduced (without truck, bus and train), pixel_accuracy, top1 or
    iou.<class>, with `data` and `split`. given: set or quoted by the paper, not measured.
    label: the heading. data, split: what accuracy was measured on. evaluated: the printed formula that gives the
    values, if they are not from a table. size, classes: [height, width] of the image, and the number of classes, for
    building the network. unit: M, G and B scale the figure. runs_across_stride: a run of equal blocks continues after a
    strided one (of `layer: repeat`). set: fields of the Arch that differ from the variant's in this column, unless a
    row sets them. best: the row that the paper calls the best, if it prints no values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    unit: str = ""
    cost: CostRule | None = None
    layer: LayerRule | None = None
    field: str | None = None
    latency: str | None = None
    accuracy: str | None = Field(None, pattern=r"^(miou|miou_reduced|pixel_accuracy|top1|iou\..+)$")
    given: str | None = None
    size: tuple[int, int] = (1024, 2048)
    classes: int = Field(19, ge=1)
    data: str | None = None
    split: Literal["val", "test"] | None = None
    runs_across_stride: bool = False
    set: dict[str, Any] = {}
    best: str | None = None
    evaluated: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "TableColumn":
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"a column has exactly one of {', '.join(KINDS)}")
        if self.set and self.accuracy is None:
            raise ValueError("only a column of accuracy may have `set`: no printed cost is the trained network's")
        if (self.accuracy is None) != (self.data is None) or (self.data is None) != (self.split is None):
            raise ValueError("columns of accuracy, and no others, name their data and split")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def needs(self) -> str | None:
        """The device or data needed to measure this column; None if it needs nothing."""
        if self.latency is not None:
            return "a GPU"
        if self.data is not None:
            return f"{self.data}' test server" if self.split == "test" and self.data == "Cityscapes" else self.data
        return None

    @property
    def protocol(self) -> str:
        """Return how ours is measured, in words."""
        size, classes = f"{self.size[0]} x {self.size[1]}", f"{self.classes} classes"
        if self.cost == "params":
            return f"trainable weights of the inference form, {classes}"
        if self.cost == "field_of_view":
            return "RegSeg's Equations 1 and 2 along the longest path"
        if self.cost is not None:
            return f"{self.cost} of the inference form at {size}, {classes}"
        if self.data is not None:
            return f"{self.accuracy} on {self.data} {self.split}"
        plain = {
            "layer": f"of the built model at {size}",
            "field": f"field {self.field} of the architecture",
            "latency": f"printed: {self.latency}, {size}",
            "given": self.given or "",
        }
        return plain[self.kind]


class TableRow(BaseModel):
    """A printed row. It has a variant, or is cited or missing.

    name: as printed. variant: the published network. cited: whether it is another paper's, shown beside ours. missing:
    why it cannot be built here. printed: column -> text, null if nothing is printed. note: our remark. set: fields of
    the Arch that differ from the variant's. recipe: settings of the Recipe that differ from the table's. pretraining,
    self_training: data sets besides the column's. run: the number of one of several equal trainings. module: the part
    of the model that layer columns describe. flagged: column -> why ours differs from print.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    variant: str | None = None
    set: dict[str, Any] = {}
    cited: bool = False
    missing: str | None = None
    module: str | None = None
    recipe: dict[str, Any] = {}
    pretraining: tuple[str, ...] = ()
    self_training: tuple[str, ...] = ()
    run: int | None = None
    printed: dict[str, str | None]
    flagged: dict[str, str] = {}
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> "TableRow":
        if (self.variant is not None) + self.cited + (self.missing is not None) != 1:
            raise ValueError("a row has exactly one of variant, cited: true, and missing")
        if self.set and self.variant is None:
            raise ValueError("set replaces fields of a variant, but there is none")
        return self

    def arch(self, column: TableColumn | None = None, size: Size | None = None) -> Arch | None:
        """Return the row's network for a column; None if it is not built here.

        size: of the training images. A column's `input_scale` is adapted so that networks see as many pixels as of the
        paper's images, at most all. An `input_scale` set by the row or its variant stays, because it defines the row.
        """
        more = dict(column.set) if column else {}
        if column and size and "input_scale" in more:
            larger = (prod(column.size) / prod(size)) ** 0.5
            more["input_scale"] = min(1.0, round(more["input_scale"] * larger, 3))
        return None if self.variant is None else make_arch(self.variant, **{**more, **self.set})


class TableFile(BaseModel):
    """A table of a paper.

    paper: its family. table: its number. title: in words. question: what it should answer. expected: the paper's
    answer. recipe: the published one that trained the rows, or one with settings. columns: by name, as printed. rows:
    as printed. pretraining_recipe: the published one that pre-trained rows on their `pretraining` data. reference: the
    row to compare others with; default: the first that is built here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    table: str
    title: str
    question: str
    expected: str
    recipe: str | dict[str, Any] | None = None
    pretraining_recipe: str | None = None
    reference: str | None = None
    columns: dict[str, TableColumn] = Field(min_length=1)
    rows: list[TableRow] = Field(min_length=1)

    @property
    def base(self) -> str:
        """The row that others are compared with; empty if none is built here."""
        return self.reference or next((row.name for row in self.rows if row.variant is not None), "")

    def training(self, row: TableRow) -> Recipe | None:
        """Return the recipe that trained a row; None if the table names none.

        Raises:
            UserError: no such recipe, or a setting is unknown or refused.
        """
        if self.recipe is None:
            if row.recipe:
                raise UserError(
                    f"row {row.name!r} changes a recipe, but the table names none: add `recipe` to the table"
                )
            return None
        usual = {"name": self.recipe} if isinstance(self.recipe, str) else self.recipe
        return load_recipe({**usual, **row.recipe})


@dataclass(frozen=True)
class Table:
    """A table that has passed every check."""

    name: str
    file: TableFile

    @property
    def paper(self) -> str:
        return PAPERS.get(self.file.paper, self.file.paper)


def tables() -> list[str]:
    """List the names of all tables, paper by paper."""
    order = list(PAPERS)

    def key(name: str) -> tuple[int, str, list[str | int]]:
        paper, _, rest = name.partition("/")
        kind, _, label = rest.partition("-")
        digits = "".join(c for c in label if c.isdigit())
        at = order.index(paper) if paper in order else len(order)
        return at, paper, [{"table": 0, "figure": 1}.get(kind, 2), int(digits or 0), label]

    return sorted(list_files("tables"), key=key)


def load_table(name: str | Path) -> Table:
    """Load a table by name (`bisenetv2/table-3a`: ./studies first, then those shipped) or path.

    Raises:
        UserError: no such table, or the file breaks a rule (file and line are named).
    """
    path = find_file("tables", name)
    is_path = Path(name).suffix in (".yaml", ".yml")
    table_name = f"{path.parent.name}/{path.stem}".strip("/") if is_path else str(name)
    return table_from(read_yaml(path), checked_name(table_name))


def table_from(document: Document, name: str) -> Table:
    """Check what types cannot: that columns, rows, variants and fields exist, and that values are text."""
    document = with_base(document)
    file = document.validate(TableFile)
    for key, recipe in (("recipe", file.recipe), ("pretraining_recipe", file.pretraining_recipe)):
        try:
            load_recipe(recipe or {})
        except UserError as error:
            raise document.error((key,), str(error)) from None
    named = {("reference",): file.reference} | {("columns", k, "best"): c.best for k, c in file.columns.items()}
    built = [row.name for row in file.rows if row.variant is not None]
    for place, name_of_row in named.items():
        if name_of_row is not None and name_of_row not in built:
            raise document.error(place, str(unknown("row that is built here", name_of_row, built)))
    if (cells := len(file.rows) * len(file.columns)) > MAX_CELLS:
        rows = f"{len(file.rows):,} rows of {len(file.columns):,} columns"
        raise document.error(("rows",), f"a table has at most {MAX_CELLS:,} cells, got {cells:,}: {rows}")
    others = [column for column in file.columns.values() if column.set]  # which have networks of their own
    known: set[str] = set()
    for index, row in enumerate(file.rows):
        where: tuple[str | int, ...] = ("rows", index)
        if row.pretraining and row.variant and (len(row.pretraining) > 1 or file.pretraining_recipe is None):
            raise document.error(where, "a row is pre-trained on one data set, with the table's pretraining_recipe")
        if row.name in known:
            raise document.error(where, f"two rows are called {row.name!r}")
        known.add(row.name)
        for key, given in (("printed", row.printed), ("flagged", row.flagged)):
            for column in given:
                if column not in (file.columns if key == "printed" else row.printed):
                    raise document.error((*where, key, column), str(unknown("column", column, file.columns)))
        for column in row.printed:
            kind = file.columns[column].kind
            if kind == "layer" and row.module is None and row.variant is not None:
                raise document.error(where, f"column {column} needs a module, and the row names none: add `module`")
            if kind == "cost" and row.printed[column] not in (None, "-") and number(row.printed[column]) is None:
                raise document.error((*where, "printed", column), f"a number is needed, got {row.printed[column]!r}")
        try:
            arch = row.arch()
            for seen in others:
                row.arch(seen)
            file.training(row)
        except UserError as error:
            raise document.error(where, str(error)) from None
        for field in (column.field for column in file.columns.values() if column.field):
            if arch and field not in arch.params():
                raise document.error(("columns",), str(unknown("field", field, arch.params())))
    return Table(name, file)


def load_tables(names: list[str] | None = None) -> Iterator[Table]:
    """Load the named tables, or all."""
    return (load_table(name) for name in (tables() if names is None else names))
