"""Studies beside each other, by hand: what differs, what is common, who is on the front of all."""

from dataclasses import replace

import pytest

from nasseg.analyse.several_studies import common_objectives, joint_front, protocol_differences, shared_networks
from nasseg.errors import UserError
from nasseg.records import StudyRecord
from tests.analyse.networks import MACS, MIOU, TIME, network, study


def changed(
    record: StudyRecord, part: str, environment: dict[str, object] | None = None, **fields: object
) -> StudyRecord:
    trials = []
    for trial in record.trials:
        measured = getattr(trial.measurement, part)
        here, protocol = replace(measured.environment, **(environment or {})), replace(measured.protocol, **fields)
        measured = replace(measured, protocol=protocol, environment=here)
        trials.append(replace(trial, measurement=replace(trial.measurement, **{part: measured})))
    return replace(record, trials=tuple(trials))


def three(seed: int = 0) -> StudyRecord:
    trials = [
        network(i, {"a": i}, 50.0 + 10 * i - seed, 1e6 * (1 + i), time=10.0 * (1 + i), seed=seed, arch_id=f"n{i}")
        for i in range(3)
    ]
    return study(trials, (MIOU, MACS, TIME))


def test_protocols_that_are_the_same_do_not_differ() -> None:
    assert protocol_differences([three(), three()]) == []


def test_fields_that_differ_are_named_with_their_values_and_seeds_do_not_matter() -> None:
    other = changed(changed(three(1), "accuracy", steps=900), "latency", environment={"gpu": "H100"}, device="cuda")
    found = {(d.part, d.field): d for d in protocol_differences([three(), other])}
    assert {key: d.values for key, d in found.items()} == {
        ("accuracy", "steps"): ((10,), (900,)),
        ("accuracy", "seed"): ((0,), (1,)),
        ("latency", "device"): (("cpu",), ("cuda",)),
        ("latency", "gpu"): ((None,), ("H100",)),
    }
    assert {key for key, d in found.items() if not d.matters} == {("accuracy", "seed")}


def test_another_commit_or_processor_of_a_training_is_no_difference_but_one_of_a_latency_is() -> None:
    assert protocol_differences([three(), changed(three(), "accuracy", environment={"cpu": "other"})]) == []
    assert protocol_differences([three(), changed(three(), "latency", environment={"commit": "other"})]) == []
    (found,) = protocol_differences([three(), changed(three(), "latency", environment={"cpu": "other"})])
    assert (found.field, found.matters) == ("cpu", True)


def test_what_a_study_did_not_measure_is_left_out() -> None:
    without = replace(
        three(), trials=tuple(replace(t, measurement=replace(t.measurement, latency=None)) for t in three().trials)
    )
    assert protocol_differences([three(), without]) == []


def test_only_objectives_that_all_share_count() -> None:
    two = replace(three(), objectives=(TIME, MIOU))
    assert common_objectives([three(), two]) == (MIOU, TIME)
    turned = replace(three(), objectives=(replace(MIOU, direction="minimize"), MACS))
    assert common_objectives([three(), turned]) == (MACS,)
    with pytest.raises(UserError, match="share no objective"):
        common_objectives([replace(three(), objectives=(MIOU,)), replace(three(), objectives=(MACS,))])


def test_the_front_of_all() -> None:
    assert joint_front([three(), three(1)]) == [[0, 1, 2], []]
    fast = network(7, {"a": 9}, 55.0, 5e5, time=1.0)
    partial = replace(network(8, {"a": 9}, 99.0, 1e5, time=1.0), state="PRUNED", extra={"stopped_at_rung": True})
    assert joint_front([three(), study([fast, partial], (MIOU, MACS, TIME))]) == [[1, 2], [7]]


def test_networks_in_both_and_whether_their_order_is_the_same() -> None:
    upside = replace(
        three(), trials=tuple(replace(t, values={**t.values, "miou": -t.values["miou"]}) for t in three().trials[:3])
    )
    frame = shared_networks([three(), upside]).set_index("figure")
    assert frame["networks"].tolist() == [3, 3, 3]
    assert frame["tau"].to_dict() == {"miou": -1.0, "macs": 1.0, "latency_ms": 1.0}
    assert shared_networks([three(), study([network(0, {"a": 0}, 1.0)])]).empty
