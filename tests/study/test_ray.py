"""A real cluster of two nodes, on one machine: what is placed where, lost, refused, and taken up again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nasseg.errors import UserError
from nasseg.study.engines import begin_engine
from nasseg.study.file import load_study
from nasseg.study.read import open_record, read_study
from nasseg.study.run import prepare, run_study
from tests.study.postgres import postgres, postgres_server  # noqa: F401

ray = pytest.importorskip("ray", reason="no Ray: pip install nasseg[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")
from tests.study.ray_search import search_on_ray  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("NASSEG_CLUSTER"), reason="minutes a test: set NASSEG_CLUSTER"),
]

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40
PATIENCE = 300  # seconds, on a busy machine
STUDY = f"""
question: Does it survive?
expected: a minute
space: quickstart
data: {{name: scenes, size: [32, 64], train: 16, val: 4}}
objectives: [miou, macs, latency_ms]
recipe: {{steps: {STEPS}, batch_size: 2}}
latency: {{min_seconds: 0.0, min_replicates: 2, warmup: 1}}
halving: {{rungs: [10], factor: 1}}
sampler: random
trials: 3
"""
FAULTS = """
figures: {odd: {function: "odd.py:odd", unit: "", direction: minimize, stage: latency},
          where: {function: "odd.py:where", unit: "", direction: minimize, stage: trained}}
limits: {where: {min: 0}}
"""
ODD = """
import os, signal, torch
from pathlib import Path

HERE = Path(__file__).parent

def note(name):
    with open(HERE / name, "a") as file:
        file.write(f"{os.getppid()}\\n")  # the node: a worker's parent
    return len((HERE / name).read_text().splitlines())

def odd(model, measurement):
    call = note("odd.log")
    if call == 1:
        return float("nan")
    if call == 2:
        raise RuntimeError("it does not like this one")
    if call == 3:
        torch.empty(1 << 55)
    if call == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(call)

def where(model, measurement):
    return note("where.log")
"""


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    started = cluster_utils.Cluster(initialize_head=True, head_node_args={**node, "resources": {"latency_device": 1}})
    started.add_node(**node)
    yield started
    started.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "s.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def start(folder, cluster):
    """Begins searches in processes of their own, which do not outlive the test."""
    begun = []

    def begin(storage, name="s.yaml"):
        command = [sys.executable, "-m", "tests.study.ray_search", name, storage, cluster.address]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def wait_for_training(storage, process, name="s"):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, process.stdout.read()
        try:
            trials = open_record(name, storage).trials(TrialState.RUNNING)
            if any("latency_ms" in trial.user_attrs for trial in trials):
                return
        except (UserError, KeyError):  # not there yet
            pass
        time.sleep(0.3)
    raise AssertionError("no trial began to train")


def ended(process):
    output, _ = process.communicate(timeout=PATIENCE)
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


def test_candidates_that_fail_fail_alone_and_latencies_come_from_one_node(folder, cluster, postgres):  # noqa: F811
    (folder / "s.yaml").write_text(STUDY.replace("latency_ms]", "odd]").replace("trials: 3", "trials: 6") + FAULTS)
    (folder / "odd.py").write_text(ODD)
    ended = search_on_ray(load_study("s.yaml"), postgres, cluster.address)
    assert not ended.fault
    reasons = own_failures(whole(postgres, 3))
    kinds = sorted(reason.partition(":")[0] for reason in reasons)
    assert kinds == ["RuntimeError", "objective odd is not a number", "out of memory"]
    assert len(set((folder / "odd.log").read_text().split())) == 1
    assert len(set((folder / "where.log").read_text().split())) == 2


def test_a_node_that_is_lost_costs_no_trial(start, cluster, postgres):  # noqa: F811
    lost = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    process = start(postgres)
    raylet, until = lost.all_processes["raylet"][0].process.pid, time.monotonic() + PATIENCE
    while subprocess.run(["pgrep", "-P", str(raylet), "-f", "ray::.*train"], capture_output=True).returncode:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until, "no job came to the node"
        time.sleep(0.1)
    cluster.remove_node(lost, allow_graceful=False)
    ended(process)
    assert own_failures(whole(postgres, 3)) == []


def test_a_killed_driver_is_succeeded_by_another(start, postgres):  # noqa: F811
    process = start(postgres)
    wait_for_training(postgres, process)
    process.kill()
    process.communicate()
    ended(start(postgres))
    record = whole(postgres, 3)
    assert [trial for trial in record.trials if str(trial.reason).startswith("interrupted")]
    assert own_failures(record) == []


def test_two_studies_share_a_cluster_and_a_storage(folder, start, postgres):  # noqa: F811
    (folder / "other.yaml").write_text(STUDY.replace("Does it", "Does the other"))
    both = [start(postgres), start(postgres, "other.yaml")]
    for process in both:
        ended(process)
    for name in ("s", "other"):
        assert own_failures(whole(postgres, 3, name)) == []


def test_a_search_goes_from_local_to_ray_and_back(folder, cluster, postgres):  # noqa: F811
    study = load_study("s.yaml")
    run_study(study, storage=postgres, trials=1)
    search_on_ray(study, postgres, cluster.address, trials=2)
    run_study(study, storage=postgres, trials=3)
    assert own_failures(whole(postgres, 3)) == []


def refusal(storage, address):
    context, _ = prepare(load_study("s.yaml"), None, 0)
    with pytest.raises(UserError) as caught:
        begin_engine("ray", context, storage=storage, workers=None, local_workers=1, address=address).close()
    assert not ray.is_initialized()
    assert not list((Path("runs") / "s").glob(".shared*"))
    return str(caught.value)


def test_a_file_of_one_machine_is_no_storage_for_two(folder, cluster):
    said = refusal("sqlite:///runs/s/study.db", cluster.address)
    assert "postgresql" in said
    assert "2 nodes" in said


def test_a_search_without_an_address_times_the_published_networks_and_ends(folder):
    study = load_study("s.yaml")
    ended = run_study(study, trials=1, engine="ray", address=None)
    assert not ended.fault
    assert not ray.is_initialized()
    whole(None, 1)
    published = open_record("s", None).attributes()["published"]
    assert {point["family"] for point in published} >= {*study.space.families}
    assert all(point["figures"]["latency_ms"] > 0 for point in published)
