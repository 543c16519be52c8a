"""Compare rankings of networks by figures that cost nothing with the ranking by trained mIoU."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from nasseg.analyse.trials import outcome, trial_figures
from nasseg.figures import figure_in
from nasseg.records import StudyRecord

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 8  # least number of networks
_Z = 1.96


def rank_correlation(early: ArrayLike, final: ArrayLike, z: float = _Z) -> tuple[float, float, float]:
    """Return Kendall's tau-b of two columns [n], n of 5 or more, and the ends of its interval of z errors.

    The interval: Fieller, Hartley and Pearson, "Tests for rank correlation coefficients", 1957. A column that does not
    vary ranks nothing: tau is 0.
    """
    from scipy.stats import kendalltau  # slow to import, and `nasseg status` seldom needs it

    known, found = np.asarray(early), float(kendalltau(early, final).statistic)
    tau = 0.0 if math.isnan(found) else found
    middle, error = np.arctanh(np.clip(tau, -0.999999, 0.999999)), math.sqrt(0.437 / (len(known) - 4))
    return tau, float(np.tanh(middle - z * error)), float(np.tanh(middle + z * error))


def cheap_figures_frame(record: StudyRecord) -> "pd.DataFrame":
    """Return a row for each figure known before training (also proxies and users' own), the best first.

    Columns: figure, networks, tau (Kendall's tau-b with mIoU over finished networks, -1..1), low and high (its 95 %
    interval). Empty if fewer than 8 networks are finished, or none has a mIoU.
    """
    import pandas as pd

    columns = ["figure", "networks", "tau", "low", "high"]
    trials = [trial for trial in record.trials if outcome(trial) == "finished" and trial.measurement]
    figures = pd.DataFrame([trial_figures(trial) for trial in trials], dtype=np.float64)
    if "miou" not in figures:
        return pd.DataFrame(columns=columns)
    rows = []
    for name in figures.columns:
        known = figures[[name, "miou"]].dropna().to_numpy()
        if figure_in(record, name).phase == "trained" or len(known) < ENOUGH or len(np.unique(known[:, 0])) < 2:
            continue
        rows.append([name, len(known), *rank_correlation(known[:, 0], known[:, 1])])
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("tau", key=np.abs, ascending=False, kind="stable").reset_index(drop=True)
