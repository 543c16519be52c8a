"""A real cluster of two nodes, on one machine: what is placed where, lost, refused, and taken up again."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from nasseg.errors import UserError
from nasseg.study.engines import local_engine
from nasseg.study.engines.engine import Setup
from nasseg.study.engines.open_engine import begin_engine
from nasseg.study.search.run_study import prepare, run_study
from nasseg.study.store.read_study import open_record, read_study
from nasseg.study.study_file import load_study
from tests import HUNG_SECONDS, ROOT
from tests.study.fakes import InlineEngine
from tests.study.store.postgres import postgres, postgres_server  # noqa: F401

ray = pytest.importorskip("ray", reason="no Ray: pip install nasseg[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")
from tests.study.engines.ray_search import search_on_ray  # noqa: E402

pytestmark = pytest.mark.slow

RUNG, STEPS = 20, 160
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
STUDY = f"""
question: Does it survive?
expected: seconds
space: net.yaml
data: {{name: scenes, size: [32, 64], train: 8, val: 4}}
objectives: [miou, macs, latency_ms]
recipe: {{steps: {STEPS}, batch_size: 2}}
latency: {{min_seconds: 0.0, min_replicates: 2, warmup: 1}}
halving: {{rungs: [{RUNG}], factor: 1}}
sampler: random
trials: 2
"""
# A family of one's own: no published network is timed before the search, and each step of a training is noted.
SPACE = """
about: Tiny networks
parameters:
  family: net.py:NetArch
  width: 0.25
  dilations: {template: "(1,1)+{a}*(1,{d})", holes: {a: {range: [1, 4]}, d: {range: [2, 9]}}}
"""
NET = """
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from nasseg.families.regseg import RegSegArch

STEPS = Path(__file__).parent / "steps.log"

def note(module, _inputs, _outputs):
    if module.training:
        with STEPS.open("a") as file:
            file.write(f"{os.getppid()} {os.getpid()}\\n")  # a worker's parent is its node

@dataclass(frozen=True, kw_only=True)
class NetArch(RegSegArch):
    family: ClassVar[str] = "net"

    def build(self, num_classes):
        model = super().build(num_classes)
        model.encoder.register_forward_hook(note)
        return model
"""
FAULTS = """
figures: {odd: {function: "odd.py:odd", unit: "", direction: minimize, phase: latency}}
"""
ODD = """
import os, signal, torch
from pathlib import Path

LOG = Path(__file__).parent / "odd.log"

def odd(model, measurement):
    if measurement.latency.p50_ms == 1:  # tried before the search
        return 0.0
    with LOG.open("a") as file:
        file.write(f"{os.getppid()}\\n")
    call = len(LOG.read_text().splitlines())
    if call == 1:
        return float("nan")
    if call == 2:
        raise RuntimeError("it does not like this one")
    if call == 4:  # three in a row would stop the search
        torch.empty(1 << 55)
    if call == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(call)
"""
FULL_DISK = """
import shutil
usage = shutil.disk_usage("/")
shutil.disk_usage = lambda path: usage._replace(free=0)
"""


@pytest.fixture(scope="module")
def cluster():
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    head = {**NODE, "include_dashboard": False, "resources": {"latency_device": 1}}
    started = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    started.add_node(**NODE, resources={"spot": 1})
    yield started
    started.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, text in (("s.yaml", STUDY), ("net.yaml", SPACE), ("net.py", NET), ("odd.py", ODD)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def start(folder, cluster):
    """Begins searches in processes of their own, which do not outlive the test."""
    begun = []

    def begin(storage, name="s.yaml"):
        command = [sys.executable, "-m", "tests.study.engines.ray_search", name, storage, cluster.address]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def change(**lines):
    """Other values of the study's keys."""
    kept = [line for line in STUDY.splitlines() if line.partition(":")[0] not in lines]
    Path("s.yaml").write_text("\n".join([*kept, *(f"{key}: {value}" for key, value in lines.items())]) + "\n")


def steps():
    """Of each step of a training, by whom: (node, worker)."""
    log = Path("steps.log")
    return [tuple(line.split()) for line in log.read_text().splitlines()] if log.exists() else []


def raylet(node):
    return str(node.all_processes["raylet"][0].process.pid)


def begin_here(storage, trainings, workers=1):
    """Search in this process, and stop at a training: so clusters begin with networks that are measured and wait."""

    class Stopping(InlineEngine):
        def wait(self, timeout):
            if self.jobs[0].kind == "train" and len(self.trained()) == trainings:
                raise KeyboardInterrupt
            return super().wait(timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_engine, "LocalEngine", Stopping)
        assert run_study(load_study("s.yaml"), storage=storage, workers=workers).requeued == workers


