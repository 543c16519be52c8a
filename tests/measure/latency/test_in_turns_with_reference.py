"""Latency in turns with the reference network: what drifts, what disturbs, and what is waited for."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.latency import attempts, in_turns
from nasseg.measure.latency.attempts import (
    Attempt,
    attempt,
    builder,
    error_of,
    latency_of,
    measure_latency,
    patience_seconds,
    pauses,
)
from nasseg.measure.latency.in_turns import compare_latency
from nasseg.measure.latency.reference import ReferenceArch
from nasseg.records import BY_ITSELF, IN_TURNS, LatencyProtocol

PROTOCOL = LatencyProtocol(
    device="cpu", input_size=(64, 64), num_classes=5, warmup=1, min_replicates=5, min_seconds=0.0, rule=IN_TURNS
)


def made_up(ratios, reference_ms, load=1.0, study_ms=2.0):
    """An attempt of a round for each ratio, with three replicates, and the reference's time in each round."""
    reference = np.repeat(reference_ms, 3) / 1e3
    return Attempt(np.repeat(ratios, 3) * reference, load, None, reference, study_ms)


def test_a_machine_that_drifts_changes_no_figure():
    quiet = made_up([3.0] * 4, [2.0] * 4).latency(PROTOCOL)
    drifting = made_up([3.0] * 4, [2.0, 2.2, 2.6, 2.9]).latency(PROTOCOL)
    for found in (quiet, drifting):
        assert (found.p50_ms, found.p90_ms, found.ratio, found.reference_ms) == pytest.approx((6.0, 6.0, 3.0, 2.0))
        assert not found.disturbed
    assert drifting.drift == pytest.approx(1.2)


def test_without_a_study_the_references_time_is_that_of_now():
    found = made_up([3.0] * 4, [2.0, 2.2, 2.6, 2.8], study_ms=None).latency(PROTOCOL)
    assert found.reference_ms == pytest.approx(2.4)
    assert found.p50_ms == pytest.approx(7.2)
    assert found.drift == 1.0


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (made_up([3.0] * 4, [2.0] * 4, load=3.14), "load 3.1"),
        (made_up([2.0, 2.0, 4.0, 4.0], [2.0] * 4), "its times differ by 67%"),
        (made_up([3.0] * 4, [4.2] * 4), "2.1 times slower than when the study began"),
    ],
)
def test_what_disturbs_is_seen_and_named(found, doubt):
    assert found.latency(PROTOCOL).disturbed
    assert found.doubt == doubt


@pytest.mark.parametrize(("backend", "built"), [("compile", 1), ("tensorrt", 1), ("onnxruntime", 2)])
def test_a_reference_that_takes_long_to_build_is_built_once(monkeypatch, backend, built):
    archs = []
    monkeypatch.setattr(attempts, "runner", lambda arch, _protocol: archs.append(arch) or len(archs))
    attempts._kept_reference.cache_clear()
    found = [builder(name, replace(PROTOCOL, backend=backend))() for name in "ab"]
    attempts._kept_reference.cache_clear()
    assert [network for network, _ in found] == [archs.index("a") + 1, archs.index("b") + 1]
    assert sum(isinstance(arch, ReferenceArch) for arch in archs) == built


def test_the_least_that_a_network_takes_is_what_nine_of_ten_take():
    ratios = [3.0, 0.5, *[2.5] * 2, *[3.5] * 16]  # one beside a slow run of the reference
    assert made_up(ratios, [2.0] * 20).latency(PROTOCOL).lower_ms == pytest.approx(5.0)
    assert Attempt(np.array([3e-3, 2e-3, 4e-3]), 1.0, None).latency(PROTOCOL).lower_ms == pytest.approx(2.0)


@pytest.mark.slow
def test_the_error_of_a_median_is_how_much_attempts_differ():
    """Replicates of one attempt agree too well: each attempt here is off by 3 %, its replicates by 1 % more."""
    rng, errors, found = np.random.default_rng(0), [], []
    for _ in range(300):
        tried = [made_up(rng.normal(rng.normal(3.0, 0.09), 0.03, 24), [2.0] * 24) for _ in range(5)]
        errors.append(error_of(tried))
        found.append(latency_of(tried, PROTOCOL).p50_ms / 6)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(found), rel=0.15)
    assert error_of([made_up([3.0] * 4, [2.0] * 4)]) == np.inf
    assert error_of([Attempt(np.array([3e-3, 2e-3, 4e-3]), 1.0, None)]) == 0.0


def test_the_error_is_that_of_the_attempts_that_count():
    quiet, busy = (
        [made_up([ratio] * 4, [2.0] * 4) for ratio in (3.0, 3.0, 3.3)],
        made_up([9.0] * 4, [2.0] * 4, load=3.0),
    )
    assert error_of([*quiet, busy]) == error_of(quiet) == pytest.approx(0.1 / 3.1)


