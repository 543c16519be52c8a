"""Latency columns: one session a table, kept under its protocol, read again and not measured twice."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

from nasseg.records import LatencyProtocol
from nasseg.tables import time_rows
from nasseg.tables.fill import measured
from nasseg.tables.table_file import load_table
from nasseg.tables.table_store import records
from nasseg.tables.time_rows import time_table
from tests.tables.two_rows import TWO_ROWS, table

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_rows, "ON_CPU", {**time_rows.ON_CPU, "min_seconds": 0.0})


@pytest.mark.slow
def test_latency_columns_share_a_session_that_is_reused(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    time_table(table(), "cpu", nullcontext)
    comparison = measured(table())
    ms, fps = (comparison.cell("wide", column) for column in ("ms", "fps"))
    assert fps.ours == pytest.approx(1e3 / ms.ours)
    assert "median of 5 rounds" in ms.protocol
    assert "32 x 64" in ms.protocol
    assert [(one.quantity, one.kind, one.rows) for one in comparison.answers] == [
        ("time (cpu, fp32)", "ratio", 2),
        ("FPS (cpu, fp32)", "ratio", 2),
    ]
    assert "needs Cityscapes" in comparison.cell("wide", "miou").reason
    (record,) = records("mine/table-0", None)
    assert record.name == "mine/table-0@latency"
    assert len(record.trials(TrialState.COMPLETE)) == 2

    monkeypatch.setattr(time_rows, "compare_latency", None)  # whoever measures again fails
    time_table(table(), "cpu", nullcontext)
    path = Path.cwd() / "studies/mine/table-0.yaml"
    path.write_text(TWO_ROWS.replace("width: 0.25", "width: 0.75"))
    with pytest.raises(TypeError):  # a ratio needs one session: all rows are timed again
        time_table(table(), "cpu", nullcontext)


@pytest.mark.slow
def test_among_other_peoples_networks_our_rows_alone_answer_nothing(quick: None) -> None:
    cited = "".join(f"  - {{name: other {n}, cited: true, printed: {{ms: '{n}', fps: '9'}}}}\n" for n in range(2))
    time_table(table(), "cpu", nullcontext)
    (Path.cwd() / "studies/mine/table-0.yaml").write_text(TWO_ROWS + cited)
    of_ms, of_fps = (one.sentence for one in measured(table()).answers)
    assert "undecided, because 3 of 5 rows are not measured" in of_ms
    assert "undecided, because 2 of 4 rows are not measured" in of_fps


@pytest.mark.slow
def test_a_session_is_of_one_protocol(quick: None) -> None:
    time_table(table(), "cpu", nullcontext)
    (record,) = records("mine/table-0", None)
    column = table().file.columns["ms"]
    wanted = {row: timed.id for row, timed in time_rows.networks(table(), column).items()}
    protocol = time_rows.protocol_of(table(), column, "cpu")
    assert time_rows.session(record, wanted, protocol)
    assert not time_rows.session(record, wanted, replace(protocol, threads=2))


def test_a_block_is_timed_alone(quick: None) -> None:
    column = load_table("regseg/table-1").file.columns["milliseconds"]
    timed = time_rows.networks(load_table("regseg/table-1"), column)
    assert list(timed) == ["Y block", "D block(1,4)", "D block(1,10)"]
    assert len({part.id for part in timed.values()}) == 3
    part = timed["Y block"]
    model = replace(part, size=(64, 128)).build(19)
    assert tuple(model.map.shape) == (1, 256, 4, 8)
    assert tuple(model(torch.zeros(1)).shape) == (1, 256, 4, 8)


def test_the_papers_protocol_on_a_gpu() -> None:
    column = load_table("eseg/table-6").file.columns["fps"]
    protocol = time_rows.protocol_of(load_table("eseg/table-6"), column, "cuda")
    assert (protocol.precision, protocol.backend, protocol.input_size) == ("fp16", "cuda-graph", (1024, 2048))
    assert isinstance(protocol, LatencyProtocol)
    assert time_rows.protocol_of(load_table("eseg/table-6"), column, "cpu").precision == "fp32"
