"""A search over networks and over settings of their recipe: one network, several trainings."""

import json
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest
import torch

from nasseg.analyse.finished import finished_frame
from nasseg.analyse.parameters import population_of
from nasseg.errors import UserError
from nasseg.network.evaluate import evaluate_address
from nasseg.network.train import train_address
from nasseg.report import write_report
from nasseg.study.engines import jobs
from nasseg.study.finish.finish import finish_study
from nasseg.study.finish.members import front_members
from nasseg.study.opened import open_study
from nasseg.study.replay.policies import BASELINE, setting_of
from nasseg.study.replay.replay import replay
from nasseg.study.replay.trained_table import read_table, write_table
from nasseg.study.search.dry_run import preview
from nasseg.study.search.run_study import run_study
from nasseg.study.store.read_study import read_study
from nasseg.study.store.trained import find_trained
from nasseg.study.study_file import load_study
from tests.command_line import nasseg
from tests.study.fakes import search_here

pytestmark = pytest.mark.slow

SPACE = """
about: two networks, and four trainings of each
parameters:
  family: regseg
  width: 0.25
  dilations: ["(1,1)", "(1,2)"]
  recipe.heads: {choices: {none: [], deep: [{kind: auxiliary, features: [stage4], width: 8}]}}
  recipe.learning_rate: [0.01, 0.1]
"""
STUDY = """
question: Which network, and trained how?
expected: seconds
space: both.yaml
data: {name: scenes, size: [32, 64], train: 4, val: 2}
objectives: [miou, macs]
recipe: {steps: 3, batch_size: 2}
latency: {warmup: 1, min_replicates: 1, min_seconds: 0}
keep: all
trials: 8
"""
HEADS = {"none": [], "deep": [{"kind": "auxiliary", "features": ["stage4"], "width": 8}]}


