"""Check which networks of a search are finished, and what is said of them on the page and in the frame."""

from dataclasses import replace

import pytest

from nasseg.analyse.finished import finished_frame
from nasseg.errors import UserError
from nasseg.records import Objective, StudyRecord, TrialRow
from nasseg.report.sections.finished import finished_table
from nasseg.study.finish.members import front_members
from tests.study import leaving


def trial(number, miou, macs, state="COMPLETE", arch_id=None, **more):
    measurement = leaving.measured()
    measurement = replace(
        measurement,
        arch_id=arch_id or str(number),
        cost=replace(measurement.cost, macs=macs),
        accuracy=replace(measurement.accuracy, miou=miou),
    )
    values = {"miou": miou, "macs": float(macs)} if state == "COMPLETE" else {}
    return TrialRow(number=number, state=state, values=values, measurement=measurement, **more)


def test_the_front_within_the_limits():
    objectives = tuple(
        Objective(name=name, unit="", direction=direction)
        for name, direction in (("miou", "maximize"), ("macs", "minimize"))
    )
    trials = (
        trial(0, 50, 100),
        trial(1, 40, 100),  # dominated
        trial(2, 60, 200),
        trial(3, 60, 200, reused_from=2),
        trial(4, 99, 90, state="FAIL"),
        trial(5, 99, 201),  # over the limit, as a published network may be
        trial(6, 50, 100, arch_id="0"),  # the same network again
        trial(7, 0.5, 10, extra={"published": "regseg"}),  # under the limit of mIoU
    )
    limits = {"macs": {"max": 200}, "miou": {"min": 1.0}}
    record = StudyRecord(name="s", question="", objectives=objectives, limits=limits, trials=trials)
    assert [member.number for member in front_members(record)] == [0, 2]
    assert [member.number for member in front_members(replace(record, limits={}))] == [0, 2, 5, 7]
    with pytest.raises(UserError, match="no trained network of s keeps its limits"):
        front_members(replace(record, limits={"macs": {"max": 1}}))
    with pytest.raises(UserError, match="finish s"):
        front_members(replace(record, name="s@finish"))


def test_the_frame_joins_with_the_search():
    rows = []
    for number, (arch_id, best, test) in enumerate([("a", 50.0, 48.0), ("a", 52.0, 44.0), ("b", 60.0, None)]):
        extra = {"of_trial": {"a": 7, "b": 9}[arch_id], "best_miou": best} | ({"test_miou": test} if test else {})
        rows.append(trial(number, best - 1, 100, arch_id=arch_id, extra=extra, arch={"family": "regseg"}))
    objectives = (Objective(name="miou", unit="%", direction="maximize"),)
    finished = StudyRecord(name="s@finish", question="", objectives=objectives, trials=tuple(rows))
    search = StudyRecord(name="s", question="", objectives=objectives, trials=(trial(7, 33.0, 100),))
    frame = finished_frame(finished, search).set_index("arch_id")
    assert list(frame.index) == ["a", "b"]  # by the held-out split
    assert frame.loc["a", ["seeds", "miou", "best_miou", "test_miou"]].tolist() == [2, 50, 51, 46]
    assert frame.loc["a", "test_miou_sd"] == pytest.approx(8**0.5)
    assert frame.loc["a", "searched_miou"] == 33
    assert frame.loc["b", ["test_miou", "best_miou_sd", "searched_miou"]].isna().all()
    page = finished_table(finished)
    assert "from 1 to 2 seeds per network, mean and standard deviation." in page
    assert "the test split was used once" in page
    only_val = [replace(row, extra={key: row.extra[key] for key in ("of_trial", "best_miou")}) for row in rows]
    page = finished_table(replace(finished, trials=tuple(only_val)))
    assert "est weights, test" not in page
    assert "and there is no other" in page
    assert finished_frame(search).empty is False
    assert finished_frame(replace(search, trials=())).empty