def test_network_and_reference_take_turns(monkeypatch):
    order = []
    monkeypatch.setattr(attempts, "_burst", lambda run, *_: (order.append(run), (np.full(1, 2.0), np.full(1, 1.0)))[1])
    builds = iter(range(attempts.BUILDS))
    found = attempt(lambda: (f"network {(number := next(builds))}", f"reference {number}"), PROTOCOL, 2.0)
    rounds = attempts.ROUNDS // attempts.BUILDS
    assert order == [
        name
        for number in range(attempts.BUILDS)
        for name in (
            *(f"network {number}", f"reference {number}"),  # warm-up
            *[f"reference {number}", f"network {number}"] * rounds,
        )
    ]
    assert len(found.seconds) == len(found.reference_seconds) == attempts.ROUNDS
    assert found.load == 2.0
    assert set(found.seconds) == {1.0}  # CPU time, of one thread


def test_several_threads_are_timed_by_the_wall_clock(monkeypatch):
    monkeypatch.setattr(attempts, "_burst", lambda *_: (np.full(1, 2.0), np.full(1, 1.0)))
    found = attempt(lambda: ("network", "reference"), replace(PROTOCOL, threads=2), 2.0)
    assert set(found.seconds) == {2.0}
    assert found.load == 1.0


@pytest.mark.parametrize(("change", "rounds"), [({"min_replicates": 40}, 40), ({"min_seconds": 1.0}, 52)])
def test_rounds_go_on_until_there_are_enough_runs_and_seconds(monkeypatch, change, rounds):
    """Seconds are those of the clock that counts, here CPU time: on a busy machine rounds are no fewer."""
    monkeypatch.setattr(attempts, "_burst", lambda *_: (np.full(1, 9.0), np.full(1, 0.01)))
    assert len(attempt(lambda: ("network", "reference"), replace(PROTOCOL, **change), 2.0).seconds) == rounds


@pytest.mark.parametrize("change", [{"threads": 2}, {"rule": BY_ITSELF}, {"backend": "onnxruntime"}])
def test_what_is_slow_to_build_or_no_single_thread_is_built_once(monkeypatch, change):
    monkeypatch.setattr(attempts, "runner", lambda *_: object())
    build = builder("network", replace(PROTOCOL, **change))
    assert build() == build()
    anew = builder("network", PROTOCOL)
    assert anew() != anew()


def test_the_reference_is_the_same_network_for_good():
    torch.manual_seed(0)
    model = ReferenceArch().build(5).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 98_837
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 64, 96)


@pytest.mark.slow
def test_a_real_network_is_timed_so():
    found = measure_latency(make_arch("regseg", width=0.25), PROTOCOL, reference_ms=2.0)
    assert found.p50_ms == pytest.approx(found.ratio * 2.0)
    assert 0 < found.lower_ms <= found.p50_ms <= found.p90_ms <= found.p99_ms
    assert found.drift > 0
    assert found.n in [number * attempts.ROUNDS for number in range(1, attempts.MAX_ATTEMPTS + 1)]


@pytest.fixture
def busy(monkeypatch):
    """A machine that is quiet after `busy.attempts` attempts, and sleeps that take no time."""

    class Busy:
        attempts, waited, made, spread = 0, [], 0, 0.0

    state = Busy()

    def one(*_):
        state.made += 1
        ratios = [3.0 + state.spread * (-1) ** state.made] * 4
        return made_up(ratios, [2.0] * 4, load=3.14 if state.made <= state.attempts else 1.0)

    state.waited = []
    monkeypatch.setattr(attempts, "attempt", one)
    monkeypatch.setattr(attempts, "runner", lambda *_: "run")
    monkeypatch.setattr(attempts.time, "sleep", state.waited.append)
    return state


def test_disturbance_is_waited_out_and_each_pause_is_told(busy):
    busy.attempts, lines = 5, []
    found = measure_latency(None, PROTOCOL, patience=60.0, tell=lines.append)
    assert not found.disturbed
    assert busy.waited == [2.0, 4.0, 8.0]
    assert lines[1] == "the machine is busy (load 3.1): timing again in 4 s"
    assert len(lines) == 3


def test_patience_has_an_end_and_the_figure_is_marked(busy):
    busy.attempts = 1_000
    found = measure_latency(None, PROTOCOL, patience=60.0)
    assert found.disturbed
    assert found.n == 8 * 12  # replicates of all attempts
    assert found.p50_ms == pytest.approx(6.0)
    assert sum(busy.waited) == 60.0
    busy.waited.clear()
    assert measure_latency(None, PROTOCOL).disturbed
    assert not busy.waited


@pytest.mark.parametrize(("spread", "made"), [(0.0, attempts.ATTEMPTS), (0.5, attempts.MAX_ATTEMPTS)])
def test_a_median_that_is_hardly_known_is_timed_on_within_a_bound(busy, spread, made):
    busy.attempts, busy.spread = 1_000, spread
    found = measure_latency(None, PROTOCOL)
    assert found.disturbed
    assert (busy.made, found.n) == (made, 12 * made)
    busy.attempts, busy.made = 0, 0
    measure_latency(None, PROTOCOL)
    assert busy.made == 1  # a quiet machine is asked once


