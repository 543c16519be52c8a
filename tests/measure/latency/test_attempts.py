"""Latency and the lock of the device."""

import time
from pathlib import Path

import pytest

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.backends import check_protocol
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.processes.children import Child
from nasseg.records import LatencyProtocol

QUICK = {
    "device": "cpu",
    "input_size": (64, 64),
    "num_classes": 5,
    "warmup": 1,
    "min_replicates": 5,
    "min_seconds": 0.0,
}


def test_percentiles_come_in_order_with_their_protocol_and_environment():
    arch, protocol = make_arch("bisenetv2", width=0.25), LatencyProtocol(**QUICK)
    latency = measure_latency(arch, protocol)
    assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
    assert latency.n == 5
    assert latency.protocol == protocol
    assert latency.environment.cores >= 1


def test_a_larger_network_takes_longer():
    small, large = (make_arch("regseg", width=width) for width in (0.25, 1.0))
    protocol = LatencyProtocol(**{**QUICK, "input_size": (128, 256)})
    assert measure_latency(small, protocol).p50_ms < measure_latency(large, protocol).p50_ms


def test_bf16_is_timed_on_the_cpu():
    assert measure_latency(make_arch("bisenetv2", width=0.25), LatencyProtocol(**QUICK, precision="bf16")).p50_ms > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu"}, "device must be cpu"),
        ({"device": "cuda:99"}, "is not available"),
        ({"precision": "int8"}, "precision must be one of"),
        ({"precision": "fp16"}, "fp16 cannot be timed on a CPU"),
        ({"rule": "by guessing"}, "got 'by guessing', from another version of nasseg: use that version"),
    ],
)
def test_what_cannot_be_timed_is_refused(change, message):
    import torch

    if change.get("device") == "cuda:99" and torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    with pytest.raises(UserError, match=message):
        check_protocol(LatencyProtocol(**{**QUICK, **change}))


def _compute(pipe) -> None:
    """Be a neighbour, until killed: note when each step begins and ends."""
    lock = DeviceLock("test")
    with Path(pipe.recv()).open("a") as file:
        while True:
            with lock.computing():
                begin = time.monotonic()
                time.sleep(0.005)
                file.write(f"{begin} {time.monotonic()}\n")
                file.flush()


def _hold(pipe) -> None:
    with DeviceLock("test").measuring():
        pipe.send("started")
        time.sleep(60)


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))


def test_nothing_computes_while_something_is_measured(tmp_path):
    logs = [str(tmp_path / f"{name}.txt") for name in "ab"]
    neighbours = [Child(_compute) for _ in logs]
    for process, log in zip(neighbours, logs, strict=True):
        process.pipe.send(log)
    while not all(Path(log).exists() and Path(log).stat().st_size for log in logs):
        time.sleep(0.05)
    measured = []
    lock = DeviceLock("test")
    for _ in range(20):
        with lock.measuring():
            begin = time.monotonic()
            time.sleep(0.01)
            measured.append((begin, time.monotonic()))
        time.sleep(0.01)
    for process in neighbours:
        process.kill()
    steps = [
        tuple(map(float, line.split())) for log in logs for line in Path(log).read_text().splitlines() if " " in line
    ]
    assert len(steps) > 20
    for begin, end in measured:
        assert not [step for step in steps if step[0] < end and begin < step[1]]


def test_a_killed_measurer_frees_the_device():
    holder = Child(_hold)
    assert holder.pipe.recv() == "started"
    holder.kill()
    with DeviceLock("test").computing():
        pass
