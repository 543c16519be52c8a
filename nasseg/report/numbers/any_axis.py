"""Any column of all trials as an axis of the front's chart."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from nasseg import words
from nasseg.errors import unknown
from nasseg.figures import FIGURES
from nasseg.records import StudyRecord
from nasseg.report.numbers.all_trials import all_trials
from nasseg.report.numbers.front_view import Axis, View, axis_of


def with_axes(view: View, record: StudyRecord, names: Sequence[str]) -> View:
    """Return the view with these columns of `all_trials` as axes, too. Values that are not numbers become texts.

    Raises:
        UserError: there is no such column.
    """
    missing = [name for name in names if name not in view.axes]
    if not missing:
        return view
    frame = all_trials(record)
    axes, columns = dict(view.axes), dict(view.columns)
    for name in missing:
        column = _column(frame, name)
        values = column.astype(object).where(column.notna(), None).tolist()
        published = [point.figures.get(name, point.params.get(name)) for point in record.published]
        if numeric := is_numeric_dtype(column) and not is_bool_dtype(column):
            shown: list[Any] = [value if isinstance(value, int | float) else None for value in [*values, *published]]
        else:
            shown = [None if value is None else words.plain(value) for value in [*values, *published]]
        columns[name], axes[name] = shown, _axis(record, name, shown if numeric else [])
    return replace(view, axes=axes, columns=columns)


def _column(frame: pd.DataFrame, name: str) -> "pd.Series[Any]":
    """Return a column by its name, or by the page's name for a parameter: arch.width, arch.regseg.width."""
    plain = name.removeprefix("arch.")
    family, _, field = plain.partition(".")
    for known in (name, plain):
        if known in frame:
            return frame[known]
    if field in frame and family in set(frame["family"]):
        return frame[field].where(frame["family"] == family)
    raise unknown("column", name, map(str, frame))


def _axis(record: StudyRecord, name: str, values: list[float | None]) -> Axis:
    own = any(name in trial.measurement.custom for trial in record.trials if trial.measurement)
    if name in FIGURES or name.startswith("iou.") or own or name == "number":
        return axis_of(record, name, values)
    return Axis(
        name=name, label=name.removeprefix("arch."), unit="", direction=None, log=False, thousands=False, limit={}
    )
