"""Candidates that are passed over because their latency is predicted: which, why, and what is learned from."""

import importlib.util
import json
import sys
from collections import namedtuple
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from nasseg.analyse.trials import rejections
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.environment import environment
from nasseg.measure.latency.predictor import MIN_FITTED, fit_work
from nasseg.records import Latency, Measurement, StudyRecord, TrialRow
from nasseg.study.driver.at_work import AtWork, Item
from nasseg.study.engines.jobs import Job
from nasseg.study.limits import Rules
from nasseg.study.propose import latency_screen as module
from nasseg.study.propose.latency_screen import GROWTH, MAX_LEARNED, Screen, passed_over
from nasseg.study.store.candidate import Candidate as Costed
from nasseg.study.store.candidate import Proposal
from tests.study.fakes import LATENCY, FakeEngine, make_study

LIMITS = {"latency_ms": {"max": 5.0}, "macs": {"max": 1.0}}
NOISE = 0.05
Candidate = namedtuple("Candidate", "settings")


def work(settings):
    return {"calls": settings["depth"], "dense gmacs": settings["depth"] * settings["width"] ** 2}


def law(settings):
    """Milliseconds, from 0.2 to 20."""
    return 0.1 * settings["depth"] + 0.2 * settings["depth"] * settings["width"] ** 2


@pytest.fixture
def made_up(monkeypatch):
    """Networks whose features are known without building them; how often they were asked for."""
    asked = []

    def features(settings, num_classes, input_size):
        asked.append(settings)
        return work(json.loads(settings))

    monkeypatch.setattr(module, "_features", features)
    return asked


def draw(count, seed):
    rng = np.random.default_rng(seed)
    drawn = [
        {"family": "made-up", "depth": int(rng.integers(1, 20)), "width": float(rng.uniform(0.5, 2.0))}
        for _ in range(count)
    ]
    return drawn, rng.normal(1, NOISE, count)


def trial_of(number, settings, ms, **changes):
    here = replace(environment(), **changes.pop("environment", {}))
    latency = Latency(protocol=LATENCY, environment=here, p50_ms=ms, p90_ms=1.1 * ms, p99_ms=1.5 * ms, iqr_ms=0, n=9)
    measurement = Measurement(arch_id=f"n{number}", latency=replace(latency, **changes))
    attributes = {"arch": json.dumps(settings), "measurement": measurement.to_json()}
    return create_trial(state=TrialState.PRUNED, user_attrs=attributes)


def taught(count=60, limits=LIMITS, after=30, seed=0, noise=True, **changes):
    screen = Screen(limits, LATENCY, after)
    for number, (settings, factor) in enumerate(zip(*draw(count, seed), strict=True)):
        screen.learn(trial_of(number, settings, law(settings) * (factor if noise else 1.0), **changes))
    return screen


def test_the_hopeless_is_passed_over_and_what_may_do_is_not(made_up):
    screen = taught()
    drawn, factors = draw(2_000, seed=1)
    verdicts = [screen.judge(Candidate(settings)) is not None for settings in drawn]
    true = np.array([law(settings) * factor for settings, factor in zip(drawn, factors, strict=True)])
    assert np.mean([v for v, ms in zip(verdicts, true, strict=True) if ms <= 5.0]) < 0.01
    assert np.mean([v for v, ms in zip(verdicts, true, strict=True) if ms > 6.5]) > 0.98


def test_the_reason_counts_by_limit_and_says_how_sure_it_is(made_up):
    screen = taught()
    far, farther = ({"family": "made-up", "depth": depth, "width": 2.0} for depth in (10, 15))
    found = [screen.judge(Candidate(settings)) for settings in (far, farther)]
    first, second = found[0].reason.splitlines()
    assert first == "latency_ms is predicted to be over the limit of 5"
    predictor = screen.predictors["latency_ms"]
    assert second == (
        f"{predictor.predict_work(work(far)).ms:.3g} is predicted, at least "
        f"{predictor.predict_work(work(far)).low_ms:.3g}; "
        f"the model is {predictor.mape:.1%} off on average, on 60 networks left out of its fit"
    )
    assert 0.02 < predictor.mape < 0.07
    assert 0 < found[0].constraints["latency_ms max"] < found[1].constraints["latency_ms max"]
    assert law(far) / 5 - 1 > found[0].constraints["latency_ms max"]  # at the least
    rows = tuple(TrialRow(number=n, state="PRUNED", reason=one.reason) for n, one in enumerate(found))
    assert rejections(StudyRecord(name="", question="", objectives=(), trials=rows)) == {first: 2}


