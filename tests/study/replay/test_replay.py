"""Tables and replays: what a table says is what a search finds, for the compute that it would have cost."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nasseg.analyse.front import hypervolume, reference_box
from nasseg.errors import UserError
from nasseg.files import parse_yaml
from nasseg.report.pages.replay_curves import write_curves
from nasseg.space.load import space_from_text
from nasseg.study.engines.jobs import Job, Result
from nasseg.study.engines.virtual_engine import Answer, VirtualEngine
from nasseg.study.replay.policies import HEDGED, Policy, setting_of
from nasseg.study.replay.replay import replay, search, worst_first
from nasseg.study.replay.trained_table import FIGURES, read_table, table_of, write_table
from nasseg.study.store.read_study import record_of
from nasseg.study.study_file import study_from
from tests.study.fakes import FakeEngine, make_driver
from tests.study.replay.made_up_table import SMALL, STEPS, made_up, write


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("table"), text=SMALL)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("large"))


def job(number, seconds):
    return Job(number, "train", {"seconds": seconds})


def engine(workers, **options):
    ended = []
    made = VirtualEngine(
        workers,
        lambda j: Answer(Result(j.candidate, j.kind), j.settings["seconds"], cost=j.settings["seconds"] / 10),
        lambda j, _: ended.append(j.candidate),
        **options,
    )
    return made, ended


def test_jobs_end_in_the_order_of_the_virtual_clock():
    made, ended = engine(3)
    for number, seconds in [(1, 30.0), (2, 10.0), (3, 20.0)]:
        made.submit(job(number, seconds))
    assert made.idle == 0
    assert [r.candidate for r in made.wait(0)] == [2]
    assert (made.clock, made.idle) == (10.0, 1)
    assert made.spent == pytest.approx(1.0 + 1.0 + 1.0)  # 10 of 30, 10 of 10, 10 of 20 seconds, at 0.1 each
    assert made.begun == pytest.approx(6.0)
    made.submit(job(4, 10.0))
    assert sorted(r.candidate for r in made.wait(0)) == [3, 4]
    made.cancel(1)
    assert made.spent == pytest.approx(2.0 + 1.0 + 1.0 + 2.0)
    assert made.wait(0) == []
    assert ended == [2, 3, 4]
    assert made.busy_share == pytest.approx((20 + 20 + 20) / 60)


def test_the_callers_thinking_passes_on_the_virtual_clock():
    now = iter([0.0, 1.0, 1.0, 4.0, 4.0, 100.0, 100.0])
    made, _ = engine(2, timer=lambda: next(now))
    made.submit(job(1, 5.0))  # after 1 s of thinking
    made.submit(job(2, 5.0))  # after 3 more
    assert [r.candidate for r in made.wait(0)] == [1, 2]  # after 96 s both have long ended
    assert made.clock == 100.0
    assert made.busy_share == pytest.approx(10 / 200)


def test_a_table_is_read_as_it_was_written(table, tmp_path):
    assert len(table.networks) == 4 * (2 * 2 + 2)
    assert (table.seeds, table.steps) == ((0,), STEPS)
    inactive = [network for network in table.networks if "se_ratio" not in network.params]
    assert len(inactive) == 8
    for network in table.networks:
        assert network.params["family"] == "regseg"
        assert isinstance(network.params["stage3_depth"], int)
        assert table.space.excluded_by(network.params) is None
        assert {step for _, step in network.trained} == set(STEPS)


def damage(tmp_path, edit):
    path = write(tmp_path, text=SMALL)
    lines = path.read_text().splitlines()
    edit(lines)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("width", "0.3", r":3: width: unknown value '0.3'"),
        ("se_ratio", "", r":3: se_ratio: unknown value ''"),
        ("miou", "much", r":3: miou is a number of 0 or more or empty, got 'much'"),
        ("train_seconds", "", r":3: train_seconds is a number of 0 or more, got ''"),
        ("step", "1.5", r":3: step is a whole number, got '1.5'"),
        ("macs", "7", r":3: arch_id, macs or params differ from an earlier row"),
        ("step", "50", r":3: step 50 of this network with seed 0 occurs twice"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(tmp_path, column, value, message):
    def edit(lines):
        cells = lines[2].split(",")
        cells[lines[0].split(",").index(column)] = value
        lines[2] = ",".join(cells)

    with pytest.raises(UserError, match=message):
        read_table(damage(tmp_path, edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines.__setitem__(0, lines[0].replace("miou", "mIoU")), "column 'miou' is missing"),
        (lambda lines: lines.__setitem__(0, lines[0] + ",comment"), "unknown column 'comment'"),
        (lambda lines: lines.__setitem__(4, lines[4] + ",1"), ":5: a row needs as many cells"),
        (lambda lines: lines.__setitem__(slice(1, None), []), "has no rows"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, edit, message):
    with pytest.raises(UserError, match=message):
        read_table(damage(tmp_path, edit))


def test_a_table_needs_its_space(tmp_path):
    path = write(tmp_path, text=SMALL)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(UserError, match="no space beside it"):
        read_table(path)
    with pytest.raises(UserError, match=r"parameters of space bisenetv2"):
        read_table(path, "bisenetv2")


def test_a_search_of_the_whole_table_finds_its_front(table):
    setting = replace(setting_of(table, ("miou", "macs", "latency_ms")), budget=1000.0)
    found = search(table, Policy("random"), setting, 3)
    assert found.share[-1] == pytest.approx(1.0)
    assert len(found.share) == len(table.networks)
    assert list(found.compute) == list(range(1, len(table.networks) + 1))
    assert "every architecture" in found.ended


def test_compute_and_hypervolume_are_those_of_the_networks_trained_to_the_end(table):
    setting = replace(setting_of(table), budget=7.0)
    found = search(table, Policy("random"), setting, 0)
    assert list(found.compute) == [1, 2, 3, 4, 5, 6, 7]
    assert list(found.at(np.array([0.0, 0.5, 1.0, 6.99, 100]))) == [
        0,
        0,
        found.share[0],
        found.share[5],
        found.share[6],
    ]
    values = np.array([[n.trained[0, 450][0], n.macs] for n in table.networks])
    directions = ["maximize", "minimize"]
    corner = reference_box(values, directions).reference
    shares = [hypervolume(v[None], corner, directions) / hypervolume(values, corner, directions) for v in values]
    assert min(abs(found.share[0] - share) for share in shares) < 1e-12


@pytest.mark.parametrize("workers", [1, 5])
def test_halving_pays_for_the_steps_between_the_rungs(table, workers):
    setting = replace(setting_of(table, workers=workers), budget=1000.0)
    found = search(table, Policy("random", halving=True), setting, 0)
    proposed, finished = len(table.networks), len(found.compute)  # all of them to the first rung
    assert 0 < finished < proposed / 3
    promoted = (found.spent - proposed * 50 / 450 - finished * 300 / 450) / (100 / 450)
    assert promoted == pytest.approx(round(promoted))
    assert finished <= promoted < proposed
    assert found.compute[-1] <= found.spent + 1e-9
    assert found.at(np.array([found.compute[0] - 1e-9]))[0] == 0  # partial training counts for nothing


def test_several_workers_take_less_time_for_the_same_compute(table):
    one, five = (search(table, Policy("random"), replace(setting_of(table, workers=n), budget=15.0), 0) for n in (1, 5))
    assert five.hours < one.hours / 3
    assert one.hours == pytest.approx(sum(_seconds(table, one)) / 3600, rel=0.5)
    assert abs(five.compute[-1] - 15) < 1


def _seconds(table, found):
    every = [network.trained[0, 450][1] for network in table.networks]
    return [float(np.mean(every))] * len(found.compute)


def test_the_same_seed_gives_the_same_search_and_another_another(large):
    setting = replace(setting_of(large), budget=3.0)
    again = [search(large, Policy("tpe", halving=True), setting, seed).compute.tolist() for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_training_seeds_take_turns(tmp_path):
    made = made_up(tmp_path, text=SMALL, seeds=(0, 7))
    assert made.seeds == (0, 7)
    setting = replace(setting_of(made), budget=1000.0)
    for seed in (0, 1):  # each search sees one training of a network, and the box of those trainings
        assert search(made, Policy("random"), setting, seed).share[-1] == pytest.approx(1.0)


def test_diverged_networks_cost_and_do_not_count(tmp_path):
    path = write(tmp_path, text=SMALL)
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index("miou")
    for i, line in enumerate(lines):
        cells = line.split(",")
        if cells[lines[0].split(",").index("width")] == "1.0":
            cells[place] = ""
            lines[i] = ",".join(cells)
    path.write_text("\n".join(lines))
    made = read_table(path)
    found = search(made, Policy("random"), replace(setting_of(made), budget=1000.0), 0)
    assert len(found.compute) == 18
    assert found.share[-1] == pytest.approx(1.0)
    assert found.compute[-1] > 18


def test_policies_that_need_what_halving_left_out_are_refused(tmp_path):
    stopped = made_up(tmp_path, text=SMALL, keep=lambda row: row["step"] == 50 or row["width"] == 0.5)
    setting = setting_of(stopped)
    with pytest.raises(
        UserError, match=r"policy random needs every network at step 450, and 18 of 24 .* all reached: 50"
    ):
        replay(stopped, [Policy("random")], setting, 1)
    with pytest.raises(UserError, match=r"policy tpe \+ halving needs every network at step 150"):
        replay(stopped, [Policy("tpe", halving=True)], setting, 1)
    short = setting_of(stopped, steps=50, budget=3)
    assert len(replay(stopped, [Policy("random")], short, 1).searches[0].compute) == 3
    with pytest.raises(UserError, match="halving needs steps below 50"):
        replay(stopped, [Policy("tpe", halving=True)], short, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ("miou", "watts")}, "unknown objective of a table 'watts'"),
        ({"objectives": ("macs", "params")}, "objectives need miou"),
        ({"objectives": ("miou", "miou")}, "an objective is named once"),
        ({"steps": 451}, "unknown step of table made_up '451'"),
        ({"rungs": (150, 50)}, "rungs must ascend"),
        ({"budget": 0.0}, "the budget above 0"),
        ({"factor": 1}, "factor is 2 or more"),
    ],
)
def test_bad_settings_are_refused(table, options, message):
    with pytest.raises(UserError, match=message):
        setting_of(table, **options)


def test_a_policy_is_a_sampler_with_its_options(table):
    assert Policy("nsga2:population_size=7").make(0).population_size == 7
    setting = replace(setting_of(table), budget=2.0)
    assert len(search(table, Policy("tpe:group=false,multivariate=false"), setting, 0).compute) == 2
    for name, message in [
        ("oracle", "unknown sampler 'oracle'"),
        ("tpe:depth=3", "unknown option of TPESampler 'depth'"),
        ("tpe:group=[", "an option is NAME=VALUE"),
        ("nsga2:population_size", "an option is NAME=VALUE"),
    ]:
        with pytest.raises(UserError, match=message):
            replay(table, [Policy(name)], setting, 1)


def test_curves_and_summary_of_several_policies(large, tmp_path):
    setting = replace(setting_of(large), budget=3.0)
    found = replay(large, [Policy("tpe", halving=True)], setting, 3)
    assert [str(policy) for policy in found.policies] == ["random", "tpe + halving"]
    curves = found.curves()
    assert (curves["low"] <= curves["mean"] + 1e-12).all()
    assert (curves["mean"] <= curves["high"] + 1e-12).all()
    for _, rows in curves.groupby("policy"):
        assert rows["mean"].is_monotonic_increasing
        assert rows["mean"].iloc[0] == 0
    summary = found.summary().set_index("policy")
    assert summary.loc["random", "end"] == pytest.approx(found.target)
    assert summary.loc["random", "ratio"] == summary.loc["random", "compute"] / 3.0 <= 1.0
    mean = np.mean([s.at(np.array([summary.loc["random", "compute"]]))[0] for s in found.of(Policy("random"))])
    assert mean == pytest.approx(found.target)
    assert math.isnan(summary.loc["tpe + halving", "compute"]) == (summary.loc["tpe + halving", "end"] < found.target)
    page = write_curves(curves, tmp_path / "replay.html", "A replay", found.target)
    text = page.read_text()
    assert "tpe + halving" in text
    assert "<script src=" not in text
    assert page.with_suffix(".curves.csv").read_text().startswith("policy,compute,mean,low,high")


def test_of_several_tables_the_worst_comes_first(table, large):
    policy = Policy("tpe", halving=True)
    setting = setting_of(table, budget=3.0)
    reached = replay(table, [policy], setting, 2)
    never = replace(reached, table="never", searches=tuple(s for s in reached.searches if s.policy != policy))
    poor = [replace(s, policy=policy, share=0 * s.share) for s in never.searches]
    never = replace(never, searches=(*never.searches, *poor))
    good = replace(never, table="good", searches=(*never.searches[:2], *(replace(s, share=s.share + 1) for s in poor)))
    frame = worst_first([good, never], policy)
    assert list(frame["table"]) == ["never", "good"]
    assert frame["ratio"].isna().tolist() == [True, False]
    assert frame["ratio_high"][0] == math.inf
    assert frame["ratio_low"][1] == frame["ratio_high"][1] == frame["ratio"][1]
    assert frame["random"].tolist() == 2 * [reached.target]


def test_ehvi_searches_a_table_and_again_in_the_same_way(table):
    setting = setting_of(table, budget=8.0, workers=2)
    policy = Policy("ehvi", halving=True, straight=HEDGED)
    found = search(table, policy, setting, 0)
    assert len(found.compute) >= 6
    again = search(table, policy, setting, 0)
    assert found.share.tolist() == again.share.tolist()


@pytest.mark.slow
def test_processes_change_nothing(table):
    setting, told = replace(setting_of(table), budget=5.0), []
    tell = lambda done, of: told.append((done, of))  # noqa: E731
    one, two = (replay(table, [Policy("tpe")], setting, 2, processes=n, on_progress=tell) for n in (1, 2))
    assert [s.seed for s in replay(table, [], setting, 2, first_seed=3).searches] == [3, 4]
    assert told == 2 * [(done, 4) for done in (1, 2, 3, 4)]  # random search is always there
    assert [s.share.tolist() for s in one.searches] == [s.share.tolist() for s in two.searches]


def test_a_studys_record_becomes_a_table(tmp_path):
    """Every network it trained, at every rung that it reached, comes back from the file."""
    space = space_from_text(SMALL, "small")
    (tmp_path / "small.yaml").write_text(SMALL)
    text = f"""
