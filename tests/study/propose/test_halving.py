"""Successive halving with several objectives: who goes on, from where, and that nothing partial counts as finished."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState

from nasseg.errors import UserError
from nasseg.records import Measurement
from nasseg.study.context import make_context
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.propose.halving import promotion_order
from nasseg.study.search.dry_run import training_share
from tests.slow import slow
from tests.study.fakes import FakeEngine, make_driver, make_study
from tests.study.fakes import make_context as fake_context

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
BOTH = ["minimize", "minimize"]
TINY = "{name: scenes, size: [32, 64], train: 4, val: 2}"
RUNGS = "{rungs: [2, 5], factor: 3}"


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "s.log")


# Who goes on


def test_the_row_that_dominates_is_first_though_it_came_last():
    values = np.array([[1, 1], [2, 2], [3, 3], [0, 0]], dtype=float)
    assert promotion_order(values, BOTH, 4) == [3, 0, 1, 2]


def test_fronts_come_one_after_another_and_directions_count():
    values = np.array([[0, 9], [1, 8], [5, 9], [6, 8.5], [7, 9]], dtype=float)
    assert set(promotion_order(values, BOTH, 2)) == {0, 1}
    assert promotion_order(values, ["maximize", "minimize"], 1) == [4]
    assert set(promotion_order(values, ["maximize", "minimize"], 3)) == {4, 3, 1}


def test_inside_a_front_the_farthest_comes_first_after_scaling():
    """Milliseconds in the hundreds do not swamp percents: unscaled, the third row would come before the fourth."""
    values = np.array([[90.0, 400.0], [89.9, 300.0], [89.8, 150.0], [50.0, 100.0]])
    order = promotion_order(values, ["maximize", "minimize"], 4)
    assert order[:2] == [0, 3]
    assert order == [0, 3, 2, 1]


def test_nan_never_goes_on_and_equal_rows_are_kept():
    values = np.array([[np.nan, 0], [1, 1], [1, 1], [np.inf, 0], [2, 2]])
    assert sorted(promotion_order(values, BOTH, 2)) == [1, 2]
    assert sorted(promotion_order(values, BOTH, 5)) == [1, 2, 4]
    assert promotion_order(np.array([[np.nan, 1.0]]), BOTH, 1) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_row_comes_before_one_that_dominates_it(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (30, 3)).astype(float)
    order = promotion_order(values, ["minimize"] * 3, 30)
    assert sorted(order) == list(range(30))
    for place, row in enumerate(order):
        for later in order[place + 1 :]:
            assert not ((values[later] <= values[row]).all() and (values[later] < values[row]).any())


# In a search


def chains(driver):
    """root number -> the steps trained, in order."""
    trials = {trial.number: trial for trial in driver.record.trials()}
    found = {}
    for trial in trials.values():
        measurement = Measurement.from_json(trial.user_attrs["measurement"])
        if measurement.accuracy is None or "reused_from" in trial.user_attrs:
            continue
        root = trial
        while "continues" in root.user_attrs:
            root = trials[root.user_attrs["continues"]]
        found.setdefault(root.number, []).append(measurement.accuracy.protocol.steps)
    return found


def test_a_third_of_each_rung_goes_on_and_only_the_top_is_finished(url):
    engine = FakeEngine(workers=3)
    driver = make_driver(url, make_study(halving=RUNGS), engine, trials=27)
    assert driver.run() == "all 27 trials are done"
    found = chains(driver)
    assert len(found) == 27
    assert all(steps in ([2], [2, 5], [2, 5, 10]) for steps in found.values())
    counts = {rung: sum(len(steps) > rung for steps in found.values()) for rung in range(3)}
    assert counts[0] == 27
    assert 9 <= counts[1] <= 16  # what is promoted early may fall behind later
    assert 3 <= counts[2] <= 8
    trials = driver.record.trials()
    for trial in trials:
        steps = Measurement.from_json(trial.user_attrs["measurement"]).accuracy.protocol.steps
        assert trial.state == (COMPLETE if steps == 10 else PRUNED)
        assert trial.user_attrs["rung"] == {2: 0, 5: 1, 10: 2}[steps]
        assert ("continues" in trial.user_attrs) == (steps > 2)
        if steps < 10:
            assert trial.user_attrs["reason"] == f"stopped at step {steps} of 10"
    assert sum(trial.state == COMPLETE for trial in trials) == counts[2]
    assert not [job for job in engine.done if job.kind == "train" and job.measurement.accuracy]


def test_a_promoted_network_is_not_timed_again(url):
    engine = FakeEngine()
    driver = make_driver(url, make_study(halving=RUNGS), engine, trials=9)
    driver.run()
    assert sum(job.kind == "latency" for job in engine.done) == 9
    promoted = [t for t in driver.record.trials() if "continues" in t.user_attrs]
    assert promoted
    origin = driver.record.trials()[promoted[0].user_attrs["continues"]]
    old, new = (Measurement.from_json(t.user_attrs["measurement"]) for t in (origin, promoted[0]))
    assert new.latency == old.latency
    assert promoted[0].user_attrs["eval_key"] == origin.user_attrs["eval_key"]


def test_the_highest_rung_comes_first_and_a_dominating_newcomer_at_once(url):
    """Of two, the second dominates the first: it is promoted though a third of two is none."""
    engine = FakeEngine(workers=1, miou=lambda job, macs: 10.0)
    order, given = iter([50, 20, 60, 61]), {}

    def macs(settings):
        name = json.dumps(settings)
        if name not in given:
            given[name] = 1_000 * next(order)
        return given[name]

    engine.macs = macs
    driver = make_driver(url, make_study(halving=RUNGS), engine, trials=4)
    driver.run()
    trained = [(job.measurement.cost.macs // 1000, job.until) for job in engine.trained()]
    assert trained[:3] == [(50, 2), (20, 2), (20, 5)]


def test_nan_at_a_rung_fails_and_is_never_promoted(url):
    engine = FakeEngine(miou=lambda job, macs: float("nan") if macs % 2 else 100 * macs / (macs + 1e7))
    driver = make_driver(url, make_study(halving=RUNGS), engine, trials=12)
    driver.run()
    failed = [t for t in driver.record.trials() if t.state == FAIL]
    assert failed
    assert all(t.user_attrs["reason"] == "objective miou is not a number" for t in failed)
    numbers = {t.number for t in failed}
    assert not [t for t in driver.record.trials() if t.user_attrs.get("continues") in numbers]


def test_a_promotion_that_was_interrupted_goes_on_at_its_rung(url):
    engine = FakeEngine(workers=1)
    study = make_study(halving=RUNGS)

    def stop_at_a_promotion(job):
        if job.kind == "train" and job.until == 5:
            raise KeyboardInterrupt

    engine.spoil = stop_at_a_promotion
    first = make_driver(url, study, engine, trials=9)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    first.engine.jobs.clear()
    assert first.stop("stopped") == 1
    again = FakeEngine(workers=1)
    second = make_driver(url, study, again, trials=9)
    second.run()
    assert again.trained()[0].until == 5
    assert again.trained()[0].measurement.accuracy is None
    found = chains(second)
    assert len(found) == 9
    assert all(steps in ([2], [2, 5], [2, 5, 10]) for steps in found.values())
    assert RUNNING not in {trial.state for trial in second.record.trials()}


@pytest.mark.slow
def test_two_drivers_promote_a_network_once(url):
    study = make_study(halving=RUNGS)
    drivers = [make_driver(url, study, FakeEngine(workers=1), trials=27, seed=seed) for seed in (0, 1)]
    pick, rounds = random.Random(3), 0
    while rounds < 600:
        rounds += 1
        driver = pick.choice(drivers)
        driver.ended_trials.sync()
        driver.fill()
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
    continued = [
        t.user_attrs["continues"]
        for t in drivers[0].record.trials()
        if "continues" in t.user_attrs and not str(t.user_attrs.get("reason")).startswith("interrupted")
    ]
    assert continued
    assert len(continued) == len(set(continued))


def test_the_same_network_is_answered_from_its_rung(url):
    """All settings of a family build one network: two are trained, the others take their figures, whatever the rung."""
    engine = FakeEngine(arch_id=lambda settings: settings["family"], macs=lambda s: len(s["family"]))
    driver = make_driver(url, make_study(halving=RUNGS), engine, trials=2)
    driver.run()
    first = [job for job in engine.trained() if job.until == 2]
    assert len(first) == 2
    for trial in driver.record.trials():
        if "reused_from" in trial.user_attrs:
            origin = driver.record.trials()[trial.user_attrs["reused_from"]]
            assert (trial.state, trial.user_attrs["rung"]) == (origin.state, origin.user_attrs["rung"])


def test_published_networks_run_to_the_end(url):
    engine = FakeEngine()
    driver = make_driver(url, make_study(halving=RUNGS, published="[dabnet]"), engine, trials=3)
    driver.run()
    assert [job.until for job in engine.trained() if job.settings["family"] == "dabnet"] == [None]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{rungs: [5, 2]}", "rungs must ascend"),
        ("{rungs: [2, 10]}", "must be before the recipe's last step, 10"),
        ("{rungs: [2], factor: 0}", "greater than or equal to 1"),
    ],
)
def test_bad_rungs_are_refused(url, setting, message):
    with pytest.raises(UserError, match=message):
        make_driver(url, make_study(halving=setting))


def test_halving_needs_a_trained_objective():
    with pytest.raises(UserError, match="needs an objective that training decides"):
        make_study(halving=RUNGS, objectives="[macs]")


@pytest.mark.parametrize("sampler", [slow("random"), "nsga2"])  # one that notes something on its trials
def test_the_sampler_puts_finished_before_partial_before_rejected(url, sampler):
    half = 1_000 + 0x800000
    study = make_study(space="regseg", halving=RUNGS, max_macs=str(float(half)))
    driver = make_driver(url, study, FakeEngine(), trials=18, sampler=sampler)
    driver.run()
    driver.proposer.propose()
    view = driver.proposer._view.get_trials(deepcopy=False)
    worst = {"finished": 0.0, "partial": 0.0, "rejected": 1.0}
    for trial in view:
        breach = sum(max(0.0, value) for value in trial.constraints.values())
        if trial.state == PRUNED:
            worst["rejected"] = min(worst["rejected"], breach)
        elif trial.state == COMPLETE and breach:
            worst["partial"] = max(worst["partial"], breach)
    finished = [t for t in view if t.state == COMPLETE and max(t.constraints.values()) <= 0]
    assert len(finished) == sum(t.state == COMPLETE for t in driver.record.trials())
    assert 0 < worst["partial"] < worst["rejected"]
    roots = [steps[-1] for steps in chains(driver).values()]
    assert sum(t.state == COMPLETE for t in view) == len(roots)  # each network once, at its highest rung


def test_a_dry_run_counts_on_what_halving_saves():
    study = make_study(halving=RUNGS)
    assert training_share(study, fake_context(study)) == pytest.approx((2 + 3 / 3 + 5 / 9) / 10)
    assert training_share(make_study(), fake_context(make_study())) == 1
    hedged = make_study(halving="{rungs: [2, 5], factor: 3, straight: 0.5}", trials="38")
    ranked = (2 + 3 / 3 + 5 / 9) / 10
    later = 2 * ranked / (1 + ranked)  # as much compute for few that go straight as for many that do not
    assert training_share(hedged, fake_context(hedged)) == pytest.approx((8 + 30 * later) / 38)


# The steps that are run


@pytest.mark.slow
def test_a_promoted_network_goes_on_from_its_weights(tmp_path):
    """3 steps, then those up to 8: eight in all, and the same figures as 8 steps at once."""
    study = make_study(recipe="{steps: 8, batch_size: 2, ema_decay: 0.9}", halving="{rungs: [3]}", data=TINY)
    steps = []
    workshop = Workshop(make_context_at(study, tmp_path / "a"), lambda _c, step, _l: steps.append(step))
    settings = {"family": "dabnet", "width": 0.125}
    known = workshop.run(Job(0, "cost", settings)).measurement
    part = workshop.run(Job(0, "train", settings, known, "k", 0, 3))
    assert part.fault is None
    assert part.measurement.accuracy.protocol.steps == 3
    assert steps == [1, 2, 3]
    whole = workshop.run(Job(0, "train", settings, known, "k", 0))
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not (tmp_path / "a/k/checkpoint.pt").exists()
    other = Workshop(make_context_at(study, tmp_path / "b"))
    once = other.run(Job(0, "train", settings, known, "k", 0))
    assert once.measurement.accuracy.miou == whole.measurement.accuracy.miou
    assert once.extra["weights_sha256"] == whole.extra["weights_sha256"]
    again = workshop.run(Job(0, "train", settings, known, "k", 0, 3))
    assert again.measurement.accuracy.miou == part.measurement.accuracy.miou


def make_context_at(study, folder):
    return replace(make_context(study, study.file.data), weights=folder)
