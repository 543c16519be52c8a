import pytest

from nasseg.words import counted, differences, duration, number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (45, "45 s"),
        (59.7, "1 min 00 s"),
        (750, "12 min 30 s"),
        (11_700, "3 h 15 min"),
        (7.2e6, "2,000 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(4.9144e9, "", "4.914 G"), (57.123, "%", "57.12 %"), (13.25, "ms", "13.25 ms"), (21_400_000, "B", "21.4 MB")],
)
def test_numbers(value, unit, text):
    assert number(value, unit) == text


def test_counts():
    assert [counted(n, "network") for n in (0, 1, 1204)] == ["0 networks", "1 network", "1,204 networks"]


def test_only_what_differs_is_told():
    before = {"recipe": {"steps": 3, "batch_size": 2, "loss": {"name": "ce", "weight": 1}}, "limits": ["macs"]}
    now = {"recipe": {"steps": 4, "batch_size": 2, "loss": {"name": "ce"}}, "limits": ["macs"], "rungs": [1]}
    assert differences(before, now) == (
        "recipe.loss.weight: it has 1, now None; recipe.steps: it has 3, now 4; rungs: it has None, now [1]"
    )
    assert differences(before, before) == ""
