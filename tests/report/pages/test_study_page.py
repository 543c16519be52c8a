"""What a report computes, what its page holds, and that no text of a study becomes markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from nasseg.analyse.front import pareto_front
from nasseg.analyse.parameters import effects_frame, importance_frame, population_of
from nasseg.analyse.trials import (
    best_within,
    front_frame,
    objective_values,
    outcome,
    trial_figures,
)
from nasseg.errors import UserError
from nasseg.report import write_report
from nasseg.report.charts.front import COLOURS, SYMBOLS, front_figure, hypervolume_figure, mark
from nasseg.report.charts.parameters import effects_figure, importance_figure, parallel_figure
from nasseg.report.numbers.content import BUDGETS
from nasseg.report.numbers.front_view import history_of, view_of
from nasseg.report.numbers.sample_trials import thinned
from nasseg.report.pages.study_page import render
from nasseg.report.parts.network_panel import trial_detail
from nasseg.report.sections import population as population_section
from nasseg.words import number, sentence
from tests.report.fake import fake_record, hostile_record
from tests.report.unpacked import unpacked

HOSTILE = "</script><script>alert(1)</script>'\"<img src=x onerror=alert(1)>&<!--"


@pytest.fixture(scope="module")
def record():
    return fake_record(120, seed=2)


@pytest.fixture(scope="module")
def page(record):
    return render(record)


def drawn(figure, role="trials"):
    """Row -> (x, y) of a figure's marks."""
    traces = [trace for trace in figure.data if trace.meta == role]
    return {r: xy for t in traces for r, *xy in zip(t.customdata, t.x, t.y, strict=True)}


def groups_of(detail):
    return {group["title"]: group["figures"] for group in detail["groups"]}


def test_every_finished_trial_is_a_mark_at_its_values_and_copies_are_not(record):
    marks = drawn(front_figure(view_of(record), "macs", "miou"))
    finished = [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]
    assert any(trial.reused_from is not None for trial in record.trials)
    assert marks == {r: [record.trials[r].values["macs"], record.trials[r].values["miou"]] for r in finished}


def test_the_front_of_all_objectives_stands_out_whichever_two_are_shown(record):
    expected = set(front_frame(record)["number"])
    view = view_of(record)
    for x, y in (("latency_ms", "miou"), ("miou", "macs"), ("params", "number")):
        data = front_figure(view, x, y).data
        bright = {r for t in data if t.meta == "trials" and t.marker.opacity == 1 for r in t.customdata}
        assert {record.trials[r].number for r in bright} == expected


def test_first_axes_are_what_is_spent_and_what_is_gained(record):
    view = view_of(record)
    assert (view.x, view.y) == ("latency_ms", "miou")


@pytest.mark.slow
def test_a_single_objective_is_drawn_over_the_trials(record):
    trials = tuple(replace(t, values={k: v for k, v in t.values.items() if k == "miou"}) for t in record.trials)
    single = replace(record, objectives=record.objectives[:1], trials=trials)
    assert (view_of(single).x, view_of(single).y) == ("number", "miou")
    assert "The best mIoU is" in render(single)


@pytest.mark.parametrize(("x", "shape"), [("latency_ms", "hv"), ("miou", "vh")])
def test_the_line_joins_the_best_of_the_two_objectives_shown(record, x, shape):
    other = "miou" if x != "miou" else "macs"
    figure = front_figure(view_of(record), x, other)
    (line,) = [trace for trace in figure.data if trace.meta == "steps"]
    finished = [trial for trial in record.trials if outcome(trial) == "finished"]
    names = [objective.name for objective in record.objectives]
    values = objective_values(record, finished)[:, [names.index(x), names.index(other)]]
    kept = pareto_front(values, [record.objectives[names.index(n)].direction for n in (x, other)])
    assert sorted(zip(line.x, line.y, strict=True)) == sorted(map(tuple, values[kept].tolist()))
    assert list(line.x) == sorted(line.x)
    assert line.line.shape == shape


def test_published_networks_are_named_where_both_figures_are_known(record):
    figure = front_figure(view_of(record), "macs", "miou")
    (stars,) = [trace for trace in figure.data if trace.meta == "published"]
    known = [point for point in record.published if {"macs", "miou"} <= set(point.figures)]
    assert len(known) < len(record.published)
    assert list(stars.text) == [point.name for point in known]
    assert list(stars.x) == [point.figures["macs"] for point in known]


def test_limits_are_lines(record):
    shapes = front_figure(view_of(record), "macs", "latency_ms").layout.shapes
    assert [(s.x0, s.x1) for s in shapes if s.yref == "paper"] == [(7e9, 7e9)]
    assert [(s.y0, s.y1) for s in shapes if s.xref == "paper"] == [(80, 80)]
    assert [s.label.text for s in shapes] == ["limit: max 7 G", "limit: max 80 ms"]


