"""Print what the tabular benchmark on CamVid shows so far: early figures, families and seeds, as Markdown.

    python -m tests.benchmarks.bench_camvid_shows

Kendall's tau of each early figure with the final mIoU; how far each family is from the mean at equal multiply-adds; how
much a seed changes. Intervals: 95 % by 1,000 resamples of the networks.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from tests.benchmarks.bench_camvid import FOLDER, RUNGS

RESAMPLES = 1000
*EARLY, LAST = RUNGS
FINAL = f"averaged {LAST}"


def networks(seed: int) -> pd.DataFrame:
    """Return a row for each network trained with a seed, with its mIoU at each rung: `averaged 22`, `last 22`..."""
    trained = pd.read_csv(FOLDER / "trainings.csv").query("seed == @seed")
    trained["column"] = trained.weights + " " + trained.step.astype(str)
    rungs = trained.pivot(index="arch_id", columns="column", values="miou")
    known = pd.read_csv(FOLDER / "networks.csv").set_index("arch_id")[["family", "macs", "params"]]
    return known.join(rungs, how="inner")


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
    for name in ("macs", "params", *(f"{kind} {step}" for step in EARLY for kind in ("last", "averaged"))):
        within = np.nanmean([tau(name)(group) for _, group in frame.groupby("family")])
        yield f"| {name} | {interval(frame, tau(name))} | {within:.2f} |"


def ahead(family: str) -> Callable[[pd.DataFrame], float]:
    """Return how far a family's mean mIoU is above that of all families, at equal multiply-adds.

    A line in log multiply-adds with one slope and an offset for each family is fitted by least squares.
    """

    def figure(frame: pd.DataFrame) -> float:
        known = frame[["family", "macs", FINAL]].dropna()
        offsets = pd.get_dummies(known.family, dtype=float)
        if family not in offsets:
            return np.nan
        design = np.column_stack([offsets, np.log2(known.macs) - np.log2(known.macs).mean()])
        found = np.linalg.lstsq(design, known[FINAL].to_numpy(), rcond=None)[0][:-1]
        return float(found[list(offsets).index(family)] - found.mean())

    return figure


def families(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the table of families, the best first."""
    yield "| family | networks | mIoU, lowest to highest | above the mean of families at equal multiply-adds |"
    yield "| --- | --- | --- | --- |"
    groups = dict(list(frame.groupby("family")))
    for family in sorted(groups, key=lambda family: -ahead(family)(frame)):
        miou = groups[family][FINAL]
        yield f"| {family} | {len(miou)} | {miou.min():.1f} to {miou.max():.1f} | {interval(frame, ahead(family))} |"


def seeds(frame: pd.DataFrame) -> str:
    """Return what a second seed changes: the standard deviation over seeds, from pairs."""
    pairs = frame.join(networks(seed=1)[FINAL].rename("again"), how="inner").dropna(subset=[FINAL, "again"])
    apart = pd.DataFrame({"apart": pairs[FINAL] - pairs["again"]})
    spread = interval(apart, lambda chosen: float(np.sqrt((chosen.apart**2).mean() / 2)))
    order = kendalltau(pairs[FINAL], pairs["again"]).statistic
    return f"{len(apart)} networks with two seeds: standard deviation {spread} points; tau of their orders {order:.2f}"


def main() -> None:
    frame = networks(seed=0)
    print(f"{len(frame)} networks; final is mIoU at step {LAST} with averaged weights\n")
    for table in (early_figures, families):
        print("\n".join(table(frame)), end="\n\n")
    print(seeds(frame))


if __name__ == "__main__":
    main()