def test_what_the_model_cannot_know_it_does_not_pass_over(made_up):
    """Latencies without rhyme or reason: the error on networks left out is as large as their range."""
    screen, rng = Screen(LIMITS, LATENCY, 30), np.random.default_rng(0)
    for number, settings in enumerate(draw(60, 0)[0]):
        screen.learn(trial_of(number, settings, float(np.exp(rng.normal(0, 2)))))
    assert not any(screen.judge(Candidate(settings)) for settings in draw(200, 1)[0])
    assert screen.predictors["latency_ms"].mape > 0.5


def test_few_networks_make_no_model_and_more_make_another_now_and_then(made_up, monkeypatch):
    fits = []
    monkeypatch.setattr(
        "nasseg.measure.latency.predictor.fit_work", lambda *a, **k: (fits.append(len(a[0])), fit_work(*a, **k))[1]
    )
    screen, slow = Screen(LIMITS, LATENCY, 40), Candidate({"family": "made-up", "depth": 19, "width": 2.0})
    for number, settings in enumerate(draw(100, 0)[0]):
        screen.learn(trial_of(number, settings, law(settings)))
        assert (screen.judge(slow) is None) == (number < 39)
    assert fits == [40, 48, 58, 70, 84]
    assert all(after >= GROWTH * before for before, after in pairwise(fits))


def test_a_long_search_is_learned_from_its_latest(made_up):
    screen = taught(count=MAX_LEARNED + 30)
    screen.judge(Candidate({"family": "made-up", "depth": 1, "width": 1.0}))
    assert screen.predictors["latency_ms"].n == MAX_LEARNED
    assert len(made_up) == MAX_LEARNED + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"disturbed": True},
        {"environment": {"cpu": "another"}},
        {"environment": {"gpu": "another"}},
        {"environment": {"torch": "9.9"}},
        {"protocol": replace(LATENCY, precision="bf16")},
    ],
    ids=lambda changes: str(next(iter(changes.values())))[:20],
)
def test_what_was_measured_otherwise_is_not_learned_from(made_up, changes):
    screen = taught(**changes)
    assert screen.judge(Candidate({"family": "made-up", "depth": 19, "width": 2.0})) is None
    assert screen.predictors == {}


def test_a_target_is_one_device_wherever_its_command_was_run(made_up):
    protocol = replace(LATENCY, backend="command", command="./bench.sh {onnx}")
    screen = Screen(LIMITS, protocol, 30)
    for number, settings in enumerate(draw(30, 0)[0]):
        there = {"environment": {"cpu": "another"}, "protocol": protocol}
        screen.learn(trial_of(number, settings, law(settings), **there))
    assert screen.judge(Candidate({"family": "made-up", "depth": 19, "width": 2.0}))


def test_each_limit_has_a_model_of_its_own_figure(made_up):
    screen = taught(limits={"latency_p99_ms": {"max": 5.0}}, noise=False)
    settings = {"family": "made-up", "depth": 8, "width": 1.5}
    assert law(settings) < 5 < 1.5 * law(settings)
    assert screen.judge(Candidate(settings)).reason.startswith(
        "latency_p99_ms is predicted to be over the limit of 5\n"
    )
    assert taught(noise=False).judge(Candidate(settings)) is None


def test_candidates_are_taken_by_how_far_inside_they_are(made_up):
    some = [Candidate(settings) for settings in draw(20, 2)[0]]
    assert Screen(LIMITS, LATENCY, 30).order(some) == some
    ordered = taught(noise=False).order(some)
    assert [law(one.settings) for one in ordered] == sorted(law(one.settings) for one in some)