def test_families_differ_in_colour_and_shape():
    assert len({mark(i) for i in range(36)}) == 36
    first = [mark(i) for i in range(6)]
    assert [len(set(column)) for column in zip(*first, strict=True)] == [len(COLOURS), len(SYMBOLS)]


def test_hypervolume_never_falls_and_is_a_share(record):
    history = history_of(record)
    assert history.share == sorted(history.share)
    assert 0 < history.share[-1] <= 1
    line, gains = hypervolume_figure(history).data
    assert list(line.y) == history.share
    assert len(gains.x) == len(set(history.share))


def test_the_panel_has_every_figure_with_its_protocol(record):
    trial = next(t for t in record.trials if outcome(t) == "finished" and "dilations" in t.arch)
    detail, m = trial_detail(record, trial, True), trial.measurement
    assert ["dilations", trial.arch["dilations"]] in detail["arch"]
    assert detail["arch"][-1][0] == "decoder_channels"  # the only field that the search did not choose
    commands = dict(detail["commands"])
    address = f"'street-scenes/cpu-front#{trial.number}'"
    assert commands["Measure it again"] == f"nasseg measure {address} --latency"
    assert commands["Train it to the end"] == f"nasseg train {address} --data 'street scenes' --recipe RECIPE"
    file = f"street-scenes-cpu-front-{trial.number}.onnx"
    assert commands["Export it"] == f"nasseg export {address} -o {file}"
    assert f"nasseg export {address} -o {file} && netron {file}" in commands.values()
    peak = m.cost.peak_activation_bytes / 2**20
    assert ["peak activation memory", number(peak, "MiB")] in groups_of(detail)["Cost"]
    groups = {group["title"]: group for group in detail["groups"]}
    assert "512 × 1024 pixels, 19 classes" in groups["Cost"]["protocol"]  # noqa: RUF001
    assert "1,200 steps, seed 0" in groups["Accuracy"]["protocol"]
    assert "cpu, fp32, eager" in groups["Latency"]["protocol"]
    assert ["mIoU", number(m.accuracy.miou, "%")] in groups["Accuracy"]["figures"]
    assert all(group["environment"] for title, group in groups.items() if title != "Objectives")
    assert len(detail["iou"]) == 19
    assert detail["iou"][-1] == ["train", None]
    assert sum(stage[-1] for stage in detail["stages"]) == pytest.approx(100, abs=0.5)


def test_the_panel_names_operators_that_nobody_can_count(record):
    trial = next(t for t in record.trials if outcome(t) == "finished")
    measurement = replace(trial.measurement, cost=replace(trial.measurement.cost, unknown={"cdist": 2}))
    detail = trial_detail(record, replace(trial, measurement=measurement), True)
    (warning,) = (group["warning"] for group in detail["groups"] if group["title"] == "Cost")
    assert "cdist" in warning
    assert "warning" not in next(g for g in trial_detail(record, trial, True)["groups"] if g["title"] == "Cost")


