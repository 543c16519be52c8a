"""Which nodes a study may use, and what is wrong with one: rules that need no cluster."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError

from nasseg.errors import Fault, UserError
from nasseg.measure.environment import environment
from nasseg.study.engines import local_engine, ray_nodes
from nasseg.study.engines.engine import Setup
from nasseg.study.engines.open_engine import begin_engine, timed
from nasseg.study.engines.ray_nodes import Expected, Node, faults, latency_device, latency_place, write_token
from nasseg.study.search import one_place
from nasseg.study.search.one_place import keep_latency_device
from nasseg.study.search.run_study import prepare, run_study
from nasseg.study.store.record import Record
from tests.study.fakes import LATENCY, FakeEngine, make_context, make_driver, make_study

TRIAL = {"CPU": 1.0, "GPU": 0.5}
FEW = "{name: scenes, size: [32, 64], train: 4, val: 2}"
HEAD = Node("a" * 28, "head", "10.0.0.1", {"CPU": 4.0})
SPOT = Node("b" * 28, "spot", "10.0.0.2", {"CPU": 8.0, "GPU": 2.0})
TIMER = Node("c" * 28, "timer", "10.0.0.3", {"GPU": 1.0, "latency_device": 1.0})


def place(*cluster, protocol=LATENCY):
    return latency_place(cluster, protocol, TRIAL, "head")


def test_a_node_takes_as_many_jobs_as_its_scarcest_resource_allows():
    assert [node.fits(TRIAL) for node in (HEAD, SPOT, TIMER)] == [0, 4, 0]


def test_all_latencies_come_from_the_one_node_that_offers_to_take_them():
    assert place(SPOT) == TRIAL
    assert place(HEAD, SPOT, TIMER) == {"latency_device": ray_nodes.LATENCY_SHARE}
    assert place(HEAD, SPOT, protocol=replace(LATENCY, backend="command")) == {"head": ray_nodes.LATENCY_SHARE}
    with pytest.raises(UserError, match=r"none is named for latencies: start one with `ray start"):
        place(HEAD, SPOT)
    with pytest.raises(UserError, match=r"node timer .* node other .* all offer latency_device"):
        place(TIMER, replace(TIMER, host="other"))


@pytest.mark.parametrize("storage", ["sqlite:///s.db", "s.log"])
def test_a_file_of_one_machine_is_no_storage_for_two(storage):
    ray_nodes.refuse_local_storage([HEAD], storage)
    ray_nodes.refuse_local_storage([HEAD, SPOT], "postgresql://u@h/d")
    with pytest.raises(UserError, match=r"2 nodes \(node head .*, node spot .*use --storage postgresql\+psycopg://"):
        ray_nodes.refuse_local_storage([HEAD, SPOT], storage)


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ray_nodes, "TOKEN_SECONDS", 0.0)
    return replace(make_context(make_study()), weights=tmp_path / "runs")


def expected(context, **changes):
    found = Expected(environment(), context.data.load().fingerprint, ".", write_token(context.weights))
    return replace(found, **changes)


def test_a_node_like_the_driver_has_no_faults(context):
    assert faults(context, expected(context)) == []
    assert faults(replace(context, weights="memory://runs"), replace(expected(context), token="")) == []
    ray_nodes.remove_token(context.weights, token := expected(context).token)
    assert not (Path(context.weights) / token).exists()


def test_what_differs_from_the_driver_is_named(context, monkeypatch):
    there = replace(environment(), nasseg="0.0.1", torch="1.0.0+cu1", commit="abc")
    monkeypatch.setattr(ray_nodes, "environment", lambda: replace(environment(), torch="2.0.0+cpu", commit="def"))
    said = faults(context, expected(context, here=there, fingerprint="other"))
    assert [fault.partition(" and ")[0] for fault in said] == [
        f"it has nasseg {environment().nasseg}",
        "it has the code of commit def",
        "it has torch 2.0.0",
        f"its data scenes differ from the driver's ({context.data.load().fingerprint}): copy them again",
    ]
    same = replace(environment(), torch="2.0.0+cu1", commit=None)  # another build of torch; not a checkout
    assert faults(context, expected(context, here=same)) == []


def test_what_a_node_lacks_is_named(context, monkeypatch):
    assert "does not share" in faults(context, expected(context, token=".gone"))[0]
    monkeypatch.setattr(ray_nodes.torch.cuda, "is_available", lambda: False)
    on_gpu = replace(context, device="cuda", latency=replace(context.latency, device="cuda"))
    (said,) = faults(on_gpu, expected(context))
    assert "finds no GPU" in said
    half = replace(context, latency=replace(LATENCY, precision="fp16"))
    assert "fp16 cannot be timed on a CPU" in faults(half, expected(context))[0]
    monkeypatch.setattr(ray_nodes, "MIN_FREE_BYTES", 1 << 60)
    assert all("GiB are free at" in fault for fault in faults(context, expected(context)))
    assert len(faults(context, expected(context))) == 2


def test_only_nodes_need_the_device(monkeypatch):
    monkeypatch.setattr(ray_nodes.torch.cuda, "is_available", lambda: False)
    study = make_study(latency="{device: cuda, precision: fp16}", data=FEW)
    with pytest.raises(UserError, match="torch sees no CUDA"):
        prepare(study, None, 0)
    assert prepare(study, None, 0, elsewhere=True)[0].device == "cuda"


def test_a_study_keeps_the_device_of_its_latencies(tmp_path):
    record = make_driver(str(tmp_path / "s.log")).record
    cpu = latency_device(LATENCY, environment())
    gpu = latency_device(replace(LATENCY, device="cuda"), replace(environment(), gpu="H200"))
    assert gpu == f"H200 on {cpu}"
    for device in (cpu, "", cpu):  # a command's target tells its own
        keep_latency_device(record, device)
    with pytest.raises(UserError, match=r"latencies from .*, and here they would come from H200 .*another name"):
        keep_latency_device(record, gpu)


def test_of_two_searches_that_begin_at_once_on_two_devices_one_is_refused(tmp_path, monkeypatch):
    record = make_driver(str(tmp_path / "s.log")).record
    write = type(record).set_attributes

    def write_after_another(self, values):
        monkeypatch.setattr(type(record), "set_attributes", write)
        keep_latency_device(self, "the other's")
        write(self, values)

    monkeypatch.setattr(type(record), "set_attributes", write_after_another)
    with pytest.raises(UserError, match="latencies from the other's, and here they would come from mine"):
        keep_latency_device(record, "mine")
    keep_latency_device(record, "the other's")


def test_a_file_is_searched_by_one_machine_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(one_place, "RENEW_SECONDS", 0.05)
    storage, elsewhere = "s.log", ["other", "another boot"]
    record = make_driver(storage).record
    one_place.refuse_other_host(record, storage)
    here = record.attributes()["host"]
    for same in ([here[0], "another boot"], ["a container", here[1]]):
        record.set_attributes({"host": same})
        one_place.refuse_other_host(record, storage)
        assert record.attributes()["host"] == here
    record.set_attributes({"host": elsewhere})
    one_place.refuse_other_host(record, "postgresql://u@h/d")
    with monkeypatch.context() as there:
        there.setattr(one_place.time, "sleep", lambda _: record.set_attributes({"searched_seconds": 7.0}))
        with pytest.raises(UserError, match=r"on another machine, other, .*use --storage postgresql"):
            one_place.refuse_other_host(record, storage)
    assert record.attributes()["host"] == elsewhere
    one_place.refuse_other_host(record, storage)  # nothing searches there now
    assert record.attributes()["host"] == here


def test_networks_are_timed_where_the_study_is(tmp_path):
    driver = make_driver(str(tmp_path / "s.log"))
    found = timed(driver.engine, [{"family": "regseg"}, {"family": "dabnet"}])
    assert [m.latency.p50_ms == m.cost.macs / 1e6 for m in found] == [True, True]
    spoilt = FakeEngine(spoil=lambda job: "too odd" if job.kind == "latency" else None)
    assert timed(spoilt, [{"family": "regseg"}]) == [None]
    deaths = iter([(Fault.WORKER_DIED, "worker died (exit code -9)")] * 2)
    found = timed(FakeEngine(spoil=lambda job: next(deaths, None)), [{"family": "regseg"}])
    assert found[0].latency is not None


def test_a_search_is_ended_cleanly_while_published_networks_are_timed(tmp_path, monkeypatch):
    closed = []

    class Ended(FakeEngine):
        def wait(self, timeout):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().wait(timeout)

        def close(self):
            closed.append(self.jobs)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_engine, "LocalEngine", lambda _context, workers, *_: Ended(workers))
    ended = run_study(make_study(data=FEW))
    assert (ended.interrupted, ended.requeued, ended.record.trials, ended.record.published) == (True, 0, (), ())
    assert len(closed) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_storage_that_fails_as_a_search_is_ended_is_one_clear_error(tmp_path, monkeypatch):
    class Ended(FakeEngine):
        def wait(self, timeout):
            if self.jobs[0].kind == "train":
                raise KeyboardInterrupt
            return super().wait(timeout)

    def gone(*_):
        raise StorageInternalError("the server closed the connection")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_engine, "LocalEngine", lambda _context, workers, *_: Ended(workers))
    monkeypatch.setattr(Record, "requeue", gone)
    with pytest.raises(UserError, match=r"storage .* failed: the server closed the connection; nothing stored is lost"):
        run_study(make_study(data=FEW))


def test_an_engine_that_is_not_there_is_one_clear_error(context, monkeypatch):
    setup = Setup(context=context, storage="s.log", workers=1, local_workers=1)
    with pytest.raises(UserError, match="unknown engine 'rai': did you mean 'ray'"):
        begin_engine("rai", setup)
    with pytest.raises(UserError, match="are for the engine ray"):
        begin_engine("local", replace(setup, address="auto"))
    monkeypatch.delitem(sys.modules, "nasseg.study.engines.ray_engine", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'nasseg\[ray\]'"):
        begin_engine("ray", setup)
