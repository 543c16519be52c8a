"""Folders that cannot be written, as /sys is even for root: one message, exit code 2, and nothing is lost."""

import sys

import pytest

from nasseg.study.store.read_study import read_study
from tests.command_line import nasseg, refused

STUDY = """
question: Does it survive?
expected: seconds
space: quickstart
data: {name: scenes, size: [32, 64], train: 4, val: 2}
objectives: [miou, macs]
recipe: {steps: 2, batch_size: 2}
latency: {min_seconds: 0.0, min_replicates: 2, warmup: 1}
trials: 1
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /sys here")


@pytest.fixture
def search(tmp_path, inline):
    (tmp_path / "s.yaml").write_text(STUDY)
    return "search", "s.yaml"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--storage=sqlite:////sys/s.db", "cannot open storage sqlite:////sys/s.db: "),
        ("--storage=/sys/s.log", "cannot open storage /sys/s.log: "),
        ("--storage=sqlite:////sys/new/s.db", "cannot make the folder of /sys/new/s.db: "),
        ("--runs=/sys/runs", "cannot write weights into /sys/runs/s: "),
    ],
)
def test_where_nothing_can_be_kept_a_search_does_not_begin(search, option, message):
    assert message in refused(*search, option)


@pytest.mark.slow
def test_a_report_that_cannot_be_written_loses_no_trial(search, tmp_path):
    assert "cannot write /sys/report.html: " in refused(*search, "-o", "/sys/report.html")
    assert [trial.state for trial in read_study("s").trials] == ["COMPLETE"]
    assert "cannot write /sys/report.html: " in refused("report", "s", "-o", "/sys/report.html")
    nasseg("report", "s", cwd=tmp_path)
