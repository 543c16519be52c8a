"""Found against hand-made: networks of a search beside the papers' networks, trained, tested and timed alike.

    python -m tests.benchmarks.bench_found         after each part of reports/camvid-search/README.md

reads the record of the table there (found.yaml, or hand-made.yaml until a search has found something) and writes
networks.csv, trainings.csv, front.png and what stands between the marks in README.md. It trains nothing.

For each hand-made network: of the found ones that are at least as fast, the one with the best mIoU on the validation
split (mean over seeds) is compared with it on the test split, which chose nothing. The noise is the standard deviation
over seeds, pooled over all networks; the intervals of all comparisons hold together (Bonferroni). Where latencies are
missing, multiply-adds take their place.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from scipy import stats

from nasseg.files import written_whole
from nasseg.measure.cost import measure_cost
from nasseg.tables.table_file import Table, load_table
from nasseg.tables.table_store import accuracy_records, trained
from nasseg.tables.time_rows import latency_columns, stored_session
from tests.benchmarks.written import write_between_marks

FOLDER = Path("reports/camvid-search")
HAND_MADE = f"{FOLDER.name}/hand-made"
LEVEL = 0.95
SEEDS = 3
PAPERS = {"bisenetv2": "BiSeNetV2", "stdc1": "STDC", "eseg-lite-s": "ESeg", "regseg": "RegSeg", "dabnet": "DABNet"}


@dataclass
class Network:
    """A row with its trainings, (val, test) by seed in percent, and its latency in each round of the session."""

    row: str
    family: str
    settings: Mapping[str, Any]
    macs: int
    params: int
    trainings: dict[int, tuple[float, float]] = field(default_factory=dict)
    latency_ms: float | None = None
    rounds_ms: Sequence[float] = ()
    disturbed: bool = False

    @property
    def found(self) -> bool:
        return "#" in self.row

    @property
    def paper(self) -> str:
        return PAPERS.get(self.row.partition(" ")[0], "")

    @property
    def val(self) -> float:
        return fmean(val for val, _ in self.trainings.values())

    @property
    def tests(self) -> list[float]:
        return [test for _, test in self.trainings.values()]

    @property
    def test(self) -> float:
        return fmean(self.tests)

    def cost(self, figure: str) -> float:
        """Return what is spent: `latency_ms` or `macs`."""
        return float(self.latency_ms or math.nan) if figure == "latency_ms" else self.macs


@dataclass(frozen=True)
class Against:
    """A hand-made network against the found one that was chosen: difference of the mean test mIoU, its interval."""

    hand: Network
    chosen: Network | None
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def verdict(self) -> str:
        if self.chosen is None:
            return "none found is as fast"
        if math.isnan(self.low):
            return "undecided: too few seeds"
        return "found is better" if self.low > 0 else "hand-made is better" if self.high < 0 else "undecided"


def colour_and_place(table: Table, storage: str) -> str:
    """Say what a pixel's colour and place alone reach, which networks must beat before their order counts."""
    for record in accuracy_records(table.name, storage):
        known = record.attributes().get("baseline")
        if known:
            val, test = (known[split]["miou"] for split in ("val", "test"))
            return f"Colour and place alone reach {val:.1f} % on val and {test:.1f} % on test."
    return ""


def networks(table: Table, storage: str) -> list[Network]:
    """Return the rows of a table with what is recorded of them."""
    column = table.file.columns["test"]
    found = {}
    for row in table.file.rows:
        arch = row.arch(column)
        assert arch is not None
        cost = measure_cost(arch, column.size, column.classes)
        found[row.name] = Network(row.name, arch.family, row.set, cost.macs, cost.params)
    of_both = [record for name in (HAND_MADE, table.name) for record in accuracy_records(name, storage)]
    for record in of_both:  # one takes over what the other trained when its turn comes
        for name, seed, measurement, tested in trained(record):
            if name in found and measurement.accuracy and tested:
                found[name].trainings[seed] = (measurement.accuracy.miou, tested.miou)
    for names in latency_columns(table).values():
        for name, (latency, rounds) in stored_session(table, table.file.columns[names[0]], storage).items():
            found[name].latency_ms, found[name].rounds_ms = latency.p50_ms, rounds
            found[name].disturbed = latency.disturbed
    return list(found.values())


