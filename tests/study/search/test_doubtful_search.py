"""A search on a busy machine says so at once, at its end, and times its front again by itself."""

from dataclasses import replace

import pytest

from nasseg.study.engines import local_engine
from nasseg.study.search import run_study as search
from nasseg.study.search.run_study import run_study
from tests.study.fakes import FakeEngine, make_study

DATA = "{name: scenes, size: [32, 64], train: 4, val: 2}"


class BusyEngine(FakeEngine):
    """Whatever is timed is disturbed."""

    def measure(self, job):
        found = super().measure(job)
        fresh = job.kind in ("latency", "reference")
        return replace(found, latency=replace(found.latency, disturbed=True, lower_ms=0.1)) if fresh else found


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """A function that searches, and returns how it ended and the lines that were told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "keep_published", lambda _study, record, *_: record.set_attributes({"published": []}))

    def run(engine, **options):
        monkeypatch.setattr(local_engine, "LocalEngine", lambda *_: engine)
        lines, seen = [], []
        ended = run_study(make_study(data=DATA), trials=6, tell=lines.append, on_progress=seen.append, **options)
        return ended, lines, seen

    return run


@pytest.mark.slow
def test_it_is_said_once_that_most_latencies_are_doubtful(searched):
    _, lines, seen = searched(BusyEngine(), time_again=False)
    assert sum(line.startswith("most latencies were timed beside other work, ") for line in lines) == 1
    assert any(line.startswith("the reference network takes ") for line in lines)
    assert "6 timed beside other work" in seen[-1].line()


def test_a_quiet_search_says_nothing_of_it(searched):
    _, lines, seen = searched(FakeEngine(), time_again=False)
    assert not lines
    assert "beside other work" not in seen[-1].line()


@pytest.mark.slow
def test_the_front_is_timed_again_at_the_end_unless_told_otherwise(searched, monkeypatch):
    called = []
    monkeypatch.setattr(search, "time_front_again", lambda record, look, tell: called.append(record.name))
    searched(FakeEngine())
    assert called == ["fake"]
    searched(FakeEngine(), time_again=False)
    assert called == ["fake"]


def test_stopping_it_there_ends_the_search_as_stopped(searched, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "time_front_again", stop)
    ended, _, _ = searched(FakeEngine())
    assert ended.interrupted
    assert len(ended.record.trials) == 6