def start_and_wait(start, storage):
    """A search on the cluster whose first network is trained, and whose second one is well beyond its first rung."""
    change(resources="{spot: 1}")
    begin_here(storage, 2)
    process = start(storage)
    wait_until(lambda: len(steps()) >= STEPS + RUNG + 10, process)
    return process


def wait_until(there, process):
    until = time.monotonic() + HUNG_SECONDS
    while not there():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until, "no trial got there"
        time.sleep(0.02)


def ended(process):
    output, _ = process.communicate(timeout=HUNG_SECONDS)
    assert process.returncode == 0, output
    return output


def whole(storage, complete, name="s"):
    """The record of a study that ended: nothing runs or waits, nothing is twice there or half trained."""
    record = read_study(name, storage)
    states = {trial.state for trial in record.trials}
    assert not states & {"RUNNING", "WAITING"}
    done = [trial for trial in record.trials if trial.state == "COMPLETE" and trial.reused_from is None]
    assert len(done) == complete, [(trial.state, trial.reason) for trial in record.trials]
    assert len({trial.extra["eval_key"] for trial in done}) == complete
    assert {trial.measurement.accuracy.protocol.steps for trial in done} == {STEPS}
    assert all(trial.extra["weights_sha256"] for trial in done)
    return record


def own_failures(record):
    return [t.reason for t in record.trials if t.state == "FAIL" and not t.reason.startswith("interrupted")]


def test_candidates_that_fail_fail_alone(folder, cluster, postgres):  # noqa: F811
    change(objectives="[miou, macs, odd]", resources="{latency_device: 0.25}", trials=6)
    with open("s.yaml", "a") as file:
        file.write(FAULTS)
    ended = search_on_ray(load_study("s.yaml"), postgres, cluster.address, workers=1)
    assert not ended.fault
    reasons = own_failures(whole(postgres, 3))
    assert len(reasons) == 3
    assert all(reason.startswith("figure odd (odd.py:odd, line ") for reason in reasons)
    for said in ("gave nan, which is not a number", "raised RuntimeError: it does not like this one", "allocate"):
        assert len([reason for reason in reasons if said in reason]) == 1
    assert len((folder / "odd.log").read_text().split()) == 7  # the worker that was killed is not the candidate's fault


def test_a_worker_and_a_node_that_are_lost_cost_no_trial(start, cluster, postgres):  # noqa: F811
    """A worker is killed in a training, then the node with the next worker; a node that joins later takes it up."""
    (spot,) = cluster.worker_nodes
    lost, process = raylet(spot), start_and_wait(start, postgres)
    _, killed = steps()[-1]
    os.kill(int(killed), signal.SIGKILL)
    wait_until(lambda: steps()[-1][1] != killed, process)
    cluster.remove_node(spot, allow_graceful=False)
    joined = cluster.add_node(**NODE, resources={"spot": 1})
    ended(process)
    assert own_failures(whole(postgres, 2)) == []
    nodes = [node for node, _ in steps()]
    assert nodes[STEPS] == lost
    assert nodes.count(raylet(joined)) == STEPS - RUNG  # from the last checkpoint


def test_a_killed_driver_is_succeeded_by_another(start, postgres):  # noqa: F811
    process = start_and_wait(start, postgres)
    process.kill()
    process.communicate()
    ended(start(postgres))
    record = whole(postgres, 2)
    assert [trial for trial in record.trials if str(trial.reason).startswith("interrupted")]
    assert own_failures(record) == []
    *_, last = steps()
    assert steps().count(last) == STEPS - RUNG  # from the last checkpoint


def test_two_studies_share_a_cluster_and_a_storage(folder, start, postgres):  # noqa: F811
    change(resources="{latency_device: 0.25}", trials=1)
    (folder / "other.yaml").write_text((folder / "s.yaml").read_text().replace("Does it", "Does the other"))
    both = [start(postgres), start(postgres, "other.yaml")]
    for process in both:
        ended(process)
    for name in ("s", "other"):
        assert own_failures(whole(postgres, 1, name)) == []


