"""Tables of a small study written by hand: what counts, what does not, and in which order."""

from nasseg.analyse.trials import (
    front_frame,
    networks_trained,
    on_front,
    outcome,
    progress,
    reasons,
    rejections,
    trials_frame,
)
from nasseg.records import (
    Accuracy,
    AccuracyProtocol,
    Cost,
    CostProtocol,
    Environment,
    Measurement,
    Objective,
    StudyRecord,
    TrialRow,
)

ENVIRONMENT = Environment(nasseg="0", commit=None, python="3", torch="2", system="s", cpu="c", cores=1)


def measured(arch_id: str, macs: int, miou: float | None = None) -> Measurement:
    cost = Cost(
        protocol=CostProtocol(input_size=(64, 128), num_classes=2),
        environment=ENVIRONMENT,
        params=macs // 10,
        macs=macs,
        fvcore_flops=macs,
        activations=1,
        field_of_view=31,
    )
    if miou is None:
        return Measurement(arch_id=arch_id, cost=cost)
    protocol = AccuracyProtocol(data="d", data_fingerprint="f", recipe="r", recipe_hash="h", steps=10, seed=0)
    ious = {"road": miou, "sky": None}
    accuracy = Accuracy(
        protocol=protocol, environment=ENVIRONMENT, miou=miou, pixel_accuracy=90.0, class_iou=ious, train_seconds=1.0
    )
    return Measurement(arch_id=arch_id, cost=cost, accuracy=accuracy)


def done(number: int, macs: int, miou: float, **more: object) -> TrialRow:
    row = {"state": "COMPLETE", "arch": {"family": "toy", "width": macs}, "values": {"miou": miou, "macs": float(macs)}}
    return TrialRow(number=number, **{**row, "measurement": measured(f"a{macs}", macs, miou), **more})


RECORD = StudyRecord(
    name="toy",
    question="?",
    objectives=(
        Objective(name="miou", unit="%", direction="maximize"),
        Objective(name="macs", unit="", direction="minimize"),
    ),
    trials=(
        done(0, 100, 50.0),
        done(1, 200, 60.0),
        done(2, 200, 55.0),  # dominated by 1
        done(3, 200, 60.0, reused_from=1),
        TrialRow(
            number=4, state="PRUNED", reason="macs over its limit\nmacs is 9000", measurement=measured("a9000", 9000)
        ),
        TrialRow(number=5, state="PRUNED", reason="macs over its limit\nmacs is 8000"),
        TrialRow(
            number=6,
            state="PRUNED",
            reason="not promoted",
            measurement=measured("a50", 50, 40.0),
            extra={"stopped_at_rung": True},
        ),
        TrialRow(number=7, state="FAIL", reason="out of memory"),
        TrialRow(number=8, state="RUNNING"),
        TrialRow(number=9, state="COMPLETE", values={"miou": float("nan"), "macs": 1.0}),
        TrialRow(
            number=10,
            state="PRUNED",
            reason="not promoted",
            measurement=measured("a50", 50, 40.0),
            reused_from=6,
            extra={"stopped_at_rung": True},
        ),
        # Over a limit that only training could tell.
        TrialRow(number=11, state="PRUNED", reason="miou under its limit", measurement=measured("a40", 40, 1.0)),
    ),
)


def test_outcomes() -> None:
    expected = ["finished"] * 3 + ["reused"] + ["rejected"] * 2 + ["stopped", "failed", "running", "finished"]
    expected += ["reused", "rejected"]
    assert [outcome(trial) for trial in RECORD.trials] == expected
    assert progress(RECORD) == {
        "finished": 4,
        "stopped": 1,
        "rejected": 3,
        "failed": 1,
        "reused": 2,
        "running": 1,
        "waiting": 0,
    }
    assert networks_trained(RECORD) == 4  # a100, a200 (three times), a50, a40


def test_reasons_are_counted_by_their_first_line() -> None:
    assert rejections(RECORD) == {"macs over its limit": 2, "miou under its limit": 1}
    assert reasons(RECORD, "failed") == {"out of memory": 1}
    assert reasons(RECORD, "stopped") == {"not promoted": 1}


def test_front_holds_no_copies_no_stopped_trials_and_no_nan() -> None:
    assert on_front(RECORD).tolist() == [True, True] + [False] * 10
    assert front_frame(RECORD)["number"].tolist() == [1, 0]  # best miou first


def test_trials_frame() -> None:
    frame = trials_frame(RECORD)
    assert frame.columns.tolist() == [
        "number",
        "family",
        "state",
        "miou",
        "macs",
        "params",
        "latency_ms",
        "on_front",
        "over_limit",
        "disturbed",
        "reason",
        "reused_from",
        "rung",
        "seed",
        "arch_id",
        "arch",
    ]
    assert frame.loc[1, ["family", "state", "miou", "macs", "params"]].tolist() == [
        "toy",
        "COMPLETE",
        60.0,
        200.0,
        20.0,
    ]
    assert frame.loc[3, "reused_from"] == 1
    assert frame.loc[1, "arch"] == '{"width": 200}'
    assert frame.loc[4, "macs"] == 9000.0  # known from the measurement, though the trial has no values
    assert frame["latency_ms"].isna().all()


def test_empty_study() -> None:
    empty = StudyRecord(name="n", question="q", objectives=RECORD.objectives)
    assert len(trials_frame(empty)) == len(front_frame(empty)) == 0
    assert rejections(empty) == {}