def noise(of: Iterable[Network]) -> tuple[float, int]:
    """Return the standard deviation over seeds, pooled over networks, and its degrees of freedom."""
    several = [one.tests for one in of if len(one.tests) > 1]
    freedom = sum(len(tests) - 1 for tests in several)
    squares = sum((len(tests) - 1) * variance(tests) for tests in several)
    return math.sqrt(squares / freedom) if freedom else math.nan, freedom


def against(all_of_them: Sequence[Network], figure: str) -> list[Against]:
    """Compare each hand-made network that is trained; see the module's docstring."""
    done = [one for one in all_of_them if one.trainings and math.isfinite(one.cost(figure))]
    hand, found = [one for one in done if not one.found], [one for one in done if one.found]
    sd, freedom = noise(done)
    times = stats.t.ppf(1 - (1 - LEVEL) / 2 / max(len(hand), 1), freedom) if freedom else math.nan
    results = []
    for one in hand:
        within = [other for other in found if other.cost(figure) <= one.cost(figure)]
        if not within:
            results.append(Against(one, None))
            continue
        chosen = max(within, key=lambda other: other.val)
        change = chosen.test - one.test
        half = times * sd * math.sqrt(1 / len(one.tests) + 1 / len(chosen.tests))
        results.append(Against(one, chosen, change, change - half, change + half))
    return results


def sentences(results: Sequence[Against], figure: str) -> list[str]:
    """Say for each paper at how many of its widths a found network is better."""
    spent = "latency" if figure == "latency_ms" else "multiply-adds"
    lines = []
    for paper in PAPERS.values():
        own = [one for one in results if one.hand.paper == paper]
        if own:
            counts = {verdict: sum(one.verdict == verdict for one in own) for verdict in {o.verdict for o in own}}
            told = ", ".join(f"{verdict} at {count}" for verdict, count in sorted(counts.items()))
            gains = ", ".join(f"{o.difference:+.1f} ({o.low:+.1f} to {o.high:+.1f})" for o in own if o.chosen)
            lines.append(
                f"- {paper}, {len(own)} widths, at equal {spent} or less: {told}. "
                f"Test mIoU, found less hand-made: {gains or 'none to compare'}."
            )
    return lines


def report(all_of_them: Sequence[Network], alone: str = "") -> str:
    """Return the results in Markdown. alone: what colour and place alone reach, in words."""
    done = [one for one in all_of_them if one.trainings]
    hand = [one for one in all_of_them if not one.found]
    found = [one for one in all_of_them if one.found]
    figure = "latency_ms" if done and all(one.latency_ms for one in done) else "macs"
    sd, freedom = noise(done)
    lines = [f"**Done: {_count(hand)} of hand-made networks, {_count(found)} of found ones; {_timed(done)}.**", ""]
    if freedom:
        alone = f"A seed moves the test mIoU by {sd:.2f} (standard deviation, {freedom} degrees of freedom). {alone}"
    if alone:
        lines += [alone, ""]
    results = against(all_of_them, figure) if found else []
    if found:
        lines += [*sentences(results, figure), ""]
    return "\n".join([*lines, *(_table(done, results) if done else []), ""])


def _count(part: Sequence[Network]) -> str:
    return f"{sum(len(one.trainings) for one in part)} of {SEEDS * len(part)} trainings"


def _timed(done: Sequence[Network]) -> str:
    timed = [one for one in done if one.latency_ms]
    if not done:
        return "nothing is timed"
    if len(timed) < len(done):
        return "latency is not timed yet, so multiply-adds stand in for it"
    doubtful = sum(one.disturbed for one in timed)
    return f"latency timed in one session, {doubtful} of {len(timed)} networks beside other work"