question: q
expected: e
space: {tmp_path}/small.yaml
data: {{name: scenes, size: [64, 128]}}
objectives: [miou, macs]
recipe: {{steps: 10}}
"""
    study = study_from(parse_yaml(text, tmp_path / "study.yaml"), "small")
    driver = make_driver(str(tmp_path / "s.log"), study, FakeEngine(), trials=9)
    driver.run()
    attributes = {
        "question": "q",
        "objectives": [],
        "limits": {},
        "published": [],
        "command": "",
        "created": "",
        "environment": {},
        "study_file": text,
        "space_file": SMALL,
    }
    driver.record.set_attributes(
        {**attributes, "objectives": [[f.name, f.unit, f.direction] for f in study.objectives]}
    )
    record = record_of(driver.record)
    frame = table_of(record)
    assert list(frame.columns) == [*space.parameters, *FIGURES]
    assert len(frame) == 9
    made = read_table(write_table(record, tmp_path / "out.csv"))
    values = {(network.trained[0, 10][0], network.macs) for network in made.networks}
    assert values == {tuple(trial.values.values()) for trial in record.trials}
    assert {network.arch_id for network in made.networks} == {t.measurement.arch_id for t in record.trials}
    assert write_table(record, tmp_path / "out.csv").exists()
    with pytest.raises(UserError, match=r"name it out\.csv"):
        write_table(record, tmp_path / "out.yaml")
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=r"study\.yaml would be overwritten by the space"):
        write_table(record, tmp_path / "study.csv")


def test_every_point_of_a_space_with_holes_and_conditions_is_found(large):
    assert len(large.networks) == 4 * 4 * 12 + 4 * 3 * 4 * 4
    found = search(large, Policy("random"), setting_of(large, budget=20), 0)
    assert len(found.compute) == 20
