"""All trials as one table, for downloads and notebooks, with a column for each figure, class and parameter."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nasseg.analyse.trials import outcome, trial_figures, trials_frame
from nasseg.records import StudyRecord, TrialRow


def all_trials(record: StudyRecord) -> pd.DataFrame:
    """Return a row for each trial, with a column for each figure and each parameter.

    Columns: those of `nasseg.analyse.trials.trials_frame` without `arch` and `training`, the trial's outcome, every
    other measured figure (including p90 and p99), the IoU of each class as `iou.CLASS`, then every field of the
    architectures, nested ones as `encoder_settings.depth`, and every parameter of the recipe. A field with the name of
    another column is called `arch.NAME`.
    """
    frame = trials_frame(record).drop(columns=["arch", "training"], errors="ignore")
    frame.insert(3, "outcome", [outcome(trial) for trial in record.trials])
    figures = pd.DataFrame(
        [{**trial_figures(trial), **_class_iou(trial)} for trial in record.trials], index=frame.index
    )
    known = {*frame, *figures}
    fields = [_flat(trial.settings) for trial in record.trials]
    renamed = [{f"arch.{k}" if k in known else k: v for k, v in one.items() if k != "family"} for one in fields]
    figures = figures.drop(columns=frame.columns, errors="ignore")
    return pd.concat([frame, figures, pd.DataFrame(renamed, index=frame.index)], axis=1)


def figure_name(study: str, x: str, y: str) -> str:
    """Return the name of a figure's file without its suffix, the same as on the page: STUDY-X-Y."""
    return re.sub(r"[^\w.-]+", "-", f"{study}-{x}-{y}")


def _class_iou(trial: TrialRow) -> dict[str, float | None]:
    """Return the IoU of each class in percent, to four decimals."""
    known = trial.accuracy.class_iou if trial.accuracy else {}
    return {f"iou.{name}": None if iou is None else round(iou, 4) for name, iou in known.items()}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
