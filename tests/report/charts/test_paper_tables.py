"""Figures of papers' tables: ours beside print, and the speed and accuracy that a paper prints."""

from dataclasses import replace

from nasseg.analyse.paper_table import Cell, Column
from nasseg.analyse.paper_verdict import answer
from nasseg.report.charts.paper_tables import figure_of, speed_figure
from tests.analyse.test_paper_formats import small


def test_computed_numbers_are_drawn_beside_print_and_texts_as_verdicts() -> None:
    ours, printed = figure_of(small()).data
    assert (list(ours.x), list(printed.x)) == ([1.52, 2.1, None], [1.5, 2.0, 7.0])
    cells = tuple(replace(cell, ours="3x3", verdict="equal") for cell in small().cells)
    figure = figure_of(replace(small(), cells=cells))
    assert figure.data[0].type == "heatmap"
    assert figure.data[0].z[0][0] == 1


def test_columns_of_one_label_are_told_apart_by_their_units() -> None:
    columns = tuple(replace(column, label="512x1024") for column in small().columns)
    cells = tuple(replace(cell, ours="3x3", verdict="equal") for cell in small().cells)
    figure = figure_of(replace(small(), columns=columns, cells=cells))
    assert list(figure.data[0].x) == ["512x1024, %", "512x1024, G", "512x1024, ms"]


def test_own_rows_are_drawn_against_the_base_row_too() -> None:
    runs = {"a": {0: 50.0, 1: 51.0}, "b": {0: 40.0, 1: 41.0}, "mine": {0: 60.0, 1: 61.1}}
    found = answer("mIoU", {"a": 70.0, "b": 60.0, "mine": None}, runs, "a", unit="%")
    ours, printed = figure_of(replace(small(), answers=(found,))).data
    assert list(ours.y) == ["b", "mine"]
    assert list(printed.x) == [-10.0, None]


def test_printed_speed_and_accuracy_are_a_scatter_where_three_rows_have_both() -> None:
    fps = Column(name="fps", label="FPS", unit="FPS", protocol="on a card")
    printed = {"a": ("70.1", "30"), "b": ("71.5", "12.5"), "c": ("65", "100"), "d": ("60", "-")}
    cells = [
        Cell(row=row, column=column, printed=value, ours=None, verdict="cited" if row == "c" else "not run")
        for row, values in printed.items()
        for column, value in zip(("miou", "fps"), values, strict=True)
    ]
    one = replace(small(), columns=(small().columns[0], fps), rows=tuple(printed), cells=tuple(cells))
    cited, own = speed_figure(one).data
    assert (list(cited.x), list(cited.y), list(cited.text)) == ([100], [65], ["c"])
    assert (list(own.x), list(own.y), own.name) == ([30, 12.5], [70.1, 71.5], "of X")
    assert speed_figure(replace(one, rows=("a", "b"))) is None
    assert speed_figure(small()) is None
