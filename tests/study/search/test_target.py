"""A search whose latency comes from a target: it measures there, and waits for a target that went away."""

import sys

import pytest

from nasseg.study.search.run_study import run_study
from nasseg.study.study_file import load_study

STUDY = """
question: What is fast on the board?
expected: seconds
space: quickstart
data: {{name: scenes, size: [32, 64], train: 4, val: 2}}
objectives: [miou, latency_ms]
recipe: {{steps: 1, batch_size: 2}}
latency: {{backend: command, command: "{python} bench.py {{onnx}}"}}
trials: 2
"""
# Two published networks, one candidate, and then the board goes away until somebody looks after it.
BENCH = """
import json, pathlib, sys
calls = pathlib.Path("calls")
calls.write_text((calls.read_text() if calls.exists() else "") + "x")
if len(calls.read_text()) > 3 and not pathlib.Path("looked-after").exists():
    sys.exit("no route to host")
size = len(pathlib.Path(sys.argv[1]).read_bytes())
print(json.dumps({"p50": size / 1e6, "p90": size / 1e6, "p99": size / 1e6, "n": 5, "device": "board"}))
"""


@pytest.mark.slow
def test_a_search_measures_on_its_target_and_goes_on_when_it_is_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.py").write_text(BENCH)
    (tmp_path / "board.yaml").write_text(STUDY.format(python=sys.executable))
    study = load_study("board.yaml")
    ended = run_study(study)
    assert "no route to host" in ended.fault
    assert ended.requeued == 1
    assert sorted(trial.state for trial in ended.record.trials) == ["COMPLETE", "FAIL", "WAITING"]
    assert "no route to host" in next(trial.reason for trial in ended.record.trials if trial.state == "FAIL")
    (tmp_path / "looked-after").touch()
    done = [trial for trial in run_study(study).record.trials if trial.state == "COMPLETE"]
    assert len(done) == 2
    assert all(trial.measurement.latency.target == {"device": "board"} for trial in done)
