"""The study that init writes fits the data, the machine and what the user asks."""

import pytest
import yaml

from nasseg.data.init import machine, study
from nasseg.data.init.machine import Machine, draw, measure_machine, step_seconds
from nasseg.data.init.study import Wishes, read_latency, study_text
from nasseg.errors import UserError
from nasseg.space import load_space

COUNTS = {"train": 80, "val": 20}


@pytest.fixture
def fast(monkeypatch):
    """A machine on which networks take 8, 12 and 20 ms and a step a quarter of a second."""
    monkeypatch.setattr(study, "measure_machine", lambda *_: Machine("cpu", 2, (8.0, 12.0, 20.0), 0.25))


def written(sizes, wishes=None, counts=COUNTS):
    text, lines = study_text("mine", {"name": "mine"}, sizes, counts, 3, wishes or Wishes())
    return yaml.safe_load(text), "\n".join(lines)


def test_without_a_budget_there_is_no_limit_and_a_line_says_so(fast):
    content, told = written([(360, 480)])
    assert "limits" not in content
    assert "no latency budget is given, so no network is rejected for its latency: --latency 12ms sets one" in told
    assert content["hours"] == 2
    assert content["workers"] == 2
    assert "size" not in content["data"]


def test_a_budget_is_a_limit(fast):
    content, told = written([(360, 480)], Wishes(latency_ms=15))
    assert content["limits"] == {"latency_ms": {"max": 15}}
    assert "half of the networks keep it at 480 x 360" in told


def test_a_budget_that_the_size_misses_makes_images_smaller(fast):
    content, told = written([(360, 480)], Wishes(latency_ms=3))
    height, width = content["data"]["size"]
    assert 12.0 * height * width / (360 * 480) <= 1.5 * 3
    assert content["recipe"]["crop_size"] == [min(height, 256), min(width, 512)]
    assert f"so images are seen at {width} x {height}" in told


def test_a_budget_that_no_size_meets_says_which_one_would_be(fast):
    _, told = written([(96, 128)], Wishes(latency_ms=0.5))
    assert "the smallest size, still about 4 ms: give --latency 4ms or more, or another device" in told


@pytest.mark.parametrize("hours", [0.25, 1.0, 8.0])
def test_the_hours_bound_the_search(fast, hours):
    content, _ = written([(360, 480)], Wishes(hours=hours), {"train": 3_000, "val": 500})
    trained = (8 + (content["trials"] - 8) * 0.42) * content["recipe"]["steps"] * 0.25 / content["workers"]
    assert trained <= hours * 3600
    assert content["hours"] == hours
    first, second = content["halving"]["rungs"]
    assert 0 < first < second < content["recipe"]["steps"]
    assert (content["sampler"], content["halving"]["straight"]) == ("ehvi", 0.5)  # DEFAULT of the replay


def test_few_images_are_not_trained_on_for_hours(fast):
    content, _ = written([(360, 480)], counts={"train": 6, "val": 2})
    assert content["recipe"]["steps"] == 200
    assert content["recipe"]["batch_size"] == 3


def test_images_of_many_sizes_are_seen_at_the_middle_one(fast):
    content, told = written([(300, 400), (310, 410), (900, 1300)])
    assert content["data"]["size"] == [320, 416]
    assert "networks see images at 416 x 320, keeping their ratio" in told


def test_huge_images_are_made_smaller(fast):
    content, _ = written([(6000, 8000)])
    assert max(content["data"]["size"]) <= 2_048


@pytest.mark.parametrize(("text", "value"), [("12ms", 12), ("12", 12), (" 7.5 ms", 7.5), ("0.02s", 20), (".5ms", 0.5)])
def test_a_latency_in_words(text, value):
    assert read_latency(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["fast", "0ms", "-3", "12 kg", "nan"])
def test_what_is_no_latency(text):
    with pytest.raises(UserError, match="a latency budget is a time such as 12ms"):
        read_latency(text)


@pytest.mark.slow
def test_a_machine_is_measured():
    found = measure_machine("quickstart", (64, 96), (32, 64), 2, 3)
    assert found.device in ("cpu", "cuda")
    assert found.workers >= 1
    assert 0 < found.latencies_ms[0] <= found.latencies_ms[1] <= found.latencies_ms[2]
    assert found.step_seconds > 0


@pytest.mark.slow
def test_a_small_a_middle_and_a_large_network_are_drawn():
    small, middle, large = (
        sum(p.numel() for p in arch.build(2).parameters()) for arch in draw(load_space("quickstart"))
    )
    assert small < middle < large
    assert machine.median((1.0, 2.0, 9.0)) == 2.0
    assert step_seconds(draw(load_space("quickstart"))[0], (32, 64), 2, 2, "cpu") > 0
