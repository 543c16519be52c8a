"""What the Ray engine does with jobs whose node is lost or does not fit: its rules, with nodes that are made up."""

from collections import Counter
from types import SimpleNamespace

import pytest

from nasseg.errors import Fault, UserError
from nasseg.study.engines.jobs import MAX_ATTEMPTS, Job
from nasseg.study.engines.ray_nodes import Node

pytest.importorskip("ray", reason="no Ray: pip install nasseg[ray]")
pytestmark = pytest.mark.slow  # to import Ray alone takes longer

TRIAL = {"CPU": 1.0}
LATENCY = {"latency_device": 0.25}
HEAD = Node("a" * 28, "head", "10.0.0.1", {"CPU": 1.0, "latency_device": 1.0})
SPOT = Node("b" * 28, "spot", "10.0.0.2", {"CPU": 2.0})
LATE = Node("c" * 28, "late", "10.0.0.3", {"CPU": 4.0})


@pytest.fixture
def cluster(monkeypatch):
    """Begins an engine whose desk lies in this process and whose nodes are a list."""
    from nasseg.study.engines import ray_engine, ray_worker

    def begin(*nodes):
        there = [*nodes]
        desk = ray_worker.Desk.__ray_metadata__.modified_class()
        engine = ray_engine.RayEngine.__new__(ray_engine.RayEngine)
        engine._workers, engine._resources, engine._latency = None, TRIAL, LATENCY
        engine._context, engine._storage = SimpleNamespace(latency=SimpleNamespace(backend="eager")), "postgresql://h/d"
        engine._jobs, engine._begun, engine._starts, engine._unfit = {}, set(), Counter(), frozenset()
        engine._results, engine._told, engine._looked = ray_engine.queue.SimpleQueue(), [], 0.0
        engine._tell, engine._on_step = engine._told.append, lambda _step: None
        engine._counter = ray_engine._Counter(engine._done, engine._refused)
        engine._slots = engine._count(there)

        class Remote:
            def __getattr__(self, name):
                return SimpleNamespace(remote=getattr(desk, name))

        engine._desk = Remote()
        monkeypatch.setattr(ray_engine.ray, "get", lambda answer: answer)
        monkeypatch.setattr(ray_engine, "living_nodes", lambda: there)
        return engine, desk, there

    return begin


def handed_out(engine):
    """What Tune gets for the next job."""
    return engine._counter.suggest("t")


def test_a_lost_node_uses_up_no_attempt_and_a_dead_worker_does(cluster):
    engine, desk, nodes = cluster(HEAD, SPOT)
    engine.submit(Job(7, "train", {}))
    for _ in range(3 * MAX_ATTEMPTS):
        assert handed_out(engine)["candidate"] == 7
        desk.take(7, "a worker", SPOT.id)
        nodes.remove(SPOT)
        engine._lost(7, "its node died")
        nodes.append(SPOT)
        assert engine.wait(0) == []
    assert handed_out(engine)["candidate"] == 7
    desk.take(7, "a worker", SPOT.id)
    engine._lost(7, "Traceback\nit was killed")
    (result,) = engine.wait(0)
    assert result.fault is Fault.WORKER_DIED
    assert result.reason == f"worker died (on {SPOT.name}: it was killed)"
    assert engine.idle == 3


def test_a_job_that_no_worker_begins_stops_the_search(cluster):
    engine, _, _ = cluster(HEAD)
    engine.submit(Job(7, "train", {}))
    for _ in range(5):
        assert engine.wait(0) == []
        engine._lost(7, "no room")
    (result,) = engine.wait(0)
    assert result.fault is Fault.SURROUNDINGS
    assert "no worker could be started" in result.reason
    assert result.reason.endswith("no room")


def test_a_late_joiner_that_does_not_fit_is_named_once_and_gets_no_more_jobs(cluster):
    engine, desk, nodes = cluster(HEAD, SPOT)
    nodes.append(LATE)
    engine._look()
    assert engine.idle == 7
    for number in (1, 2):
        engine.submit(Job(number, "train", {}))
        assert "shunned_nodes" not in handed_out(engine)
        desk.take(number, "a worker", LATE.id)
    for number in (1, 2):
        result = {"done": True, "refused": (number, LATE.id, f"{LATE.name}: its data differ")}
        engine._counter.on_trial_complete("t", result)
    assert engine.wait(0) == []
    assert engine._told == [f"{LATE.name}: its data differ; it gets no jobs until this is fixed and it joins again"]
    again = [handed_out(engine) for _ in range(2)]
    assert [(config["candidate"], config["shunned_nodes"]) for config in again] == [(1, LATE.id), (2, LATE.id)]
    engine._look()
    assert engine.idle == 1  # of the three of the others


@pytest.mark.parametrize(("lost", "refusing"), [((HEAD, SPOT), LATE), ((), HEAD)])
def test_where_no_node_is_left_that_fits_the_search_stops(cluster, lost, refusing):
    engine, _, nodes = cluster(HEAD, SPOT, LATE)
    for node in lost:
        nodes.remove(node)
    engine.submit(Job(1, "train", {}))
    engine._refused(1, refusing.id, f"{refusing.name}: its data differ")
    with pytest.raises(UserError, match=f"node {refusing.host} .* its data differ"):
        engine.wait(0)


def test_a_node_is_excluded_by_its_id():
    from nasseg.study.engines.ray_engine import _place

    assert _place(TRIAL, "") == _place(TRIAL, "")
    shunning = _place(TRIAL, f"{SPOT.id}, {LATE.id}")
    assert shunning != _place(TRIAL, "")
    assert shunning._bound.kwargs["bundle_label_selector"] == [{"ray.io/node-id": f"!in({SPOT.id}, {LATE.id})"}]


def test_a_second_host_on_a_file_stops_the_search(cluster):
    engine, _, nodes = cluster(HEAD)
    engine._storage = "sqlite:///s.db"
    engine._look()
    nodes.append(SPOT)
    with pytest.raises(UserError, match=r"2 nodes .*postgresql"):
        engine._look()


def test_a_desk_that_is_gone_stops_the_search_in_one_line(cluster, monkeypatch):
    from ray.exceptions import RayActorError

    from nasseg.study.engines import ray_engine

    def gone(_answer):
        raise RayActorError

    engine, _, _ = cluster(HEAD)
    engine.submit(Job(1, "train", {}))
    monkeypatch.setattr(ray_engine.ray, "get", gone)
    for call in (lambda: engine.submit(Job(2, "train", {})), engine._look):
        with pytest.raises(UserError, match=r"^Ray failed: .*; run the same command again$"):
            call()
    engine.cancel(1)  # as a search does that stops


def test_a_cluster_that_does_not_start_in_time_is_one_line(monkeypatch):
    from nasseg.study.engines import ray_connection

    def late(**_options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray_connection.ray, "init", late)
    with pytest.raises(UserError, match="no Ray cluster at this machine: The current node timed out during startup"):
        ray_connection.connect(None, 1)
