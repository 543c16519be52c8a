"""What was spent and saved: a study of halving written by hand, and a trend that is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from nasseg.analyse.compute_spent import compute_of, finishing_order, since
from nasseg.analyse.trials import on_front
from nasseg.errors import UserError
from nasseg.records import StudyRecord, TrialRow
from tests.analyse.networks import MACS, MIOU, network, study
from tests.command_line import nasseg

STOP = {"stopped_at_rung": True}


def trained(number: int, rung: int, steps: int, seconds: float, miou: float, **more: object) -> TrialRow:
    """A network whose macs follow from no number: 1e6 each, unless given."""
    macs = float(more.pop("macs", 1e6))  # type: ignore[arg-type]
    row = network(number, {"a": number}, miou, macs, rung=rung, **more)
    accuracy = replace(
        row.measurement.accuracy,
        train_seconds=seconds,
        protocol=replace(row.measurement.accuracy.protocol, steps=steps),
    )
    stopped = {"state": "PRUNED", "values": {}} if row.extra.get("stopped_at_rung") else {}
    ended = f"2026-03-{number + 1:02}T12:00:00"
    times = {"started": f"2026-03-{number + 1:02}T11:00:00", "finished": ended}
    return replace(row, measurement=replace(row.measurement, accuracy=accuracy), **times, **stopped)


HALVING = study(
    [
        trained(0, 0, 100, 10.0, 30.0, extra=STOP),
        trained(1, 0, 100, 12.0, 35.0, extra=STOP),
        trained(2, 0, 100, 8.0, 20.0, extra=STOP),
        trained(3, 1, 300, 33.0, 45.0, extra={**STOP, "continues": 1}),
        trained(4, 2, 900, 101.0, 60.0, extra={"continues": 3}),
        trained(5, 2, 900, 101.0, 60.0, reused_from=4),
        trained(6, 0, 100, 8.0, 20.0, reused_from=2, extra=STOP),
        TrialRow(
            number=7, state="PRUNED", reason="macs", started="2026-03-08T11:00:00", finished="2026-03-08T12:00:00"
        ),
        TrialRow(number=8, state="RUNNING", rung=1, extra={"continues": 0}, started="2026-03-09T11:00:00"),
    ],
    extra={"searched_seconds": 7200.0, "price_per_hour": 3.0},
)


def test_spent_and_saved_by_hand() -> None:
    found = compute_of(HALVING)
    assert found.trained == 10 + 12 + 8 + (33 - 12) + (101 - 33)
    assert found.by_duplicates == 101 + 8  # each took that much the first time
    assert found.by_halving == 8 * 9 - 8  # trial 2 alone waits; trial 0 goes on
    # No trend in five networks of one size: what the mean one takes to the end.
    assert found.by_limits == pytest.approx((90 + 108 + 72 + 99 + 101) / 5)
    assert found.saved == found.by_duplicates + found.by_halving + found.by_limits
    assert (found.searched, found.money) == (7200.0, 6.0)
    nothing = compute_of(StudyRecord(name="n", question="q", objectives=(MIOU, MACS)))
    assert (nothing.trained, nothing.saved, nothing.searched, nothing.money) == (0, 0, None, None)


def test_a_promotion_that_failed_leaves_its_network_waiting() -> None:
    failed = replace(HALVING.trials[8], state="FAIL", reason="interrupted: the search was stopped")
    found = compute_of(replace(HALVING, trials=(*HALVING.trials[:8], failed)))
    assert found.by_halving == (8 * 9 - 8) + (10 * 9 - 10)


def test_what_limits_saved_follows_the_size_of_what_they_rejected() -> None:
    done = [trained(n, 0, 100, 10.0 + 5 * n, 40.0, macs=1e6 * (1 + n)) for n in range(10)]  # 5 + 5 a million
    large = replace(network(10, {"a": 1}, 0.0, 30e6), state="PRUNED", values={}, reason="macs")
    large = replace(large, measurement=replace(large.measurement, accuracy=None))
    assert compute_of(study([*done, large])).by_limits == pytest.approx(155.0)
    over = trained(11, 0, 100, 60.0, 1.0, macs=11e6, state="PRUNED", values={}, reason="miou")
    assert compute_of(study([*done, over])).by_limits == 0  # it was trained


def test_partial_trials_are_on_no_front() -> None:
    assert on_front(HALVING).tolist() == [False] * 4 + [True] + [False] * 4


def test_what_came_since_a_date() -> None:
    more = trained(9, 2, 900, 90.0, 70.0, macs=5e5)
    record = replace(HALVING, trials=(*HALVING.trials, more))
    found = since(record, "2026-03-06")
    assert found.new_front == (9,)
    assert found.trials == 4  # the running one has not ended
    assert found.compute.trained == 90.0
    assert found.compute.searched == pytest.approx(7200 * 90 / (119 + 90))
    assert found.compute.by_duplicates == 109
    assert 0 < found.before < found.now <= 1
    assert since(record, datetime(2026, 3, 30)).new_front == ()
    here = datetime(2026, 3, 6).astimezone()  # records have local time
    for zone in (UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=9))):
        assert since(record, here.astimezone(zone)) == found
        assert since(record, here.astimezone(zone).isoformat()) == found
    first = since(record, "2026-03-01")
    assert (first.before, set(first.new_front)) == (0.0, {9})
    with pytest.raises(UserError, match="2026-03-02"):
        since(record, "yesterday")
    empty = since(replace(HALVING, trials=()), "2026-03-01")
    assert (empty.trials, empty.before, empty.now, empty.new_front) == (0, None, None, ())


def test_in_the_order_in_which_trials_ended() -> None:
    trials = list(HALVING.trials)
    trials[0] = replace(trials[0], finished="2026-03-05T18:00:00")  # after trial 4
    found = finishing_order(replace(HALVING, trials=tuple(trials)))
    assert [row for row, _, _ in found] == [1, 2, 3, 4, 0, 5, 6, 7]
    assert [round(3600 * spent) for _, spent, _ in found] == [12, 20, 41, 109, 119, 119, 119, 119]
    assert [hours for _, _, hours in found][:2] == [25.0, 49.0]


def test_status_says_how_many_stopped_trials_went_on(monkeypatch) -> None:
    monkeypatch.setattr("nasseg.study.store.read_study.read_study", lambda *_: HALVING)
    said = nasseg("status", "tiny", cwd=".").stdout.splitlines()
    assert said[1] == "3 of those that stopped at a rung went on from there, each as a new trial"
