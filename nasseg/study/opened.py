"""Open a study in a notebook or a script: its trials and front as tables, its figures as charts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nasseg.analyse.trials import front_frame, on_front, progress, trial_figures, trials_frame
from nasseg.errors import unknown
from nasseg.records import StudyRecord
from nasseg.study.store.read_study import read_study

if TYPE_CHECKING:  # plotly takes a third of a second
    import plotly.graph_objects as go

    from nasseg.report.numbers.front_view import Axis


@dataclass(frozen=True, repr=False)
class OpenStudy:
    """A study as it was when it was opened. record: all of it, as plain data."""

    record: StudyRecord

    def trials(self) -> pd.DataFrame:
        """Return a row a trial, with a column a figure and a column a parameter.

        Columns: those of `nasseg.analyse.trials.trials_frame` without `arch` and `training`, every further figure that
        was measured, then every field of the architectures and every parameter of the recipe. A field that has the name
        of a figure is called `arch.NAME`.
        """
        frame = trials_frame(self.record).drop(columns=["arch", "training"], errors="ignore")
        figures = pd.DataFrame([trial_figures(trial) for trial in self.record.trials])
        fields = pd.DataFrame([_fields(trial.settings) for trial in self.record.trials])
        fields = fields.rename(columns=lambda name: f"arch.{name}" if name in {*frame, *figures} else name)
        return pd.concat([frame, figures.drop(columns=frame.columns, errors="ignore"), fields], axis=1)

    def front(self) -> pd.DataFrame:
        """Return the rows of `trials` that are on the front, best first by the first objective."""
        order = front_frame(self.record)["number"]
        return self.trials().set_index("number", drop=False).loc[order].reset_index(drop=True)

    def plot_front(self, x: str | None = None, y: str | None = None, color: str | None = None) -> go.Figure:
        """Draw finished trials over two columns of `trials`; the front is ringed.

        x, y: the study's first cost and gain, unless given. color: a column; families, unless given.

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


def _fields(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "family"}


def open_study(name: str | Path, storage: str | None = None) -> OpenStudy:
    """Open a study by name, or by the path of its file; what comes later needs it opened again.

    Raises:
        UserError: nothing is stored there.
    """
    return OpenStudy(read_study(name, storage))