def test_a_limit_on_cost_comes_first_and_published_networks_are_exempt(made_up):
    screen, rules = taught(), Rules(make_study(max_macs="1.0e+6", limits="{macs: {max: 1.0e+6}, latency_ms: {max: 5}}"))

    def of(macs, width, label=""):
        settings = {"family": "made-up", "depth": 15, "width": width}
        measurement = FakeEngine(macs=lambda _settings: macs).measure(Job(0, "cost", settings))
        return passed_over(Costed(Proposal({}, {}, {}), settings, measurement, 0, label), rules, screen)

    assert of(2e6, 2.0).reason == "macs is over the limit of 1e+06"
    assert of(2e6, 2.0).constraints == {"macs max": 1.0}
    predicted = of(5e5, 2.0)
    assert predicted.reason.startswith("latency_ms is predicted to be over the limit of 5\n")
    assert predicted.constraints["macs max"] == -0.5
    assert predicted.constraints["latency_ms max"] > 0
    assert of(5e5, 0.5) is None
    assert of(2e6, 2.0, label="regseg") is None


def test_what_is_to_be_timed_is_taken_by_prediction_and_the_rest_in_turn(made_up):
    def order(screen):
        at_work = AtWork(make_study().space, (), screen, None)
        for kind, depth in (("latency", 9), ("train", 1), ("latency", 3), ("latency", 12)):
            settings = {"family": "made-up", "depth": depth, "width": 1.0}
            at_work.queue(Item(Costed(Proposal({}, {}, {}), settings, None, 0)), kind)
        found = [at_work.take().candidate for _ in range(4)]
        assert at_work.take() is None
        return found

    assert order(taught(noise=False)) == [3, 1, 2, 4]
    assert order(None) == [1, 2, 3, 4]
    assert order(Screen(LIMITS, LATENCY, 30)) == [1, 2, 3, 4]


@pytest.mark.parametrize("limits", [{}, {"macs": {"max": 1.0}}, {"latency_ms": {"min": 1.0}}])
def test_without_a_limit_on_latency_nothing_is_done(made_up, limits):
    screen, some = taught(limits=limits), [Candidate(settings) for settings in draw(5, 2)[0]]
    assert screen.order(some) == some
    assert [screen.judge(one) for one in some] == [None] * 5
    assert made_up == []


def test_trials_without_a_latency_are_heard_in_silence(made_up):
    screen = Screen(LIMITS, LATENCY, 30)
    screen.learn(create_trial(state=TrialState.FAIL, user_attrs={"arch": "{}"}))
    costed = Measurement(arch_id="a").to_json()
    screen.learn(create_trial(state=TrialState.PRUNED, user_attrs={"arch": "{}", "measurement": costed}))
    twice = trial_of(0, {"family": "made-up", "depth": 1, "width": 1.0}, 1.0)
    screen.learn(twice)
    screen.learn(twice)
    assert len(screen._learned) == 1


def test_too_early_a_start_is_refused(made_up):
    screen = taught(count=MIN_FITTED - 1, after=10)
    with pytest.raises(UserError, match=f"needs {MIN_FITTED} measured networks"):
        screen.judge(Candidate({"family": "made-up", "depth": 1, "width": 1.0}))


def test_features_are_those_of_the_network():
    arch = make_arch("regseg", width=0.25)
    found = module._features(json.dumps({"family": "regseg", **arch.params()}), 3, (64, 128))
    assert found["dense gmacs"] > 0
    twice = module._features(json.dumps({"family": "regseg", **make_arch("regseg", width=0.5).params()}), 3, (64, 128))
    assert twice["dense gmacs"] > 2 * found["dense gmacs"]


def test_nothing_is_imported_for_fitting_until_there_is_something_to_fit(monkeypatch):
    monkeypatch.setitem(sys.modules, "nasseg.measure.latency.predictor", None)  # an import of it would fail
    spec = importlib.util.spec_from_file_location("fresh_screen", module.__file__)
    fresh = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fresh_screen", fresh)
    spec.loader.exec_module(fresh)
    screen, slow = fresh.Screen(LIMITS, LATENCY, 30), Candidate({"family": "made-up", "depth": 19, "width": 2.0})
    for number, settings in enumerate(draw(29, 0)[0]):
        screen.learn(trial_of(number, settings, law(settings)))
    assert screen.judge(slow) is None
    screen.learn(trial_of(29, slow.settings, law(slow.settings)))
    with pytest.raises(ImportError):
        screen.judge(slow)