def test_networks_in_turns_take_more_rounds_where_they_differ(monkeypatch):
    """And on a quiet machine, too, if the rounds differ."""
    ratios, lines = {"a": [3.0], "b": [3.9, 4.1]}, []
    order, load = [], 2.0

    def attempt(run, *_):
        order.append(run)
        return made_up([ratios[run][order.count(run) % len(ratios[run])]] * 4, [2.0] * 4, load=load)

    monkeypatch.setattr(in_turns, "builder", lambda arch, _protocol: arch)
    monkeypatch.setattr(in_turns, "attempt", attempt)
    options = {"base": "a", "repeat": 2, "reference_ms": 2.0, "tell": lines.append}
    rows = compare_latency({"a": "a", "b": "b"}, PROTOCOL, **options)
    assert order == ["a", "b"] * 2 * in_turns.MOST_ROUNDS
    assert [(row.latency.p50_ms, row.latency.n, row.disturbed) for row in rows] == [(6.0, 96, 8), (8.0, 96, 8)]
    assert all(row.latency.disturbed for row in rows)
    assert lines == ["the rounds differ: more of them, up to 8, because medians are known to 2.5%"]
    load, order[:] = 1.0, []
    assert not compare_latency({"a": "a", "b": "b"}, PROTOCOL, **options)[1].latency.disturbed
    assert order == ["a", "b"] * 2 * in_turns.MOST_ROUNDS
    ratios["b"], order[:] = [4.0], []
    compare_latency({"a": "a", "b": "b"}, PROTOCOL, **options)
    assert order == ["a", "b"] * 2


def test_a_single_quiet_round_is_not_enough_to_know_the_error(monkeypatch):
    loads, lines = cycle([2.0, 1.0, 2.0]), []
    monkeypatch.setattr(in_turns, "builder", lambda *_: None)
    monkeypatch.setattr(in_turns, "attempt", lambda *_: made_up([3.0] * 4, [2.0] * 4, load=next(loads)))
    (row,) = compare_latency({"a": None}, PROTOCOL, base="a", repeat=3, reference_ms=2.0, tell=lines.append)
    assert lines == ["more rounds, up to 12, because only one counts so far"]
    assert len(row.rounds) == 5  # with the second undisturbed one


def test_without_a_study_all_networks_of_a_session_have_one_reference_time(monkeypatch):
    """The machine is a third slower whenever the second network is timed."""
    slower = {"a": [2.0] * 4, "b": [2.6] * 4}
    monkeypatch.setattr(in_turns, "builder", lambda arch, _protocol: arch)
    monkeypatch.setattr(in_turns, "attempt", lambda run, *_: made_up([3.0] * 4, slower[run], study_ms=None))
    rows = compare_latency({"a": "a", "b": "b"}, PROTOCOL, base="a", repeat=2)
    assert [row.latency.p50_ms for row in rows] == pytest.approx([3.0 * 2.3] * 2)
    assert [row.ratio for row in rows] == pytest.approx([1.0, 1.0])


def test_rounds_that_nothing_disturbed_are_pooled(monkeypatch):
    made = cycle([(3.0, 1.0), (9.0, 2.0), (3.2, 1.0)])
    monkeypatch.setattr(in_turns, "builder", lambda *_: None)
    monkeypatch.setattr(in_turns, "attempt", lambda *_: made_up([(one := next(made))[0]] * 4, [2.0] * 4, load=one[1]))
    (row,) = compare_latency({"a": None}, PROTOCOL, base="a", repeat=3, reference_ms=2.0)
    assert (row.latency.p50_ms, row.latency.n, row.latency.disturbed) == (pytest.approx(6.2), 96, False)
    assert [one.p50_ms for one in row.rounds] == pytest.approx([6.0, 18.0, 6.4] * in_turns.MOST_ROUNDS)


def test_how_long_to_wait_can_be_said(monkeypatch):
    monkeypatch.delenv("NASSEG_PATIENCE")
    assert patience_seconds() == 60.0
    monkeypatch.setenv("NASSEG_PATIENCE", "5")
    assert patience_seconds() == 5.0
    monkeypatch.setenv("NASSEG_PATIENCE", "long")
    with pytest.raises(UserError, match="NASSEG_PATIENCE is a number of seconds, got 'long'"):
        patience_seconds()


@pytest.mark.parametrize(("patience", "waits"), [(0.0, []), (5.0, [2.0, 3.0]), (60.0, [2.0, 4.0, 8.0, 16.0, 30.0])])
def test_pauses_grow_and_are_no_longer_than_the_patience(patience, waits):
    assert list(pauses(patience)) == [0.0] * attempts.ATTEMPTS + waits
