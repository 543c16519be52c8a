"""Print what the tabular benchmark on CamVid shows: early figures, families and seeds.

    python -m tests.benchmarks.bench_camvid_shows

The tables also go into reports/camvid-bench/README.md, between its marks.
Kendall's tau of figures known early with the final mIoU; which family is ahead, at which cost; how much a seed changes.
Intervals: 95 % by 1,000 resamples of the networks.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from nasseg.families import arch_of
from nasseg.measure.cost import measure_cost
from nasseg.space import load_space
from nasseg.study.propose.gaussian_process import GaussianProcess
from nasseg.study.propose.graph_features import graph_features
from tests.benchmarks.bench_camvid import CLASSES, FOLDER, HIGH, LOW, RUNGS, SIZE, point_of, rows_of
from tests.benchmarks.written import write_between_marks

RESAMPLES = 1000
FOLDS = 10
*EARLY, LAST = RUNGS
FINAL = f"averaged {LAST}"
PREDICTED = "features of the graph"
COSTS = {"macs": "multiply-adds", "latency_ms": "latency"}


def networks() -> pd.DataFrame:
    """Return a row for each network that is trained: figures of its graph, latency, and `scores` with seed 0."""
    space, rows = load_space(FOLDER / "camvid.yaml"), rows_of(FOLDER / "networks.csv")
    found = {}
    for row in rows:
        cost = measure_cost(arch_of(space.settings(point_of(row, space))), SIZE, CLASSES)
        figures = {name: getattr(cost, name) for name in ("macs", "params", "activations", "field_of_view")}
        found[row["arch_id"]] = {"family": row["family"], **figures, "features": graph_features(cost)}
    frame = pd.DataFrame.from_dict(found, orient="index").join(scores(seed=0), how="inner")
    timed = rows_of(FOLDER / "latency.csv")
    frame["latency_ms"] = pd.Series({row["arch_id"]: float(row["p50_ms"]) for row in timed}, dtype=float)
    frame[PREDICTED] = predicted(np.array([*frame.features]), frame[FINAL].to_numpy())
    return frame


def scores(seed: int) -> pd.DataFrame:
    """Return the mIoU of each network trained with a seed, at each rung: `averaged 22`, `last 22`..."""
    trained = pd.read_csv(FOLDER / "trainings.csv").query("seed == @seed")
    trained["column"] = trained.weights + " " + trained.step.astype(str)
    return trained.pivot(index="arch_id", columns="column", values="miou")


def predicted(features: np.ndarray, miou: np.ndarray) -> np.ndarray:
    """Return what a Gaussian process predicts of each network from the nine tenths that it is not in."""
    scaled = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    fold, known = np.random.default_rng(0).permutation(len(miou)) % FOLDS, np.isfinite(miou)
    found = np.empty(len(miou))
    for number in range(FOLDS):
        process, learned = GaussianProcess(), known & (fold != number)
        process.fit(scaled[learned], miou[learned], np.zeros(learned.sum()))
        found[fold == number] = process.predict(scaled[fold == number])[0]
    return found


def interval(frame: pd.DataFrame, figure: Callable[[pd.DataFrame], float]) -> str:
    """Return a figure of a frame with its interval over resampled networks."""
    rng = np.random.default_rng(0)
    found = [figure(frame.iloc[rng.integers(len(frame), size=len(frame))]) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return f"{figure(frame):.2f} ({low:.2f} to {high:.2f})"


def tau(name: str) -> Callable[[pd.DataFrame], float]:
    def figure(frame: pd.DataFrame) -> float:
        known = frame[[name, FINAL]].dropna()
        return float(kendalltau(known[name], known[FINAL]).statistic) if len(known) > 1 else np.nan

    return figure


def early_figures(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the table of figures that are known early, each with its tau."""
    yield "| figure | tau with the final mIoU | within families |"
    yield "| --- | --- | --- |"
    rungs = [f"{kind} {step}" for step in EARLY for kind in ("last", "averaged")]
    for name in ("macs", "params", "activations", "field_of_view", "latency_ms", PREDICTED, *rungs):
        if frame[name].isna().all():
            continue
        within = np.nanmean([tau(name)(group) for _, group in frame.groupby("family")])
        yield f"| {name} | {interval(frame, tau(name))} | {within:.2f} |"


def gains(frame: pd.DataFrame) -> Iterator[str]:
    """Yield how much better averaged weights rank at each rung than the last ones do, from the same networks."""
    for step in EARLY:
        yield f"- Tau of averaged less that of last weights at step {step}: {interval(frame, gain(step))}"


