"""What measured rows say to a table's question, against values worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from nasseg.analyse.paper_verdict import Answer, answer, kendall

PRINTED = {"a": 70.0, "b": 71.0, "c": 73.0}


def seeds(**rows: list[float]) -> dict[str, dict[int, float]]:
    return {row: dict(enumerate(values)) for row, values in rows.items()}


def by_row(found: Answer) -> dict[str, str]:
    return {pair.row: pair.agreement for pair in found.to_base}


def test_tau_by_hand() -> None:
    # Pairs in print: ab +, ac +, bc +. Means: 1, 3, 2: ab +, ac +, bc -. (2 - 1) / 3.
    found = kendall(np.array([1.0, 2.0, 3.0]), np.array([[1.0], [3.0], [2.0]]))
    assert found is not None
    assert found.value == pytest.approx(1 / 3)
    assert (found.low, found.high) == (None, None)
    # A tie in print: pairs ac +, bc + of two that print decides; ours decides three. 2 / sqrt(2 x 3).
    tied = kendall(np.array([1.0, 1.0, 2.0]), np.array([[1.0], [2.0], [3.0]]))
    assert tied is not None
    assert tied.value == pytest.approx(2 / math.sqrt(6))
    assert kendall(np.array([1.0, 2.0]), np.array([[5.0], [5.0]])) is None


def test_tau_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        printed, ours = rng.integers(0, 5, 7).astype(float), rng.normal(size=(7, 3))
        expected = stats.kendalltau(printed, ours.mean(axis=1)).statistic
        found = kendall(printed, ours)
        assert found is not None
        assert found.value == pytest.approx(expected)


def test_the_bootstrap_by_hand() -> None:
    # Seed 0 orders the two rows as print does, seed 1 the other way, by more. Of the four resamples, 00 has tau 1, 11
    # and both mixed ones (means 2 and 1) have -1.
    found = kendall(np.array([1.0, 2.0]), np.array([[0.0, 4.0], [1.0, 1.0]]))
    assert found is not None
    assert (found.value, found.low, found.high) == (-1.0, -1.0, 1.0)


def test_two_rows_are_the_paired_t_test() -> None:
    first, second = [50.0, 52.0, 51.0], [53.0, 54.5, 54.0]
    found = answer("mIoU", {"a": 70.0, "b": 71.0}, seeds(a=first, b=second), "a", unit="%")
    (pair,) = found.pairs
    low, high = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert pair.ours.value == pytest.approx(17 / 6)
    assert (pair.ours.low, pair.ours.high) == (pytest.approx(low), pytest.approx(high))
    assert pair.printed == 1.0
    # Differences 3, 2.5, 3 vary by 1/12 around their mean: half of that is the variance of one measurement.
    assert found.noise == pytest.approx(math.sqrt(1 / 24))


def test_three_rows_share_their_noise() -> None:
    # Without means of rows and seeds the residuals are 1/6 four times and 1/3 twice; 4/36 + 2/9 = 1/3, over 2 degrees.
    found = answer("mIoU", PRINTED, seeds(a=[0.0, 0.0], b=[10.0, 10.0], c=[20.0, 21.0]), "a", unit="%")
    assert found.noise == pytest.approx(math.sqrt(1 / 3 / 2))
    half = stats.studentized_range.ppf(0.95, 3, 2) * math.sqrt((1 / 6) / 2)
    assert found.pairs[0].ours.high == pytest.approx(10 + half)
    # Differences of c to a are 20 and 21: half of their variance, 1/4, is more than the 1/6 of all rows.
    half = stats.studentized_range.ppf(0.95, 3, 2) * math.sqrt((1 / 4) / 2)
    assert found.pairs[1].ours.high == pytest.approx(20.5 + half)


def test_rows_that_are_one_network_bring_no_steadiness() -> None:
    first, second = [50.0, 52.0, 51.0], [53.0, 54.5, 54.0]
    copies = dict.fromkeys("bcde", 71.0)
    two = answer("mIoU", {"a": 70.0, "b": 71.0}, seeds(a=first, b=second), "a")
    five = answer("mIoU", {"a": 70.0, **copies}, seeds(a=first, **dict.fromkeys(copies, second)), "a")
    assert five.noise == two.noise
    assert five.to_base[0].ours == two.pairs[0].ours


def test_confirmed_contradicted_undecided() -> None:
    good = seeds(a=[50.0, 51.0, 52.0], b=[53.0, 54.1, 55.0], c=[58.0, 59.0, 60.1])
    confirmed = answer("mIoU", PRINTED, good, "a", unit="%")
    assert (confirmed.verdict, by_row(confirmed)) == ("confirmed", {"b": "agrees", "c": "agrees"})
    assert confirmed.sentence == (
        "mIoU: confirmed; Kendall's tau between 3 rows as printed and as here is 1.00 (3 seeds, 95 % interval 1.00 to "
        "1.00); of 3 differences between rows, with the printed sign beyond the noise of 0.05 points: 3, with the "
        "opposite one: 0."
    )
    turned = answer("mIoU", PRINTED, {**good, "a": good["c"], "c": good["a"]}, "a")
    assert (turned.verdict, by_row(turned)) == ("contradicted", {"b": "disagrees", "c": "disagrees"})
    noisy = seeds(a=[50.0, 60.0, 40.0], b=[53.0, 41.0, 62.0], c=[58.0, 49.0, 52.0])
    assert answer("mIoU", PRINTED, noisy, "a").verdict == "undecided"
    assert set(by_row(answer("mIoU", PRINTED, noisy, "a")).values()) == {"open"}


def test_a_pair_against_print_is_not_confirmed() -> None:
    mixed = seeds(a=[50.0, 51.0], b=[49.0, 50.0], c=[58.0, 59.0])
    found = answer("mIoU", PRINTED, mixed, "a")
    assert (found.verdict, by_row(found)) == ("undecided", {"b": "disagrees", "c": "agrees"})


def test_rows_reversed_among_themselves_are_not_confirmed() -> None:
    """All are above the base row, as printed; what each adds to the one before is the opposite of what is printed."""
    printed = {"base": 60.0, "a": 65.0, "b": 67.0, "c": 69.0}
    means = {"base": 30.0, "a": 45.0, "b": 43.0, "c": 41.0}
    ours = {row: {0: mean, 1: mean + 1.1, 2: mean + 0.2} for row, mean in means.items()}
    ours["c"][0] += 0.05
    found = answer("mIoU", printed, ours, "base")
    assert (found.verdict, found.count("agrees"), found.count("disagrees")) == ("undecided", 3, 3)


def test_half_of_the_differences_have_to_be_seen() -> None:
    """One row stands apart as printed, and nothing is known of the order of the others."""
    printed = {"a": 60.0, "b": 65.0, "c": 65.1, "d": 65.2, "e": 65.3}
    ours = seeds(a=[20.0, 21.0, 20.5], **{row: [40.0 + i, 41.0 - i, 40.0] for i, row in enumerate("bcde")})
    found = answer("mIoU", printed, ours, "a")
    assert found.tau is not None
    assert (found.verdict, found.count("agrees"), found.count("disagrees")) == ("undecided", 4, 0)


def test_own_rows_are_compared_and_claim_nothing() -> None:
    ours = seeds(a=[50.0, 51.0, 52.0], b=[53.0, 54.1, 55.0], c=[58.0, 59.0, 60.1], mine=[60.0, 61.0, 62.0])
    found = answer("mIoU", {**PRINTED, "mine": None}, ours, "a", unit="%")
    assert (found.verdict, found.rows, by_row(found)["mine"]) == ("confirmed", 3, "no claim")
    assert {pair.to for pair in found.pairs if pair.row == "mine"} == {"a"}
    assert found.sentence.endswith("differences to a in points of rows without print: mine +10.00 (+9.88 to +10.12).")
    begun = answer("mIoU", {**PRINTED, "mine": None}, {**ours, "mine": {0: 60.0}}, "a")
    assert "mine" not in by_row(begun)  # until it has all seeds


def test_what_cannot_be_decided_says_why() -> None:
    good = seeds(a=[50.0, 51.0], b=[53.0, 54.0], c=[58.0, 59.0])
    one = answer("mIoU", PRINTED, {row: {0: values[0]} for row, values in good.items()}, "a")
    assert one.sentence == (
        "mIoU: undecided, because there is only one seed; Kendall's tau between 3 rows as printed and as here is 1.00 "
        "(1 seed)."
    )
    small = answer("mIoU", PRINTED, good, "a", caveats=["images are too small"])
    assert small.verdict == "undecided"
    assert small.sentence.startswith("mIoU: undecided, because images are too small; Kendall's tau")
    part = answer("mIoU", PRINTED, {"a": good["a"], "b": good["b"]}, "a")
    assert part.sentence.startswith("mIoU: undecided, because 1 of 3 rows are not measured;")
    alike = answer("mIoU", dict.fromkeys(PRINTED, 70.0), good, "a")
    assert alike.sentence == "mIoU: undecided, because the paper prints no difference."
    alone = answer("mIoU", {"a": 70.0}, {"a": good["a"]}, "a")
    assert alone.sentence == "mIoU: undecided, because there are no two rows to compare."
    level = answer("mIoU", {"a": 70.0, "b": 71.0}, seeds(a=[50.0, 51.0], b=[50.0, 51.0]), "a")
    assert level.sentence == "mIoU: undecided, because all rows come out alike."
    apart = answer("mIoU", {"a": 70.0, "b": 71.0}, {"a": {0: 1.0}, "b": {1: 2.0}}, "a")
    assert apart.sentence == "mIoU: undecided, because no seed is common to all rows."


def test_seeds_that_all_rows_have_count() -> None:
    found = answer("mIoU", {"a": 70.0, "b": 71.0}, {"a": {0: 1.0, 1: 1.0, 2: 9.0}, "b": {1: 3.0, 0: 3.0}}, "a")
    assert (found.repeats, found.pairs[0].ours.value) == (2, 2.0)


def test_ratios_are_of_speeds_and_alike_is_no_claim() -> None:
    printed = {"a": 100.0, "b": 50.0, "c": 100.4}
    rounds = seeds(a=[10.0, 20.0], b=[4.0, 8.0], c=[10.0, 20.0])
    found = answer("FPS", printed, rounds, "a", unit="FPS", kind="ratio", repeated="round")
    assert by_row(found) == {"b": "agrees", "c": "no claim"}
    assert found.pairs[0].ours.value == pytest.approx(0.4)  # a machine half as fast in a round changes nothing
    assert found.pairs[0].printed == pytest.approx(0.5)
    assert (
        "of 2 ratios between rows, with the printed sign beyond the noise of 0.0 %: 2, with the opposite one: 0."
        in found.sentence
    )


def test_a_best_row_is_a_claim_without_numbers() -> None:
    ours = seeds(a=[50.0, 51.0, 50.5], b=[53.0, 54.0, 53.6], c=[48.0, 49.0, 48.5])
    found = answer("mIoU", dict.fromkeys(ours), ours, "b", best="b")
    assert (found.verdict, by_row(found)) == ("confirmed", {"a": "agrees", "c": "agrees"})
    assert found.pairs[0].printed is None
    assert "of 2 differences to b, with the claimed sign" in found.sentence
    assert answer("mIoU", dict.fromkeys(ours), ours, "c", best="c").verdict == "contradicted"
    part = answer("mIoU", dict.fromkeys("abcd"), ours, "b", best="b")
    assert part.sentence.startswith("mIoU: undecided, because 1 of 4 rows are not measured;")
    near = {**ours, "d": {0: 54.0, 1: 53.5, 2: 53.8}}  # above the best, within the noise
    assert answer("mIoU", dict.fromkeys("abcd"), near, "b", best="b").verdict == "undecided"


def test_rows_that_do_not_beat_what_needs_no_network_decide_nothing() -> None:
    ours = {"a": {0: 10.0, 1: 10.1}, "b": {0: 20.0, 1: 20.1}, "c": {0: 30.0, 1: 30.1}}
    clear = answer("mIoU", PRINTED, ours, "a", unit="%", baseline=9.0)
    assert clear.verdict == answer("mIoU", PRINTED, ours, "a").verdict != "untrained"
    for bar, below in ((10.05, 1), (25.0, 2), (40.0, 3)):
        found = answer("mIoU", PRINTED, ours, "a", unit="%", baseline=bar)
        assert (found.verdict, found.below) == ("untrained", below)
        told = f"mIoU: not trained far enough to tell, because {below} of 3 rows are not above {bar:.1f} %, which"
        assert found.sentence.startswith(told)


def test_tau_on_the_way_by_hand() -> None:
    """After a quarter of the steps the order is the printed one but for b and c; after half, seed 1 of c is missing."""
    ours = seeds(a=[50, 51, 51], b=[52, 52], c=[55, 54])  # seed 2 of a counts nowhere: b and c do not have it yet
    early = {50: seeds(a=[1, 1], b=[2, 2], c=[3]), 25: seeds(a=[1, 1, 9], b=[3, 3], c=[2, 2], other=[9, 9])}
    known = answer("mIoU", PRINTED, ours, "a", unit="%", early=early)
    assert known.early == ((25, pytest.approx(1 / 3)),)
    assert "is 1.00 (2 seeds, 95 % interval 1.00 to 1.00), and on the way, by mIoU on val: 0.33 after 25 %;" in (
        known.sentence
    )
    best = answer("mIoU", dict.fromkeys(PRINTED), ours, "c", unit="%", best="c", early=early)
    assert best.early == ((25, pytest.approx(0)),)
    assert "on the way" not in answer("mIoU", PRINTED, ours, "a", unit="%").sentence
