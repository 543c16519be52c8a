"""Open a study in a notebook or a script: its trials and front as tables, its figures as charts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nasseg.analyse.trials import front_frame, on_front, progress, trial_figures
from nasseg.errors import UserError, unknown
from nasseg.records import StudyRecord
from nasseg.study.store.read_study import read_study
from nasseg.words import empty_front

if TYPE_CHECKING:  # plotly takes a third of a second
    import pandas as pd
    import plotly.graph_objects as go

    from nasseg.report.numbers.front_view import Axis


@dataclass(frozen=True, repr=False)
class OpenStudy:
    """A study as it was when opened. record: all of it, as plain data."""

    record: StudyRecord

    def trials(self) -> pd.DataFrame:
        """Return a row for each trial, with a column for each figure, class and parameter.

        See `nasseg.report.numbers.all_trials.all_trials`.
        """
        from nasseg.report.numbers.all_trials import all_trials

        return all_trials(self.record)

    def front(self) -> pd.DataFrame:
        """Return the rows of `trials` that are on the front, best first by the first objective."""
        order = front_frame(self.record)["number"]
        return self.trials().set_index("number", drop=False).loc[order].reset_index(drop=True)

    def plot_front(self, x: str | None = None, y: str | None = None, color: str | None = None) -> go.Figure:
        """Draw finished trials over two columns of `trials`. The front is marked by rings.

        x, y: by default, the study's first objective to minimise and its first to maximise; costs until a network has
        finished. color: a column; default: the family.

        Raises:
            UserError: there is no such column.
        """
        from nasseg.report.charts.front import front_figure
        from nasseg.report.charts.scatter import scatter_figure
        from nasseg.report.numbers.front_view import view_of

        view = view_of(self.record)
        x, y = x or view.x, y or view.y
        if color is None and {x, y} <= view.axes.keys():
            return front_figure(view, x, y)
        frame = self.trials()
        for name in filter(None, (x, y, color)):
            if name not in frame:
                raise unknown("column", name, map(str, frame))
        drawn = [row for rows in (view.front, view.dominated, view.over) for group in rows.values() for row in group]
        shown = frame.iloc[sorted(drawn)]
        return scatter_figure(shown, self._axis(shown, x), self._axis(shown, y), color or "family")

    def _axis(self, shown: pd.DataFrame, name: str) -> Axis:
        from nasseg.report.numbers.front_view import Axis, axis_of

        known = shown[name].dropna()
        if name == "number" or any(name in trial_figures(trial) for trial in self.record.trials):
            return axis_of(self.record, name, known.tolist())
        return Axis(name=name, label=name, unit="", direction=None, log=False, thousands=False, limit={})

    def save_front(
        self, path: str | Path | None = None, x: str | None = None, y: str | None = None, wide: bool = False
    ) -> Path:
        """Draw the front over two columns of `trials` for a paper, and return the file: PDF, SVG or PNG.

        path: by default STUDY-X-Y.pdf. wide: 17.5 cm (a page) instead of 8.5 cm (a column).

        Raises:
            UserError: the front is empty, there is no such column or format, matplotlib is not installed, or the file
                cannot be written.
        """
        from nasseg.report.charts.in_print import save_front
        from nasseg.report.numbers.all_trials import figure_name
        from nasseg.report.numbers.any_axis import with_axes
        from nasseg.report.numbers.front_view import view_of

        view = view_of(self.record)
        if not any(view.front.values()):
            raise UserError(empty_front(self.record.name))
        x, y = x or view.x, y or view.y
        target = Path(path or f"{figure_name(self.record.name, x, y)}.pdf")
        save_front(with_axes(view, self.record, (x, y)), x, y, target, wide)
        return target

    def plot_hypervolume(self, over: str = "trial") -> go.Figure:
        """Draw how the hypervolume grew. over: `trial`, `compute` (hours of training) or `time`."""
        from nasseg.report.charts.front import hypervolume_figure
        from nasseg.report.numbers.front_view import histories_of

        return hypervolume_figure(histories_of(self.record).get(over))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in progress(self.record).items() if count)
        on = int(on_front(self.record).sum())
        return f"study {self.record.name}: {counts or 'no trials'}; {on} on the front"

    def _repr_html_(self) -> str:
        names = ["number", "family", *(objective.name for objective in self.record.objectives)]
        return f"<p>{self!r}</p>" + self.front()[names].to_html(index=False)


def open_study(name: str | Path, storage: str | None = None) -> OpenStudy:
    """Open a study by name, or by the path of its file. Open it again to see later trials.

    Raises:
        UserError: nothing is stored there.
    """
    return OpenStudy(read_study(name, storage))