def gain(step: int) -> Callable[[pd.DataFrame], float]:
    averaged, last = tau(f"averaged {step}"), tau(f"last {step}")
    return lambda frame: averaged(frame) - last(frame)


def ahead(family: str, cost: str) -> Callable[[pd.DataFrame], float]:
    """Return how far a family's mean mIoU is above that of all families, at equal cost.

    A line in log cost with one slope and an offset for each family is fitted by least squares.
    """

    def figure(frame: pd.DataFrame) -> float:
        known = frame[["family", cost, FINAL]].dropna()
        offsets = pd.get_dummies(known.family, dtype=float)
        if family not in offsets:
            return np.nan
        design = np.column_stack([offsets, np.log2(known[cost]) - np.log2(known[cost]).mean()])
        found = np.linalg.lstsq(design, known[FINAL].to_numpy(), rcond=None)[0][:-1]
        return float(found[list(offsets).index(family)] - found.mean())

    return figure


def families(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the table of families, the best first."""
    costs = [cost for cost in COSTS if frame[cost].notna().any()]
    columns = " | ".join(f"points above the mean at equal {COSTS[cost]}" for cost in costs)
    yield f"| family | networks | mIoU, lowest to highest | {columns} |"
    yield "| --- | --- | --- |" + " --- |" * len(costs)
    groups = dict(list(frame.groupby("family")))
    for family in sorted(groups, key=lambda family: -ahead(family, costs[0])(frame)):
        miou = groups[family][FINAL]
        apart = " | ".join(interval(frame, ahead(family, cost)) for cost in costs)
        yield f"| {family} | {len(miou)} | {miou.min():.1f} to {miou.max():.1f} | {apart} |"


def octaves(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the table of mean and highest mIoU of each family in each octave of multiply-adds."""
    bounds = LOW * 2.0 ** np.arange(round(np.log2(HIGH / LOW)) + 1)
    parts = {
        f"{low / 1e6:.0f} to {high / 1e6:.0f} M": frame[(low <= frame.macs) & (frame.macs < high)]
        for low, high in pairwise(bounds)
    }
    yield "By octave of multiply-adds: mean and highest mIoU, and the family with the highest mean, with the share of"
    yield "the resamples in which it has it."
    yield ""
    yield "| family | " + " | ".join(parts) + " |"
    yield "| --- |" + " --- |" * len(parts)
    for family in sorted(set(frame.family)):
        cells = [part[part.family == family][FINAL] for part in parts.values()]
        yield f"| {family} | " + " | ".join(f"{miou.mean():.1f}, {miou.max():.1f}" for miou in cells) + " |"
    yield "| highest mean | " + " | ".join(map(winner, parts.values())) + " |"


def winner(part: pd.DataFrame) -> str:
    """Return the family with the highest mean, and in how many of the resamples it has it."""
    rng = np.random.default_rng(0)
    resampled = [part.iloc[rng.integers(len(part), size=len(part))] for _ in range(RESAMPLES)]
    best = [one.groupby("family")[FINAL].mean().idxmax() for one in (part, *resampled)]
    return f"{best[0]}, {np.mean(np.array(best[1:]) == best[0]):.0%}"


def seeds(frame: pd.DataFrame) -> str:
    """Return what a second seed changes: the standard deviation over seeds, from pairs."""
    pairs = frame.join(scores(seed=1)[FINAL].rename("again"), how="inner").dropna(subset=[FINAL, "again"])
    apart = pd.DataFrame({"apart": pairs[FINAL] - pairs["again"]})
    spread = interval(apart, lambda chosen: float(np.sqrt((chosen.apart**2).mean() / 2)))
    order = kendalltau(pairs[FINAL], pairs["again"]).statistic
    return f"{len(apart)} networks with two seeds: standard deviation {spread} points; tau of their orders {order:.2f}"


def main() -> None:
    frame = networks()
    lines = [
        f"{len(frame)} networks; the final mIoU is that of averaged weights at step {LAST}. In brackets are 95 % "
        f"intervals of {RESAMPLES:,} resamples of the networks.",
        "",
    ]
    for table in (early_figures, gains, families, octaves):
        lines += [*table(frame), ""]
    text = "\n".join([*lines, f"- {seeds(frame)}", ""])
    print(text)
    write_between_marks(FOLDER / "README.md", "bench_camvid_shows", text)


if __name__ == "__main__":
    main()