def test_the_page_holds_no_address_but_its_own(page):
    outside = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*['\"](?!#|data:,)", outside)
    assert "https:" not in outside
    assert "http:" not in outside.replace("http://www.w3.org/2000/svg", "")
    assert "default-src &#x27;none&#x27;" in page


def test_without_script_the_front_is_a_table_and_the_ledger_counts(record, page):
    for n in front_frame(record)["number"]:
        assert f'<tr id="trial-{n}">' in page
    rejected = sum(outcome(trial) == "rejected" for trial in record.trials)
    assert f"{rejected} candidates were rejected by limits" in page
    assert "macs is over the limit of 7e+09" in page


@pytest.mark.slow
def test_equal_records_give_equal_files_and_nothing_else_is_left(record, tmp_path):
    first, second = (write_report(record, tmp_path / "deep" / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["a.html", "b.html"]
    assert len(first) < 2.5e6


class Elements(HTMLParser):
    """The elements that a browser would make of a page."""

    def __init__(self):
        super().__init__()
        self.found, self.handlers = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_text_of_a_study_never_becomes_markup():
    page = render(hostile_record(HOSTILE))
    elements = Elements()
    elements.feed(page)
    assert elements.found.count("script") == 6
    assert "img" not in elements.found
    assert elements.handlers == []
    # In Plotly's texts, too, which know some markup: nothing but its own.
    data = json.loads(unpacked(page, "payload"))
    drawn = [*data["hypervolume"].values(), data["population"]["importance"]]
    drawn += [
        data["population"]["parallel"],
        *(p[f] for p in data["population"]["parameters"].values() for f in ("effects", "edf")),
    ]
    for figure in drawn:  # names of parameters, by which the page finds them again, are no text of a figure
        for trace in figure["data"]:
            trace.pop("customdata", None)
    titles = [axis.pop("title") for axis in data["axes"].values()]  # the script escapes them, to break them into lines
    assert any("<img" in title for title in titles)
    data["population"]["parallel"]["layout"].pop("meta")  # names, likewise
    drawn += [data["front"], *data["axes"].values(), *data["hover"]]
    texts = re.findall(r"<[^>]*>", json.dumps(drawn))
    assert set(texts) <= {"<b>", "</b>", "<br>", "<extra>", "</extra>"}


def test_a_study_without_finished_trials_has_a_report(record, tmp_path):
    for trials in ((), tuple(t for t in record.trials if outcome(t) == "rejected")):
        text = write_report(replace(record, trials=trials), tmp_path / "empty.html").read_text()
        assert "no network has finished yet" in text
        assert record.study_file.splitlines()[2] in text
    for few in (["miou", "macs"], ["miou"]):
        objectives = tuple(o for o in record.objectives if o.name in few)
        assert render(replace(record, trials=(), published=(), objectives=objectives))


def test_figures_that_are_not_finite_do_not_break_the_page(record):
    trials = list(record.trials)
    row = next(i for i, trial in enumerate(trials) if outcome(trial) == "finished")
    accuracy = replace(trials[row].measurement.accuracy, curve=((0, 1.0), (1, float("nan"))), miou=float("nan"))
    measurement = replace(trials[row].measurement, accuracy=accuracy)
    trials[row] = replace(trials[row], values={**trials[row].values, "miou": float("nan")}, measurement=measurement)
    page = render(replace(record, trials=tuple(trials)))
    assert json.loads(unpacked(page, "details"))[row]["curve"] == [[0, 1.0]]
    assert json.loads(unpacked(page, "payload"))["rows"]["figures"]["miou"]["values"][row] is None


def test_a_report_that_cannot_be_written_says_so_and_leaves_nothing(record, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(UserError, match="choose another place"):
        write_report(record, blocked / "report.html")
    assert list(tmp_path.iterdir()) == [blocked]


def test_importance_and_effects_are_drawn_at_their_values(record):
    population = population_of(record)
    frame = importance_frame(population).dropna(subset="share").set_index("parameter")
    figure = importance_figure(population)
    drawn = {n: (t.name, x) for t in figure.data for n, x in zip(t.customdata, t.x, strict=True)}
    assert drawn == {n: (row["verdict"], pytest.approx(100 * row["share"])) for n, row in frame.iterrows()}
    assert len({(t.marker.symbol, t.marker.color) for t in figure.data}) == 3  # told apart without colour, too
    name, target = frame.index[0], view_of(record).axes["miou"]
    networks, means = effects_figure(population, name, target).data
    effects = effects_frame(population).query("parameter == @name")
    assert list(means.y) == effects["effect"].tolist()
    assert [y + a for y, a in zip(means.y, means.error_y.array, strict=True)] == pytest.approx(effects["high"].tolist())
    codes = population.choices[name].cat.codes
    assert [round(x) for x in networks.x] == [codes[row] for row in networks.customdata]
    rows = {row: row + 7 for row in population.figures.index[:20]}
    assert set(effects_figure(population, name, target, rows).data[0].customdata) <= set(rows.values())


def test_lines_run_through_what_was_chosen_and_the_front_is_there_in_full(record):
    population = population_of(record)
    view = view_of(record)
    front = [row for rows in view.front.values() for row in rows]
    figure = parallel_figure(population, {"miou": (view.axes["miou"], view.columns["miou"])}, front)
    drawn = {}
    for trace in figure.data:
        for row, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            if x is not None:
                drawn.setdefault(row, []).append(y)
    assert set(front) <= set(drawn)
    assert figure.layout.xaxis.ticktext[0] == "family"
    values = {row: record.trials[row].values["miou"] for row in drawn}
    low, high = min(values.values()), max(values.values())
    for row, line in drawn.items():
        assert line[0] == pytest.approx(float(record.trials[row].arch["family"] == "regseg"), abs=0.05)
        assert line[-1] == pytest.approx((values[row] - low) / (high - low), abs=0.01)
    name = str(figure.layout.xaxis.ticktext[1]).replace("<br>", "")
    family = population.family_of(name)
    for row, line in drawn.items():  # one that is not active lies below them all
        absent = record.trials[row].arch["family"] != family
        assert (-0.15 < line[1] < -0.05) if absent else (-0.05 < line[1] < 1.05)


def test_sentences_say_yes_hardly_and_undecided(record):
    population, target = population_of(record), view_of(record).axes["miou"]
    base = {
        "parameter": "lambda",
        "n": 86,
        "family": "bisenetv2",
        "share": 0.3,
        "low": 0.16,
        "high": 0.43,
        "p": 0.001,
        "best": "16",
    }
    base |= {"worst": "8", "gain": 1.615, "gain_low": 1.124, "gain_high": 2.106, "verdict": "matters"}

    def said(**more):
        return population_section.sentence(SimpleNamespace(**{**base, **more}), population, target)

    assert said() == (
        "Yes: at equal multiply-adds, lambda accounts for 30 % (16 % to 43 %) of the differences in mIoU among 86 "
        "bisenetv2 networks. Best is 16: better than 8 by 1.61 points (1.12 to 2.11)."
    )
    assert said(verdict="hardly matters", high=0.013, family=None).startswith(
        "Hardly: at equal multiply-adds, lambda accounts for at most 1.3 % of the differences in mIoU among 86 networks"
    )
    assert "but chance alone could do that (p = 0.4)" in said(verdict="undecided", p=0.4)
    nothing = {"verdict": "undecided", "share": float("nan")}
    assert said(**nothing, n=4) == "Undecided: 4 bisenetv2 networks with lambda are too few to tell."
    assert "occur at the same cost" in said(**nothing)


@pytest.mark.slow
def test_a_page_of_too_many_trials_keeps_the_front_and_every_best_answer(record, monkeypatch):
    shown = thinned(record, "miou", BUDGETS, 60)
    numbers = {trial.number for trial in shown.trials}
    assert 55 <= len(numbers) < len(record.trials) - 20
    assert front_frame(shown)["number"].tolist() == front_frame(record)["number"].tolist()
    for name in ("latency_ms", "macs", "params"):
        for budget in {trial_figures(t)[name] for t in record.trials if outcome(t) == "finished"}:
            assert best_within(shown, name, budget, "miou") == best_within(record, name, budget, "miou")
    assert {outcome(trial) for trial in shown.trials} >= {"finished", "stopped", "rejected"}
    monkeypatch.setattr(
        "nasseg.report.numbers.content.thinned", lambda record, gain, spends: thinned(record, gain, spends, 60)
    )
    page = render(record)
    assert f"show {len(numbers)} of {len(record.trials)} trials" in page
    finished = [trial for trial in record.trials if outcome(trial) == "finished"]
    networks = {trial.measurement.arch_id for trial in finished}
    assert f"{len(finished)} trials of {len(networks)} networks finished" in page
    data = json.loads(unpacked(page, "payload"))
    assert set(data["rows"]["keys"]) == set(map(str, numbers))
    assert len(json.loads(unpacked(page, "trials-file"))["trials"]["data"]) == len(record.trials)
    whole = json.loads(unpacked(page, "details"))
    for trace in data["front"]["data"]:
        for row in trace["customdata"] if trace["meta"] == "trials" else []:
            key, y = data["rows"]["keys"][row], data["rows"]["figures"]["miou"]["values"][row]
            assert (whole[row]["key"], y) == (key, record.trials[int(key)].values["miou"])
    # The section on parameters covers all trials.
    expected = importance_frame(population_of(record)).set_index("parameter")["share"]
    points = {
        n: x for t in data["population"]["importance"]["data"] for n, x in zip(t["customdata"], t["x"], strict=True)
    }
    assert points == {n: pytest.approx(100 * share) for n, share in expected.dropna().items()}
    line, gains = data["hypervolume"]["trial"]["data"]
    assert line["y"][-1] == history_of(record).share[-1]
    found = [(row, number) for row, number in zip(gains["customdata"], gains["x"], strict=True) if row >= 0]
    assert len(found) > 5
    assert all(data["rows"]["keys"][row] == f"{number:.0f}" for row, number in found)


@pytest.mark.slow
def test_five_thousand_trials_are_a_small_file(tmp_path):
    assert write_report(fake_record(5000), tmp_path / "large.html").stat().st_size < 8e6


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3_334_951, "", "3.335 M"),
        (39_077_228_288, "", "39.08 G"),
        (12.5, "", "12.5"),
        (None, "", "–"),  # noqa: RUF001
        (12_345, "", "12.35 k"),
        (999_999, "", "1 M"),
        (57.12345, "%", "57.12 %"),
        (12_345.6, "ms", "12,346 ms"),
        (-2.5e9, "", "-2.5 G"),
        (0, "", "0"),
        (float("inf"), "", "inf"),
        (2e16, "", "2e+04 T"),
    ],
)
def test_numbers_are_read_by_people(value, unit, text):
    assert number(value, unit) == text


def test_capitals():
    assert [sentence(text) for text in ("mIoU", "latency (median)", "FLOPs")] == ["mIoU", "Latency (median)", "FLOPs"]
