"""The agenda itself, on a CPU: its code must not be what GPU minutes are spent on."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import nasseg
from tests import ROOT
from tests.gpu import agenda, common
from tests.gpu.common import Options
from tests.gpu.steps import clock_ramp, ground, lock, networks, printed
from tests.slow import slow

TINY = Options("cpu", tiny=True)
FULL = Options("cuda", tiny=False)

BARE = f"""
import sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(set(agenda.WHEELS) - {"yaml", "scipy"})!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Lacking())
"""


def run(results, *words, **environment):
    """Run the agenda as its reader does, in a process of its own; return it and the rows of its file."""
    command = [sys.executable, "-m", "tests.gpu.agenda", "--results", results, "--device", "cpu", "--tiny", *words]
    environment = {**os.environ, "NASSEG_LOCKS": f"{results}.locks", **environment}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done, rows_of(results) if results.exists() else []


def rows_of(results):
    return [json.loads(line) for line in results.read_text().splitlines()]


def test_its_steps_fit_into_the_time():
    assert sum(agenda.STEPS.values()) <= 24 * 60
    assert {path.stem for path in (ROOT / "tests/gpu/steps").glob("[a-z]*.py")} == {*agenda.STEPS, *agenda.MORE}


@pytest.mark.slow
@pytest.mark.parametrize("step", [*agenda.STEPS, *agenda.MORE])
def test_every_step_runs_small_and_is_not_run_twice(step, tmp_path, monkeypatch):
    done, rows = run(tmp_path / "results.jsonl", "--steps", step)
    assert done.returncode == 0, done.stdout + done.stderr
    *measured, end = rows
    assert len({row["key"] for row in measured}) == len(measured) > 0
    assert not [row for row in measured if row.get("ok") is False]
    assert (end["key"], end["could not"], end["left out for lack of time"]) == ("end", [], [])
    assert end["summary"]
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    again = ["--results", str(tmp_path / "results.jsonl"), "--device", "cpu", "--tiny", "--alone", step]
    assert agenda.main(again) == 0
    assert [row["key"] for row in rows_of(tmp_path / "results.jsonl")[len(rows) :]] == ["end"]


@pytest.fixture
def bare(tmp_path):
    """PYTHONPATH for a machine that has torch, and neither nasseg installed nor what the wheels bring."""
    (tmp_path / "sitecustomize.py").write_text(BARE)
    return os.pathsep.join([str(tmp_path), str(ROOT)])


@pytest.mark.slow
def test_a_bare_machine_can_build_and_time_networks(bare, tmp_path):
    code = "import sys, nasseg.measure.latency.in_turns, tests.gpu.steps.ground, tests.gpu.steps.lock\n"
    code += "from nasseg.measure.environment import environment; print(environment().nasseg)"
    environment = {**os.environ, "PYTHONPATH": bare}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{nasseg.__version__}\n", done.stderr


@pytest.mark.slow
def test_a_bare_machine_measures_what_it_can(bare, tmp_path):
    """What needs a package that is not there says so; the rest is measured."""
    done, rows = run(tmp_path / "results.jsonl", "--steps", "ground", PYTHONPATH=bare)
    assert "not here, and what needs them will fail: pydantic" in done.stdout
    found = {row["key"]: row for row in rows}
    assert "No module named 'pydantic'" in found["regseg, a step of training"]["failed"]
    assert found["regseg, eager"]["ok"]
    assert found["device"]["environment"]["torch"] == torch.__version__
    assert found["end"]["could not"] == [key for key, row in found.items() if "failed" in row]
    assert done.returncode == 1


def step_of(monkeypatch, items):
    """Put a step of these items in place of `ground`."""
    module = SimpleNamespace(
        items=lambda _options: iter(items.items()), summary=lambda rows, _options: {"n": len(rows)}
    )
    monkeypatch.setattr(common, "importlib", SimpleNamespace(import_module=lambda _name: module))


def given(tmp_path):
    return SimpleNamespace(device="cpu", tiny=True, data=None, results=tmp_path / "results.jsonl")


def rows(tmp_path):
    return rows_of(tmp_path / "results.jsonl")


def test_a_failure_costs_one_item_and_is_tried_again(tmp_path, monkeypatch):
    step_of(monkeypatch, {"a": lambda: {"n": 1}, "b": lambda: 1 / 0, "c": lambda: {"n": 3}})
    assert common.run_step("ground", given(tmp_path), 1e3) == 1
    assert [row.get("failed", row.get("n")) for row in rows(tmp_path)] == [
        1,
        "ZeroDivisionError: division by zero",
        3,
        None,
    ]
    step_of(monkeypatch, {"a": lambda: 1 / 0, "b": lambda: {"n": 2}, "c": lambda: 1 / 0})
    assert common.run_step("ground", given(tmp_path), 1e3) == 0
    assert [row["key"] for row in rows(tmp_path)[4:]] == ["b", "end"]
    assert rows(tmp_path)[-1]["summary"] == {"n": 3}


def test_time_that_is_over_begins_nothing(tmp_path, monkeypatch):
    step_of(monkeypatch, {"a": lambda: {"n": 1}})
    assert common.run_step("ground", given(tmp_path), 0.0) == 0
    assert rows(tmp_path)[-1]["left out for lack of time"] == ["a"]


def test_results_of_another_device_or_a_cut_line_do_not_count(tmp_path):
    results = tmp_path / "results.jsonl"
    known = {"step": "ground", "key": "a", "device": "cpu", "tiny": True}
    lines = [known, {**known, "device": "cuda", "key": "b"}, {**known, "tiny": False, "key": "c"}]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": "gro')
    assert [*common.rows_of(results, "ground", TINY)] == ["a"]


def test_a_step_is_killed_when_its_time_is_over(tmp_path):
    results = tmp_path / "results.jsonl"
    passed = ["--results", str(results), "--device", "cpu", "--tiny"]
    assert agenda.apart("ground", passed, results, 0.2) == 1
    assert rows(tmp_path)[-1] == {"step": "ground", "key": "end", "failed": "killed after 0.2 s"}


def test_a_gpu_that_is_not_here_and_a_step_that_does_not_exist_are_said(tmp_path, capsys):
    with pytest.raises(SystemExit):
        agenda.main(["--results", str(tmp_path / "r.jsonl"), "--steps", "lunch"])
    assert "no such step: lunch; there are ground, clock_ramp" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        agenda.main([])
    assert "--results FILE is needed" in capsys.readouterr().err


def test_the_wheels_to_carry_are_named(capsys, monkeypatch):
    monkeypatch.setattr(agenda, "_there", lambda module: module != "fvcore")
    assert agenda.main(["--lacking"]) == 0
    assert capsys.readouterr().out == "fvcore iopath yacs portalocker\n"


@pytest.mark.slow
def test_what_the_papers_print_of_speed_is_measured_at_their_sizes():
    cells = printed.cells(FULL)
    assert {cell.table.partition("/")[0] for cell in cells} == {"bisenetv2", "stdc", "eseg", "regseg", "dabnet"}
    found = {(cell.table, cell.row): (cell.network, cell.input_size, cell.printed_fps) for cell in cells}
    assert found["bisenetv2/table-8", "BiSeNetV2"] == ("bisenetv2", (720, 960), 124.5)
    assert found["dabnet/table-2a", "DABNet-ERFdecoder"] == ("dabnet-t2-erfnet-decoder", (512, 1024), 58.6)


def test_ratios_are_those_within_a_papers_table():
    keys = [f"{cell.key}, fp32 eager" for cell in printed.cells(TINY)]
    found = printed.summary({key: {"p50_ms": ms} for key, ms in zip(keys, (10.0, 30.0), strict=True)}, TINY)
    assert [row["our ratio"] for row in found["fp32 eager"]["made-up"]] == pytest.approx([1.0, 10 / 30])


def test_processes_that_agree_are_seen_to():
    times = {"process 1, a": 1.0, "process 1, b": 2.0, "process 2, a": 1.005, "process 2, b": 2.0}
    found = clock_ramp.summary({key: dict.fromkeys(clock_ramp.WARM_UPS, ms) for key, ms in times.items()}, TINY)
    assert found["2 s"]["apart, worst"] == pytest.approx(0.005)
    assert found["2 s"]["ok"]
    times["process 2, a"] = 3.0
    found = clock_ramp.summary({key: dict.fromkeys(clock_ramp.WARM_UPS, ms) for key, ms in times.items()}, TINY)
    assert not found["2 s"]["ok"]
    assert found["2 s"]["Kendall tau, least"] == -1


def test_neighbours_are_compared_with_being_alone():
    alone, beside = (f"regseg, {how}" for how in lock.HOW[:2])
    found = lock.summary({alone: {"p50_ms": 2.0}, beside: {"p50_ms": 5.0, "disturbed": True}}, TINY)
    assert found == {beside: {"over alone": 2.5, "marked": True}}


def test_a_loss_that_differs_is_not_ok():
    rows = {"regseg, a step of training": {"ok": False}, "regseg, eager": {"p50_ms": 2.0, "wall_ms": 2.5, "ok": True}}
    found = ground.summary(rows, TINY)
    assert found == {"events / wall clock": {"regseg, eager": 0.8}, "not ok": ["regseg, a step of training"]}


@pytest.mark.parametrize("name", ["stdc1", slow("stdc2-f7-blocks-2")])
def test_classifiers_are_checked_by_their_own_shape(name):
    from nasseg.families import make_arch, variants

    assert name in variants()
    networks.forward(make_arch(name), TINY)
    networks.backward(make_arch(name), TINY)
