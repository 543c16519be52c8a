"""Which figure that is known before training, or early in it, says best how accurate a network becomes?

    python -m tests.benchmarks.bench_proxy reports/replay/table.csv [--save proxies.csv]

For every network of a table of trained ones: the zero-cost proxies, macs, parameters and the mIoU at each earlier
step, each with its Kendall tau with the last step's mIoU, over all networks and within families (the mean over
families, each with the same weight), and what it costs: CPU seconds a network, one thread. Baseline of the same run:
macs, which costs a thousandth of a proxy.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau

from nasseg.families import Arch, arch_of
from nasseg.measure.proxy import gradient_norm, naswot, synflow
from nasseg.records import Measurement
from nasseg.study.replay.trained_table import Network, read_table

PROXIES = {"naswot": naswot, "synflow": synflow, "gradient_norm": gradient_norm}
CLASSES = 10  # of the procedural scenes
RESAMPLES = 1000


def figures(arch: Arch, network: Network) -> dict[str, float]:
    """Of the untrained network: each proxy, and the seconds that it took."""
    torch.manual_seed(0)
    model = arch.build(CLASSES)
    measurement = Measurement(arch_id=network.arch_id)
    found = {}
    for name, proxy in PROXIES.items():
        begun = time.thread_time()
        found[name] = proxy(model, measurement)
        found[f"{name}_s"] = time.thread_time() - begun
    return found


def tau(frame: pd.DataFrame, figure: str) -> tuple[float, float]:
    """Kendall's with the final mIoU: over all networks, and the mean over families."""
    known = frame[np.isfinite(frame[figure]) & np.isfinite(frame.miou)]
    within = [kendalltau(group[figure], group.miou).statistic for _, group in known.groupby("family")]
    return kendalltau(known[figure], known.miou).statistic, float(np.nanmean(within))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--save", type=Path, metavar="PATH", help="CSV: every network's figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = read_table(options.table)
    seed, *earlier, last = table.seeds[0], *table.steps
    rows = []
    for number, network in enumerate(table.networks):
        settings = table.space.settings(network.params)
        row: dict[str, object] = {"family": settings["family"], "arch_id": network.arch_id}
        row |= {"miou": network.trained[seed, last][0], "macs": network.macs, "params": network.count}
        row |= {f"miou_{step}": network.trained[seed, step][0] for step in earlier}
        rows.append(row | figures(arch_of(settings), network))
        print(f"\r{number + 1}/{len(table.networks)}", end="", flush=True)
    frame = pd.DataFrame(rows)
    if options.save:
        frame.to_csv(options.save, index=False, float_format="%.6g")
    print(f"\n{len(frame)} networks, Kendall's tau with the mIoU at step {last}; 95 % by {RESAMPLES} resamples\n")
    print(f"{'figure':16}{'all':>7}{'95 %':>17}{'in families':>13}{'CPU s a network':>17}")
    random = np.random.default_rng(0)
    samples = [random.integers(len(frame), size=len(frame)) for _ in range(RESAMPLES)]
    for figure in (*PROXIES, "macs", "params", *(f"miou_{step}" for step in earlier)):
        over_all, within = tau(frame, figure)
        low, high = np.nanpercentile(
            [tau_all(frame[[figure, "miou"]].to_numpy(float)[s]) for s in samples], [2.5, 97.5]
        )
        cost = f"{frame[f'{figure}_s'].mean():.3f}" if figure in PROXIES else ""
        print(f"{figure:16}{over_all:7.2f}{f'{low:.2f} to {high:.2f}':>17}{within:13.2f}{cost:>17}")


def tau_all(pairs: np.ndarray) -> float:
    known = pairs[np.isfinite(pairs).all(axis=1)]
    return float(kendalltau(known[:, 0], known[:, 1]).statistic)


if __name__ == "__main__":
    main()
