"""Test that the examples run."""

import json

from nasseg.study import opened
from tests import ROOT
from tests.report.fake import fake_record


def test_the_notebook_reads_a_study(monkeypatch):
    record = fake_record(120)
    asked = []
    monkeypatch.setattr(opened, "read_study", lambda name, storage: asked.append(name) or record)
    cells = json.loads((ROOT / "examples" / "read-a-study.ipynb").read_text())["cells"]
    assert len(cells) == 15
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile(cell["source"], cell["id"], "exec"), names)
    assert asked == ["quickstart"]
    assert names["within"]["latency_ms"].max() <= names["budget_ms"]
    assert names["best"]["miou"] == names["finished"]["miou"].max()
    assert set(names["classes"]) >= {"road", "person"}
