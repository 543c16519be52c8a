"""The agenda itself, on a CPU: its code must not be what GPU minutes are spent on."""

import csv
import json

import pytest
import torch

from tests.gpu import agenda, does_it_run, latency
from tests.gpu.common import Deadline, Options

TINY = Options("cpu", tiny=True, seconds=1e9)
FULL = Options("cuda", tiny=False, seconds=1e9)


@pytest.fixture
def one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_every_step_runs_small_and_leaves_its_results(one_thread, tmp_path):
    assert agenda.main(["--out", str(tmp_path / "out"), "--device", "cpu", "--tiny"]) == 0
    for step in agenda.STEPS:
        found = json.loads((tmp_path / f"out/{step}.json").read_text())
        with (tmp_path / f"out/{step}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(found["rows"]) > 0
        assert found["environment"]["torch"] == torch.__version__
        assert found["protocol"]
        assert "--tiny" in found["command"]
        assert found["left out for lack of time"] == []
    timed = json.loads((tmp_path / "out/latency.json").read_text())["rows"]
    assert [row["process"] for row in timed] == [1, 1, 2, 2]


def test_a_gpu_that_is_not_here_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        agenda.main(["--out", str(tmp_path)])
    assert "torch sees no CUDA device here; --device cpu --tiny tries the same code" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        agenda.main(["--out", str(tmp_path), "--steps", "lunch"])
    assert "no such step: lunch" in capsys.readouterr().err


class Step:
    """A step that breaks after a row.

    More.
    """

    @staticmethod
    def run(options, deadline):
        yield {"n": 1, "ok": True}
        assert not deadline.allows("two")
        raise RuntimeError("broken")

    summary = staticmethod(lambda rows: {"rows": len(rows)})
    protocol = staticmethod(lambda options: {"device": options.device})


def test_a_step_that_breaks_keeps_its_rows_and_what_it_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(agenda.STEPS, "broken", Step)
    assert agenda.run_step("broken", Options("cpu", tiny=True, seconds=0.0), tmp_path, "a command") == 1
    found = json.loads((tmp_path / "broken.json").read_text())
    assert found["rows"] == [{"n": 1, "ok": True}]
    assert found["left out for lack of time"] == ["two"]
    assert "RuntimeError: broken" in found["summary"]["failed"]


def test_what_does_not_run_says_why():
    found = does_it_run.attempt(lambda: 1 / 0, TINY)
    assert (found["ok"], found["why"]) == (False, "ZeroDivisionError: division by zero")
    assert does_it_run.attempt(lambda: None, TINY)["ok"]


@pytest.mark.slow
def test_what_the_papers_print_of_speed_is_measured_at_their_sizes():
    cells = latency.cells(FULL)
    printed = [cell for cell in cells if cell.printed_fps]
    assert {cell.table.partition("/")[0] for cell in printed} == {"bisenetv2", "stdc", "eseg", "regseg", "dabnet"}
    found = {(cell.table, cell.row): (cell.network, cell.input_size, cell.printed_fps) for cell in printed}
    assert found["bisenetv2/table-8", "BiSeNetV2"] == ("bisenetv2", (720, 960), 124.5)
    assert found["dabnet/table-2a", "DABNet-ERFdecoder"] == ("dabnet-t2-erfnet-decoder", (512, 1024), 58.6)
    assert len({cell.key for cell in cells}) > 80


def test_ratios_are_those_within_a_papers_table():
    times = {"regseg, width 0.25": (10.0, 10.0), "bisenetv2, width 0.25": (20.0, 40.0)}  # of two processes
    same = {"size": "64x128", "classes": 3, "precision": "fp32", "backend": "eager"}
    rows = [
        {"network": network, "process": process, "p50_ms": both[process - 1], **same}
        for process in (1, 2)
        for network, both in times.items()
    ]
    found = latency.summary(rows, TINY)["fp32, eager"]
    assert found["p50 apart, worst"] == pytest.approx(1.0)
    assert found["share within 1 %"] == 0.5
    assert [row["our ratio"] for row in found["papers"]["made-up"]] == pytest.approx([1.0, 10 / 30])


def test_time_that_is_over_begins_nothing():
    assert not list(does_it_run.run(TINY, deadline := Deadline(0.0)))
    assert len(deadline.left_out) > 5
