"""Latency by a command on a target: what it says is kept, what goes wrong is blamed on whom it should be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nasseg.measure.latency.target as target
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.backends import check_protocol
from nasseg.measure.latency.target import TargetUnreachable, measure_on_target
from nasseg.records import LatencyProtocol
from tests.families.cheap import SHALLOW

SHIPPED = Path(target.__file__).with_name("targets")
ANSWER = {"p50": 2.0, "p90": 2.5, "p99": 3.0, "n": 40, "device": "board", "runtime": "engine 1"}


@pytest.fixture
def arch():
    return make_arch("regseg", width=0.25, **SHALLOW["regseg"])


@pytest.fixture
def no_export(monkeypatch):
    """What goes wrong with a target goes wrong whatever the file holds."""
    monkeypatch.setattr(target, "write_onnx", lambda _model, path, _size, batch: path.write_bytes(b"a network"))


def protocol(script, folder):
    path = folder / "bench.py"
    path.write_text(script)
    return LatencyProtocol(
        device="cpu", input_size=(32, 64), num_classes=3, backend="command", command=f"{sys.executable} {path} {{onnx}}"
    )


def test_what_the_command_says_is_the_latency(arch, tmp_path, no_export):
    script = "import sys; assert open(sys.argv[1], 'rb').read() == b'a network'; print('log'); "
    script += f"print({json.dumps(ANSWER)!r})"
    found = measure_latency(arch, protocol(script, tmp_path))
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.n) == (2.0, 2.5, 3.0, 40)
    assert found.target == {"device": "board", "runtime": "engine 1"}
    assert found.iqr_ms is None
    assert found.fps == 500


@pytest.mark.slow
def test_the_shipped_onnxruntime_script_is_such_a_command(arch, tmp_path):
    pytest.importorskip("onnxruntime")
    script = (SHIPPED / "onnxruntime_bench.py").read_text()
    assert " = 10, 50, 2.0\n" in script
    hasty = script.replace(" = 10, 50, 2.0\n", " = 10, 50, 0.0\n")
    found = measure_latency(arch, protocol(hasty, tmp_path))
    assert 0 < found.p50_ms <= found.p90_ms
    assert found.n >= 50
    assert "onnxruntime" in found.target["runtime"]


@pytest.fixture
def trtexec(tmp_path):
    """Return a function that runs the script with a stand-in for trtexec: the real one is not run here."""
    (tmp_path / "x.onnx").touch()

    def run(stand_in, file="x.onnx"):
        if stand_in:
            (tmp_path / "trtexec").write_text(f"#!/bin/sh\n{stand_in}\n")
            (tmp_path / "trtexec").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = [SHIPPED / "trtexec_bench.sh", str(tmp_path / file)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


def test_the_shipped_trtexec_script_reads_its_log(trtexec):
    log = "[I] Timing trace has 512 queries over 5 s\\n[I] GPU Compute Time: min = 1 ms, median = 2 ms, "
    log += "percentile(50%) = 2.0 ms, percentile(90%) = 2.5 ms, percentile(99%) = 3.0 ms"
    done = trtexec(f"printf '{log.replace('%', '%%')}\\n'")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["p50"], found["p90"], found["p99"], found["n"]) == (2.0, 2.5, 3.0, 512)


@pytest.mark.parametrize(
    ("stand_in", "file", "code", "message"),
    [
        (
            "echo '[E] No importer registered for op: Foo'; echo '[E] Failed to parse onnx file'; exit 1",
            "x.onnx",
            3,
            "Foo",
        ),
        ("echo '[E] Error Code 10: Could not find any implementation for node'; exit 1", "x.onnx", 3, "Code 10"),
        ("echo 'CUDA initialization failure with error: 35'; echo 'Failed to parse'; exit 1", "x.onnx", 1, "error: 35"),
        ("echo 'Cuda failure: out of memory'; exit 1", "x.onnx", 1, "out of memory"),
        ("echo 'Segmentation fault'; exit 139", "x.onnx", 1, "Segmentation"),
        ("exit 0", "absent.onnx", 1, "copy it to the target first"),
        ("", "x.onnx", 1, "trtexec is not on the PATH of the target"),
    ],
)
def test_the_shipped_trtexec_script_blames_networks_for_their_own_faults_only(trtexec, stand_in, file, code, message):
    failed = trtexec(stand_in, file)
    assert failed.returncode == code
    assert message in failed.stderr


def test_the_shipped_onnxruntime_script_blames_networks_for_their_own_faults_only(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "cut.onnx").write_bytes(b"half of a file")
    command = [sys.executable, SHIPPED / "onnxruntime_bench.py", tmp_path / "cut.onnx"]
    assert subprocess.run(command, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import time; time.sleep(60)", "did not answer .* in 0.5 s"),
        ("import sys; sys.exit('no route to host')", "failed with exit code 1: no route to host"),
        ("import os; os.kill(os.getpid(), 9)", "failed with exit code -9"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "its last line must be JSON"),
        ('print(\'{"p50": 1, "p90": 2, "p99": 4, "n": 9, "iqr": null}\')', "its last line must be JSON"),
        ("import sys; sys.exit(255)", "failed with exit code 255: without a word"),
        ("print('p50 is 3')", "its last line must be JSON"),
        ("print('{\"p50\": 3}')", "its last line must be JSON"),
        ("pass", "its last line must be JSON"),
        ("print('[1, 2]')", "its last line must be JSON"),
        ('print(\'{"p50": 3, "p90": 2, "p99": 4, "n": 9}\')', "p50 <= p90 <= p99 must hold"),
        ('print(\'{"p50": NaN, "p90": 2, "p99": 4, "n": 9}\')', "p50 <= p90 <= p99 must hold"),
    ],
)
def test_what_is_wrong_with_the_target_is_not_the_networks_fault(arch, tmp_path, no_export, script, message):
    with pytest.raises(TargetUnreachable, match=message):
        measure_on_target(arch, protocol(script, tmp_path), timeout_seconds=0.5 if "sleep" in script else 30)


def test_a_command_that_does_not_start_is_the_targets_fault(arch, no_export):
    absent = LatencyProtocol(
        device="cpu", input_size=(32, 64), num_classes=3, backend="command", command="./no-such-script {onnx}"
    )
    with pytest.raises(TargetUnreachable, match=r"\./no-such-script does not start: No such file"):
        measure_on_target(arch, absent)


def test_exit_code_3_is_the_networks_fault(arch, tmp_path, no_export):
    with pytest.raises(UserError, match="the target cannot run this network: no such operator") as error:
        measure_on_target(arch, protocol("import sys; print('no such operator'); sys.exit(3)", tmp_path))
    assert not isinstance(error.value, TargetUnreachable)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "command"}, "needs `command`"),
        ({"command": "./bench {onnx}"}, "no other backend takes one"),
        ({"backend": "command", "command": "./bench"}, "must hold {onnx}"),
        ({"backend": "tensorflow"}, "unknown backend 'tensorflow'"),
        ({"backend": "tensorrt"}, "backend tensorrt needs a cuda device; use eager on a CPU"),
        ({"backend": "cuda-graph"}, "needs a cuda device"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "runs fp32 here"),
        ({"upsampling": "never"}, "upsampling must be inside or outside"),
    ],
)
def test_protocols_that_cannot_be_followed_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        check_protocol(LatencyProtocol(device="cpu", input_size=(32, 64), num_classes=3, **change))
