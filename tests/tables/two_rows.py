"""A table of two tiny networks, and trainings of two steps."""

from nasseg.data.dataset import DataSet
from nasseg.tables.fitted_recipe import Training
from nasseg.tables.table_file import Table, load_table

TWO_ROWS = """
paper: regseg
table: Table 0
title: t
question: q
expected: e
recipe: {name: regseg-cityscapes-ablation, scale_range: [0.25, 1.75]}
columns:
  miou: {label: mIoU, unit: "%", accuracy: miou, data: Cityscapes, split: val}
  bus: {label: bus, unit: "%", accuracy: iou.bus, data: Cityscapes, split: val}
  test: {label: test mIoU, unit: "%", accuracy: miou, data: Cityscapes, split: test}
  more: {label: with Vistas, unit: "%", accuracy: miou, data: Cityscapes and Vistas, split: val}
  ms: {label: time, unit: ms, latency: a card, size: [32, 64]}
  fps: {label: FPS, unit: FPS, latency: a card, size: [32, 64]}
rows:
  - {name: wide, variant: regseg, set: {width: 0.5, dilations: "(1,1)"}, printed: {miou: "75.0", bus: "1", test: "74.0", more: "76.0", ms: "4", fps: "250"}}
  - {name: narrow, variant: regseg, set: {width: 0.25, dilations: "(1,1)"}, printed: {miou: "73.0", bus: "1", test: "72.0", ms: "2", fps: "500"}}
  - {name: other, cited: true, printed: {miou: "70.0", ms: "9"}}
"""  # noqa: E501


def training(data: DataSet, **options) -> Training:
    return Training(**{"data": data, "steps": 2, "settings": {"batch_size": 2}, "seeds": 2, **options})


def table(name: str = "mine/table-0") -> Table:
    return load_table(name)
