"""Measure what each default of `nasseg init` is worth: search tables with one setting changed at a time.

    python -m tests.benchmarks.bench_defaults --seeds 20 --first-seed 400 [--save reports/camvid-bench/defaults.csv]

Tables: the synthetic one and CamVid's. A setting's worth is the compute at which the mean of its searches reaches what
random search has at the end of the budget, as a share of the budget, with its 90 % interval over resampled seeds. The
last row has mIoU by the last weights at the rungs, where the default has that of averaged weights; only CamVid's table
knows both. What the file of --save holds already is not measured again.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from nasseg.study.replay.policies import BASELINE, DEFAULT, HEDGED, Policy, Setting, setting_of
from nasseg.study.replay.replay import replay
from nasseg.study.replay.trained_table import Network, Table, read_table
from tests.benchmarks.bench_camvid import FOLDER

SYNTHETIC, CAMVID = Path("reports/replay/small.csv"), FOLDER / "camvid.csv"
FACTOR = 3


def settings(table: Table, workers: int) -> Iterator[tuple[str, Policy, Setting]]:
    """Yield the default and its variations: words, policy, setting."""
    last = table.steps[-1]
    parts = {part: last // part for part in (27, 9, 3)}

    def asked(*shares: int, factor: int = FACTOR) -> Setting:
        return setting_of(table, rungs=[parts[share] for share in shares], factor=factor, workers=workers)

    usual = asked(9, 3)
    yield "the default", DEFAULT, usual
    yield "sampler: tpe", Policy("tpe", True, HEDGED), usual
    yield "sampler: random", Policy("random", True, HEDGED), usual
    yield "no halving", Policy("ehvi"), usual
    yield "straight: 0", replace(DEFAULT, straight=0.0), usual
    yield "straight: 0.25", replace(DEFAULT, straight=0.25), usual
    yield "factor: 2", DEFAULT, asked(9, 3, factor=2)
    yield "factor: 4", DEFAULT, asked(9, 3, factor=4)
    yield "one rung, at a third", DEFAULT, asked(3)
    yield "one rung, at a ninth", DEFAULT, asked(9)
    if parts[27] in table.steps:
        yield "a third rung, at 1/27", DEFAULT, asked(27, 9, 3)


def by_last_weights(table: Table) -> Table:
    """Return CamVid's table with the last weights' mIoU at its rungs, and the averaged ones' at its end."""
    rows = pd.read_csv(FOLDER / "trainings.csv").query("weights == 'last'")
    last = {(row.arch_id, row.seed, row.step): row.miou for row in rows.itertuples()}

    def changed(network: Network) -> Network:
        trained = {
            (seed, step): (miou if step == table.steps[-1] else last[network.arch_id, seed, step], seconds)
            for (seed, step), (miou, seconds) in network.trained.items()
        }
        return replace(network, trained=trained)

    return replace(table, networks=tuple(map(changed, table.networks)))


def worth(name: str, words: str, table: Table, policy: Policy, setting: Setting, asked: argparse.Namespace) -> dict:
    """Return a row: what a setting reaches on a table."""
    found = replay(table, [policy], setting, asked.seeds, asked.jobs, first_seed=asked.first_seed)
    summary = found.summary().set_index("policy")
    columns = ["ratio", "ratio_low", "ratio_high", "end"]
    row = {"table": name, "setting": words, **summary.loc[str(policy), columns]}
    return {**row, "random_end": summary.loc[str(BASELINE), "end"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0, help="choose by some seeds, and judge by others")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--save", type=Path, help="CSV file to write")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = pd.read_csv(asked.save).to_dict("records") if asked.save and asked.save.exists() else []
    done = {(row["table"], row["setting"]) for row in rows}
    for path in (SYNTHETIC, CAMVID):
        table = read_table(path)
        tasks = [(words, table, policy, setting) for words, policy, setting in settings(table, asked.workers)]
        if path == CAMVID:
            _, policy, setting = next(settings(table, asked.workers))
            tasks.append(("last weights at rungs", by_last_weights(table), policy, setting))
        for words, searched, policy, setting in tasks:
            if (path.stem, words) in done:
                continue
            row = worth(path.stem, words, searched, policy, setting, asked)
            span = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
            print(f"| {row['table']} | {words} | {span} |", flush=True)
            rows.append(row)
            if asked.save:
                pd.DataFrame(rows).to_csv(asked.save, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