def _table(done: Sequence[Network], results: Sequence[Against]) -> list[str]:
    chosen = {one.hand.row: one for one in results}
    lines = [
        "| network | M multiply-adds | k parameters | ms | seeds | val, % | test, % | best found within | verdict |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for one in sorted(done, key=lambda one: (one.found, one.row.partition(" ")[0], one.macs)):
        other = chosen.get(one.row)
        beside = [other.chosen.row if other.chosen else "", other.verdict] if other else ["", ""]
        cells = [one.row, f"{one.macs / 1e6:.1f}", f"{one.params / 1e3:.0f}"]
        cells += [f"{one.latency_ms:.2f}" if one.latency_ms else "", str(len(one.trainings)), f"{one.val:.1f}"]
        lines.append("| " + " | ".join([*cells, _spread(one.tests), *beside]) + " |")
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f} ± {math.sqrt(variance(values)):.1f}" if len(values) > 1 else f"{fmean(values):.1f}"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    with written_whole(path) as partial:
        partial.write_text(text.getvalue())


def draw(all_of_them: Sequence[Network], path: Path) -> None:
    """Draw the test mIoU, mean and range over seeds, over what is spent: a line a paper, a star a found network."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    done = [one for one in all_of_them if one.trainings]
    timed = all(one.latency_ms for one in done)
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    parts = {paper: [one for one in done if one.paper == paper] for paper in PAPERS.values()}
    parts["found by search"] = [one for one in done if one.found]
    for label, part in parts.items():
        part = sorted(part, key=lambda one: one.cost("latency_ms" if timed else "macs"))
        if not part:
            continue
        x = [one.cost("latency_ms") if timed else one.macs / 1e6 for one in part]
        y = [one.test for one in part]
        ends = [
            [a - min(one.tests) for a, one in zip(y, part, strict=True)],
            [max(o.tests) - a for a, o in zip(y, part, strict=True)],
        ]
        found = label.startswith("found")
        style: dict[str, Any] = (
            {"color": "black", "fmt": "*", "markersize": 10} if found else {"fmt": "o-", "markersize": 4}
        )
        axes.errorbar(x, y, ends, label=label, capsize=2, linewidth=1, **style)
    axes.set_xscale("log")
    for which in ("major", "minor"):
        axes.tick_params(axis="x", which=which, labelsize=8)
        getattr(axes.xaxis, f"set_{which}_formatter")(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    axes.set_xlabel("latency, ms: one CPU thread, 180 x 240" if timed else "multiply-adds at 180 x 240, millions")
    axes.set_ylabel("mIoU on CamVid's test split, %")
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    table_path = next(path for name in ("found", "hand-made") if (path := FOLDER / f"{name}.yaml").exists())
    table, storage = load_table(table_path), str(FOLDER / "trainings.log")
    all_of_them = networks(table, storage)
    costs = [
        {
            **{"row": one.row, "family": one.family, "macs": one.macs, "params": one.params},
            **{"latency_ms": one.latency_ms or "", "rounds_ms": " ".join(f"{ms:.4g}" for ms in one.rounds_ms)},
            **{"disturbed": one.disturbed, "settings": dict(one.settings)},
        }
        for one in all_of_them
    ]
    write_csv(FOLDER / "networks.csv", costs)
    trainings = [
        {"row": one.row, "seed": seed, "val_miou": val, "test_miou": test}
        for one in all_of_them
        for seed, (val, test) in sorted(one.trainings.items())
    ]
    found = report(all_of_them, colour_and_place(table, storage))
    write_between_marks(FOLDER / "README.md", "bench_found", found)
    if trainings:
        write_csv(FOLDER / "trainings.csv", trainings)
        draw(all_of_them, FOLDER / "front.png")


if __name__ == "__main__":
    main()