def test_a_search_goes_from_local_to_ray_and_back(folder, cluster, postgres):  # noqa: F811
    """On the cluster latencies come from the one node that takes them, trainings here from the other one."""
    change(objectives="[miou, macs, odd]", resources="{spot: 1}")
    with open("s.yaml", "a") as file:
        file.write(FAULTS)
    (folder / "odd.log").write_text("0\n" * 5)  # no faults
    study, (spot,) = load_study("s.yaml"), cluster.worker_nodes
    run_study(study, storage=postgres, trials=1)
    search_on_ray(study, postgres, cluster.address, trials=2)
    run_study(study, storage=postgres, trials=3)
    assert own_failures(whole(postgres, 3)) == []
    here, head, again = (folder / "odd.log").read_text().split()[5:]  # here workers are the fork server's children
    assert head == raylet(cluster.head_node)
    assert here not in (head, raylet(spot))
    assert [node for node, _ in steps()[::STEPS]] == [here, raylet(spot), again]


def refusal(storage, address, runs=None):
    """What is said of a cluster that cannot run this study; nothing was stored or tried by then."""
    study = load_study("s.yaml")
    context, _ = prepare(study, None, 0)
    context = replace(context, weights=runs or context.weights)
    with pytest.raises(UserError) as caught:
        begin_engine(
            "ray",
            Setup(
                context=context,
                storage=storage,
                workers=None,
                local_workers=1,
                address=address,
                resources=study.file.resources,
            ),
        ).engine.close()
    assert not ray.is_initialized()
    assert not list(Path(context.weights).glob(".shared*"))
    assert not Path("steps.log").exists()
    return str(caught.value)


def test_a_cluster_that_cannot_run_a_study_is_refused_before_the_first_trial(folder, cluster):
    said = refusal("sqlite:///runs/s/study.db", cluster.address)
    assert "postgresql" in said
    assert "2 nodes" in said
    (folder / "own").mkdir()
    own = os.open("own", os.O_RDONLY | os.O_DIRECTORY)  # a folder that no other process has
    said = refusal("postgresql://u@h/d", cluster.address, Path(f"/proc/self/fd/{own}/runs"))
    os.close(own)
    assert said.count("does not share") == 2
    change(resources="{cpu: 1, gpu: 2}")
    assert "no node of the cluster has what a trial needs (CPU 1, GPU 2)" in refusal("s.log", cluster.address)
    with pytest.raises(UserError, match=r"no Ray cluster at 127.0.0.1:9: .*check --address"):
        search_on_ray(load_study("s.yaml"), "s.log", "127.0.0.1:9")


def test_a_late_joiner_that_does_not_fit_is_named_and_gets_no_work(folder, cluster, postgres):  # noqa: F811
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(FULL_DISK)
    change(trials=8)
    begin_here(postgres, 0, workers=4)
    late, told = [], []

    def join(progress):
        if progress.done and not late:
            late.append(cluster.add_node(**NODE, env_vars={"PYTHONPATH": f"{folder / 'path'}:{ROOT}"}))

    ended = search_on_ray(load_study("s.yaml"), postgres, cluster.address, on_progress=join, tell=told.append)
    try:
        assert not ended.fault
        assert own_failures(whole(postgres, 8)) == []
        (said,) = (line for line in told if "it gets no jobs" in line)  # others are about what delays timings
        assert late[0].node_id[:6] in said
        assert "0.0 GiB are free at" in said
        assert raylet(late[0]) not in {node for node, _ in steps()}
        Path("steps.log").unlink()
        assert "0.0 GiB are free at" in refusal(postgres, cluster.address)  # there from the beginning
    finally:
        cluster.remove_node(late[0])


def test_a_search_without_an_address_times_the_published_networks_and_ends(folder):
    from ray import tune

    class Watch(tune.Callback):
        workers: ClassVar[list[int]] = []

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self.workers.append(result["pid"])

    change(space="quickstart", trials=1)
    watch = Watch()
    callbacks = [watch, tune.logger.CSVLoggerCallback()]
    ended = run_study(load_study("s.yaml"), engine="ray", callbacks=callbacks)
    assert not ended.fault
    assert not ray.is_initialized()
    whole(None, 1)
    published = open_record("s", None).attributes()["published"]
    assert {point["family"] for point in published} == {"bisenetv2", "regseg"}
    assert all(point["figures"]["latency_ms"] > 0 for point in published)
    assert len(watch.workers) >= 8  # cost and latency of three networks, and two rungs
    assert len(set(watch.workers)) <= 2  # they are used again
    logs = list(Path("runs/s/tune").glob("*/*/progress.csv"))
    assert len(logs) == len(watch.workers)
    assert sum("miou" in log.read_text().splitlines()[0] for log in logs) == 2
