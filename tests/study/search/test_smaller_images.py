"""Which size of the images would keep a limit on latency: said by a dry run that finds that none does now."""

from types import SimpleNamespace

import pytest

from nasseg.families import make_arch
from nasseg.files import parse_yaml
from nasseg.measure.environment import environment
from nasseg.records import Latency, LatencyProtocol
from nasseg.study.search import smaller_images
from nasseg.study.search.dry_run import preview
from nasseg.study.search.smaller_images import fitting_size
from nasseg.study.study_file import study_from
from tests.command_line import nasseg

STUDY = """
question: Does any network keep it?
expected: seconds
space: quickstart
data: {name: scenes, size: [64, 128], train: 4, val: 2}
objectives: [miou, latency_ms]
limits: {latency_ms: {max: 0.0001}}
recipe: {steps: 2, batch_size: 2}
latency: {min_seconds: 0.0, min_replicates: 2, warmup: 1}
trials: 3
"""


@pytest.fixture
def a_nanosecond_a_pixel(monkeypatch):
    def measure(_arch, protocol, _guard):
        ms = protocol.input_size[0] * protocol.input_size[1] / 1e6
        return Latency(protocol=protocol, environment=environment(), p50_ms=ms, p90_ms=ms, p99_ms=ms, iqr_ms=0.0, n=1)

    monkeypatch.setattr(smaller_images, "measure_latency", measure)


def workshop():
    latency = LatencyProtocol(device="cpu", input_size=(384, 512), num_classes=3)
    return SimpleNamespace(context=SimpleNamespace(latency=latency), latency_lock=SimpleNamespace(measuring=None))


def test_the_largest_size_that_keeps_the_limit_is_found(a_nanosecond_a_pixel):
    told = []
    assert fitting_size(make_arch("regseg"), 0.05, workshop(), told.append) == ((192, 256), pytest.approx(0.049152))
    assert told[-1] == "timing the smallest network on images of 192 x 256"
    assert fitting_size(make_arch("regseg"), 0.001, workshop()) is None


@pytest.mark.slow
def test_a_dry_run_in_which_no_network_keeps_the_limit_says_what_to_do(a_nanosecond_a_pixel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nasseg.study.search.dry_run.DRAWN", 3)
    study, told = study_from(parse_yaml(STUDY, tmp_path / "tiny.yaml"), "tiny"), []
    found = preview(study, tell=told.append)
    assert found.lines()[-1] == "no size down to an eighth keeps 0.0001 ms: narrow the space to smaller networks"
    study.limits["latency_ms"]["max"] = 0.003  # ms: the networks take more, and this clock says 2.05 for 32 x 64
    found = preview(study)
    assert found.lines()[-1].startswith("on images of 32 x 64 the fastest of them takes 0.00205 ms")
    assert found.lines()[-1].endswith("set `size: [32, 64]` under `data` in the study file")
    assert told[0].startswith("drawing and costing")
    assert "timing 1 of 3 that keep the limits on cost" in told


def test_a_dry_run_in_a_pipe_tells_each_step(a_nanosecond_a_pixel, tmp_path, monkeypatch):
    monkeypatch.setattr("nasseg.study.search.dry_run.DRAWN", 2)
    monkeypatch.setattr("nasseg.study.search.dry_run.TIMED", 1)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    told = nasseg("search", "tiny.yaml", "--dry-run", cwd=tmp_path).stdout
    steps = [
        "drawing and costing 2 candidates",
        "timing 1 of 1 that keep the limits on cost",
        "some candidates that it",
    ]
    assert [told.index(step) for step in steps] == sorted(told.index(step) for step in steps)
