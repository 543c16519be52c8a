"""Latencies that were taken later: what readers of a search get, the session at its end, and what is marked."""

from dataclasses import replace

import pytest

from nasseg import cli
from nasseg.analyse.remeasured import SEARCHED_MS, sessions
from nasseg.analyse.trials import Doubts
from nasseg.study.finish import remeasure as module
from nasseg.study.finish.remeasure import remeasure, time_front_again
from nasseg.study.store.read_study import latest_of, open_record, read_study, record_of
from tests.study.finish import test_remeasure

made, storage, fake = test_remeasure.made, test_remeasure.storage, test_remeasure.fake


# What readers of the search see of it


def nothing_is_said(line):
    raise AssertionError(line)


def test_readers_get_the_later_latency_and_the_searchs_own_beside_it(fake, storage):
    searched, use = fake
    use(factors=(1.5,))
    remeasure("fake", rounds=1, storage=storage)
    for later in (read_study("fake", storage), latest_of(open_record("fake", storage))):
        again = [t for t in later.trials if SEARCHED_MS in t.extra]
        assert len(again) == 5
        for trial in again:
            old = searched.trials[trial.number]
            assert trial.extra[SEARCHED_MS] == old.values["latency_ms"]
            assert trial.values["latency_ms"] == trial.measurement.latency.p50_ms == 1.5 * old.values["latency_ms"]
            assert trial.values["miou"] == old.values["miou"]
        (point,) = later.published
        assert point.figures["latency_ms"] == pytest.approx(1.5 * 60)
    assert record_of(open_record("fake", storage)) == searched


def test_a_doubtful_later_latency_replaces_none_that_is_not(fake, storage):
    searched, use = fake
    use(factors=(1.5,), disturbed=(0,))
    remeasure("fake", rounds=1, storage=storage)
    assert read_study("fake", storage) == searched
    use(factors=(2.0,))
    remeasure("fake", rounds=1, storage=storage)
    use(factors=(3.0,), disturbed=(0,))
    remeasure("fake", rounds=1, storage=storage)
    later = read_study("fake", storage)
    assert {t.values["latency_ms"] / t.extra[SEARCHED_MS] for t in later.trials if SEARCHED_MS in t.extra} == {2.0}


def test_the_end_of_a_search_times_its_front_once(fake, storage):
    _, use = fake
    lines, looked, record = [], [], open_record("fake", storage)
    use()
    time_front_again(record, lambda: looked.append(1), lines.append)
    assert lines[0] == "timing the front again, 5 networks in turns"
    assert "new to old 1.000" in lines[1]
    assert len(looked) == 5 * module.END_ROUNDS
    time_front_again(record, lambda: looked.append(1), nothing_is_said)
    assert sessions(read_study("fake@remeasure", storage)) == [1]


def test_a_busy_session_is_repeated_by_the_next_call(fake, storage):
    _, use = fake
    record = open_record("fake", storage)
    use(disturbed=range(99))
    time_front_again(record, lambda: None, [].append)
    use()
    for _ in range(2):
        time_front_again(record, lambda: None, [].append)
    assert sessions(read_study("fake@remeasure", storage)) == [1, 2]


def test_a_search_that_is_stopped_at_its_end_keeps_no_session(fake, storage):
    _, use = fake
    use()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_front_again(open_record("fake", storage), stop, [].append)
    assert sessions(read_study("fake", storage)) == []


def test_what_may_be_on_the_front_is_timed_too(fake, storage):
    searched, _ = fake
    trials = [t for t in searched.trials if t.measurement and t.measurement.latency and "published" not in t.extra]
    slow = max(trials, key=lambda t: t.values["latency_ms"])
    worse = replace(slow, number=len(searched.trials), values={"miou": slow.values["miou"], "latency_ms": 49.0})

    def with_latency(lower_ms):
        latency = replace(slow.measurement.latency, p50_ms=49.0, disturbed=True, lower_ms=lower_ms)
        doubtful = replace(worse, measurement=replace(slow.measurement, arch_id="doubtful", latency=latency))
        return replace(searched, trials=(*searched.trials, doubtful))

    def timed(record):
        return "doubtful" in {member.measurement.arch_id for member in module.session_members(record)}

    assert timed(with_latency(1.0))
    assert timed(with_latency(None))
    assert not timed(with_latency(48.0))


# What the command line marks


@pytest.fixture
def doubtful(storage):
    """The study with every latency but the first network's disturbed."""
    record = read_study("fake", storage)
    first = min(t.number for t in record.trials if t.measurement and "published" not in t.extra)

    def of(trial):
        latency = replace(trial.measurement.latency, disturbed=trial.number != first, lower_ms=1.0)
        return replace(trial, measurement=replace(trial.measurement, latency=latency))

    return replace(record, trials=tuple(of(t) for t in record.trials if t.measurement)), first


def test_the_command_line_marks_doubtful_latencies(doubtful, monkeypatch, capsys):
    record, first = doubtful
    monkeypatch.setattr("nasseg.study.store.read_study.read_study", lambda *_: record)
    cli.show_front.front("fake")
    said = capsys.readouterr().out
    for trial in (t for t in record.trials if "published" not in t.extra):
        marked = f"~{trial.values['latency_ms']:.4g}" in said
        assert marked == (trial.number != first)
    assert "~ timed beside other work: doubtful" in said
    cli.search.status("fake")
    said = capsys.readouterr().out
    assert "most latencies were timed beside other work, 4 of 5, and are doubtful" in said
    assert "nasseg search fake --remeasure" in said


def test_doubts_are_said_to_be_most_of_enough():
    assert [Doubts(*pair).most for pair in ((3, 3), (4, 2), (4, 3), (100, 51))] == [False, False, True, True]
    assert Doubts(10, 0).line("s") == ""
    assert "may all be too high" in Doubts(10, 0, True).line("s")
    assert "may all be too high" in Doubts(10, 1, True).line("s")
    assert Doubts(10, 1).line("s").startswith("some latencies were timed beside other work, 1 of 10")