def write(folder, study=STUDY, space=SPACE):
    (folder / "both.yaml").write_text(space)
    (folder / "two.yaml").write_text(study)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder in which every point was trained, and the jobs that were done."""
    folder, threads, done = tmp_path_factory.mktemp("searched"), torch.get_num_threads(), Counter()
    torch.set_num_threads(1)
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        search_here(patch, folder)
        run = jobs.Workshop.run
        patch.setattr(jobs.Workshop, "run", lambda shop, job: (done.update([job.kind]), run(shop, job))[1])
        ended = run_study(load_study("two.yaml"))
    assert ended.reason == "all 8 trials are done"
    yield folder, done
    torch.set_num_threads(threads)


@pytest.fixture
def here(searched, monkeypatch):
    search_here(monkeypatch, searched[0])
    return searched[0]


def by_network(record):
    found = defaultdict(list)
    for trial in record.trials:
        found[trial.measurement.arch_id].append(trial)
    return found


def test_each_point_is_a_training_of_its_own_and_a_network_is_timed_once(here, searched):
    record = read_study("two")
    networks = by_network(record)
    assert [len(trials) for trials in networks.values()] == [4, 4]
    assert searched[1] == {"reference": 1, "cost": 8, "latency": 2, "train": 8}
    for trials in networks.values():
        assert all(trial.measurement.latency == trials[0].measurement.latency for trial in trials)
        assert len({trial.measurement.accuracy.protocol.recipe_hash for trial in trials}) == 4
        parts = [(trial.training["recipe.heads"], trial.training["recipe.learning_rate"]) for trial in trials]
        assert sorted(parts) == [(heads, rate) for heads in ("deep", "none") for rate in (0.01, 0.1)]
    assert len({trial.extra["eval_key"] for trial in record.trials}) == 8
    weights = [path.read_bytes() for path in Path("runs/two").glob("*/last.pt")]
    assert all(a != b for a, b in combinations(weights, 2))
    assert len(weights) == 8


def test_the_same_command_trains_nothing_again(here, monkeypatch):
    monkeypatch.setattr(jobs, "train_network", lambda *_, **__: pytest.fail("trained again"))
    assert run_study(load_study("two.yaml"), trials=9).reason == "every architecture in the space was tried"


def test_trials_keep_their_recipe_at_their_address(here):
    for trial in read_study("two").trials:
        found = find_trained(f"two#{trial.number}")
        assert found.recipe == {
            "heads": HEADS[trial.training["recipe.heads"]],
            "learning_rate": trial.training["recipe.learning_rate"],
        }
        assert found.weights()
    deep = next(trial for trial in read_study("two").trials if trial.training["recipe.heads"] == "deep")
    address, data = f"two#{deep.number}", {"size": [32, 64], "train": 4, "val": 2}
    assert evaluate_address(address, "scenes", data_options=data)[0].miou == pytest.approx(deep.values["miou"])
    told = []
    options = {"data": "scenes", "data_options": data, "recipe": {"steps": 1, "batch_size": 2}, "tell": told.append}
    (run,) = train_address(address, **options).runs
    assert run.recipe.heads[0].features == ("stage4",)
    assert run.recipe.learning_rate == deep.training["recipe.learning_rate"]
    assert told[0].startswith(f"as {address} was trained: heads [")
    (other,) = train_address(address, **options, recipe_settings={"learning_rate": 0.5}).runs
    assert other.recipe.learning_rate == 0.5
    assert other.recipe.heads == run.recipe.heads


def test_frames_reports_and_tables_show_both_parts(here, tmp_path):
    record = read_study("two")
    frame = open_study("two").trials()
    assert set(frame["recipe.heads"]) == {"none", "deep"}
    assert {"width", "dilations", "recipe.learning_rate"} <= {*frame}
    assert {"dilations", "recipe.heads", "recipe.learning_rate"} <= {*population_of(record).choices}
    page = write_report(record, tmp_path / "report.html").read_text()
    front = page.partition('id="front-table"')[2].partition("</table>")[0]
    assert "recipe.heads" in front
    rows = json.loads(nasseg("front", "two", "--json", cwd=here).stdout)
    assert json.loads(rows[0]["training"]).keys() == {"recipe.heads", "recipe.learning_rate"}
    table = read_table(write_table(record, tmp_path / "table.csv"))
    assert len(table.networks) == 8
    found = {
        str(trial.training): table.find(trial.arch, find_trained(f"two#{trial.number}").recipe)
        for trial in record.trials
        if trial.arch["dilations"] == "(1,1)"
    }
    assert len({id(network) for network in found.values()}) == len(found) == 4
    setting = setting_of(table, objectives=("miou", "macs"), budget=4.0)
    (search,) = replay(table, [BASELINE], setting, seeds=1).searches
    assert len(search.compute) == 4


def test_a_finish_trains_each_as_it_was(here):
    record = read_study("two")
    front = front_members(record)
    with pytest.raises(UserError, match="learning_rate is a parameter of the space of two"):
        finish_study("two", recipe_settings={"learning_rate": 0.2})
    asked = {"recipe": {"steps": 2, "batch_size": 2}, "seeds": 1, "purpose": "end"}
    finish_study("two", **asked)
    one = next(trial for trial in record.trials if trial.number not in {member.number for member in front})
    finish_study(f"two#{one.number}", **asked)
    ended = read_study("two@end")
    by_number = {trial.number: trial for trial in record.trials}
    assert len(ended.trials) == len(front) + 1
    for trial in ended.trials:
        assert trial.training == by_number[trial.extra["of_trial"]].training
        run = json.loads((Path("runs/two") / trial.extra["eval_key"] / "result.json").read_text())
        assert run["recipe"]["learning_rate"] == trial.training["recipe.learning_rate"]
        assert len(run["recipe"]["heads"]) == len(HEADS[trial.training["recipe.heads"]])
        assert find_trained(f"two@end#{trial.number}").recipe["learning_rate"] == run["recipe"]["learning_rate"]
    assert len(finished_frame(ended, record)) == len(front) + 1


def test_another_study_takes_only_what_was_trained_in_the_same_way(here, monkeypatch):
    (here / "fixed.yaml").write_text(STUDY.replace("both.yaml", "fixed-space.yaml").replace("trials: 8", "trials: 2"))
    (here / "fixed-space.yaml").write_text(SPACE.partition("  recipe.heads")[0])
    plain = STUDY.replace("trials: 8", "trials: 2")
    (here / "again.yaml").write_text(plain.replace("[miou, macs]", "[miou, params]"))
    (here / "rate.yaml").write_text(
        (here / "fixed.yaml").read_text().replace("size: 2}", "size: 2, learning_rate: 0.1}")
    )
    with pytest.raises(UserError, match="nothing to reuse"):  # at a rate of 0.05
        run_study(load_study("fixed.yaml"), reuse="two")
    monkeypatch.setattr(jobs, "train_network", lambda *_, **__: pytest.fail("trained again"))
    taken = run_study(load_study("rate.yaml"), reuse="two").record.trials
    sources = {trial.number: trial for trial in read_study("two").trials}
    for trial in taken:
        source = sources[int(trial.extra["accuracy_from"].partition("#")[2])]
        assert source.training == {"recipe.heads": "none", "recipe.learning_rate": 0.1}
    again = run_study(load_study("again.yaml"), reuse="two").record.trials
    assert all(
        sources[int(t.extra["accuracy_from"].partition("#")[2])].trained_network == t.trained_network for t in again
    )


def test_a_promotion_goes_on_with_its_training(tmp_path, monkeypatch):
    search_here(monkeypatch, tmp_path)
    write(tmp_path, STUDY + "halving: {rungs: [1], factor: 2}\nsampler: ehvi\n")
    ended = run_study(load_study("two.yaml"))
    trials = {trial.number: trial for trial in ended.record.trials}
    on = [trial for trial in trials.values() if "continues" in trial.extra]
    assert on
    for trial in on:
        before = trials[trial.extra["continues"]]
        assert (before.training, before.extra["eval_key"]) == (trial.training, trial.extra["eval_key"])
        assert trial.measurement.accuracy.protocol.recipe_hash == before.measurement.accuracy.protocol.recipe_hash
        assert trial.measurement.latency == before.measurement.latency
    assert preview(load_study("two.yaml"), trials=9).samples == ()  # every point is drawn


def test_a_dry_run_trains_by_the_settings_that_it_draws(tmp_path, monkeypatch):
    search_here(monkeypatch, tmp_path)
    write(tmp_path)
    seen = []
    train = "nasseg.study.search.dry_run.train"
    monkeypatch.setattr(train, lambda _model, _data, recipe, **_: seen.append(recipe.learning_rate))
    found = preview(load_study("two.yaml"))
    assert {sample.recipe["learning_rate"] for sample in found.samples} == {0.01, 0.1}
    assert {*seen} <= {0.01, 0.1}
    assert not Path("runs/two/study.db").exists()
