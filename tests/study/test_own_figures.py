"""Users' own figures: what one that fails costs, and what is said of it."""

from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from nasseg.cli import app
from nasseg.errors import Fault, UserError
from nasseg.files import parse_yaml
from nasseg.records import Measurement
from nasseg.study.search import run_study as search
from nasseg.study.store.read_study import open_record
from nasseg.study.study_file import study_from
from tests.slow import slow
from tests.study.fakes import FakeEngine, make_driver

STUDY = """
question: Does it survive?
expected: seconds
space: quickstart
data: {{name: scenes, size: [32, 64], train: 4, val: 2}}
objectives: [miou, macs, mine]
figures: {{mine: {{function: mine.py:mine, direction: minimize, phase: {phase}}}}}
recipe: {{steps: 1, batch_size: 2}}
latency: {{min_seconds: 0.0, min_replicates: 2, warmup: 1}}
trials: {trials}
workers: 1
"""
LATER = "calls = []\ndef mine(model, measurement):\n    calls.append(1)\n    if len(calls) == 1:\n        return 1.0\n"


@pytest.fixture
def study_of(inline, tmp_path):
    """A study with a figure of this body, whose jobs are done in this process."""

    def study(code, phase="trained", trials=6):
        (tmp_path / "mine.py").write_text(code)
        text = STUDY.format(phase=phase, trials=trials)
        (tmp_path / "tiny.yaml").write_text(text)
        return study_from(parse_yaml(text, tmp_path / "tiny.yaml"), "tiny")

    return study


@pytest.mark.parametrize("phase", ["cost", *[slow(name) for name in ("latency", "trained")]])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return {}['a']\n", r"figure mine \(mine.py:mine, line 2\) raised KeyError: 'a'"),
        ("    pass\n", r"figure mine \(mine.py:mine, line 1\) gave None, which is not a number"),
        ("    return float('nan')\n", "gave nan, which is not a number"),
        ("    return [1.0, 2.0]\n", r"gave \[1.0, 2.0\], which is not a number"),
    ],
    ids=["raises", "none", "nan", "list"],
)
def test_a_figure_is_tried_before_anything_is_paid_for(study_of, tmp_path, phase, body, message):
    study = study_of(f"def mine(model, measurement):\n{body}", phase)
    with pytest.raises(UserError, match=message):
        search.prepare(study, None, 0)
    assert not (tmp_path / "runs").exists()


def test_a_figure_that_is_tried_sees_every_part_and_a_network_with_numbers(study_of):
    search.prepare(
        study_of(
            "def mine(model, m):\n"
            "    assert not model.training and next(model.parameters()).device.type == 'cpu'\n"
            "    return m.cost.macs * m.latency.p50_ms * m.accuracy.miou * len(m.accuracy.class_iou)\n"
        ),
        None,
        0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["cost", "latency", "trained"])
def test_three_networks_in_a_row_without_a_figure_stop_the_search_and_keep_what_was_measured(study_of, phase):
    ended = search.run_study(study_of(LATER, phase))
    assert "figure mine (mine.py:mine, line 2) gave None" in ended.fault
    assert "3 networks in a row" in ended.fault
    failed = [trial for trial in open_record("tiny", None).trials() if trial.user_attrs.get("fault") == Fault.FIGURE]
    assert len(failed) == 3
    for trial in failed:
        assert trial.user_attrs["reason"].startswith("figure mine")
        known = Measurement.from_json(trial.user_attrs["measurement"])
        parts = {"cost": known.cost, "latency": known.latency, "trained": known.accuracy}
        assert parts[phase] is not None
    if phase == "trained":
        assert all(trial.user_attrs["miou"] >= 0 for trial in failed)


class NowAndThen(FakeEngine):
    """Every third training goes without its figure."""

    def wait(self, timeout):
        results = super().wait(timeout)
        failed = len(self.trained()) % 3 == 0
        return [replace(r, fault=Fault.FIGURE, reason="no") if r.kind == "train" and failed else r for r in results]


def test_figures_that_fail_now_and_then_do_not_stop_a_search(tmp_path):
    driver = make_driver(f"sqlite:///{tmp_path}/s.db", engine=NowAndThen(), trials=9)
    assert driver.run() == "all 9 trials are done"
    assert Counter(trial.state.name for trial in driver.record.trials())["FAIL"] == 3


@pytest.mark.slow
def test_a_search_in_which_nothing_is_finished_does_not_exit_with_0(study_of):
    study_of("def mine(model, m):\n    return 1.0 if m.accuracy.miou == 50 else None\n", trials=1)
    done = CliRunner().invoke(app, ["search", "tiny.yaml"])
    assert done.exit_code == 1, done.output
    assert "no network was trained to the end" in done.output
