"""What a population says of its parameters: made-up studies in which the truth is known, and numbers done by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nasseg.analyse.parameters import (
    NEGLIGIBLE,
    OTHER,
    edf_frame,
    effects_frame,
    importance_frame,
    population_of,
    weights,
)
from nasseg.errors import UserError
from nasseg.records import TrialRow
from tests.analyse.networks import MIOU, TIME, network, study


def bisenet_like(n, *, gain=0.0, noise=1.0, seed=0):
    """lambda makes networks larger; beyond that it is worth `gain` points at 0.5 and nothing at 0.125."""
    rng = np.random.default_rng(seed)
    trials = []
    for i in range(n):
        ratio, flag = float(rng.choice([0.125, 0.5])), bool(rng.integers(2))
        macs = 1e6 * (4 if ratio == 0.5 else 3) * rng.lognormal(0, 0.5)
        miou = 40 + 8 * math.log10(macs / 1e6) + gain * (ratio == 0.5) + 0.0 * flag + noise * rng.normal()
        trials.append(network(i, {"channel_ratio": ratio, "context": flag}, miou, macs))
    return study(trials)


def row_of(frame, parameter):
    (row,) = frame[frame["parameter"] == parameter].to_dict("records")
    return row


def test_a_parameter_that_only_adds_cost_does_not_matter_at_equal_cost():
    record = bisenet_like(1500)
    raw = population_of(record).figures.groupby(population_of(record).choices["channel_ratio"], observed=True)["miou"]
    assert raw.mean()["0.5"] - raw.mean()["0.125"] > 0.7  # what a table of means would call an effect
    row = row_of(importance_frame(population_of(record)), "channel_ratio")
    assert row["verdict"] == "hardly matters"
    assert row["high"] < NEGLIGIBLE


@pytest.mark.parametrize("gain", [1.5, -1.5])
def test_a_parameter_that_matters_is_found_with_its_size_and_sign(gain):
    population = population_of(bisenet_like(400, gain=gain))
    row = row_of(importance_frame(population), "channel_ratio")
    # Two values, as frequent, 1.5 apart, noise 1: 0.75^2 of 0.75^2 + 1.
    assert row["verdict"] == "matters"
    assert row["low"] < 0.36 < row["high"]
    assert row["share"] == pytest.approx(0.36, abs=0.07)
    assert row["gain_low"] < 1.5 < row["gain_high"]
    assert (row["best"], row["worst"]) == (("0.5", "0.125") if gain > 0 else ("0.125", "0.5"))
    assert importance_frame(population)["parameter"].iloc[0] == "channel_ratio"
    effects = effects_frame(population).set_index(["parameter", "value"])
    effect = effects.loc[("channel_ratio", "0.5")]
    assert effect["low"] < gain / 2 < effect["high"]
    assert effect["effect"] * gain > 0


def test_for_an_objective_that_is_minimised_the_best_value_is_the_lowest():
    rng = np.random.default_rng(1)
    trials = []
    for i in range(200):
        fast = bool(rng.integers(2))
        trials.append(network(i, {"fast": fast}, 50.0, 1e6, time=20.0 - 5 * fast + rng.normal()))
    record = study(trials, (MIOU, TIME))
    population = population_of(record, target="latency_ms")
    row = row_of(importance_frame(population), "fast")
    assert (row["best"], row["worst"], row["verdict"]) == ("yes", "no", "matters")
    assert row["gain_low"] < 5 < row["gain_high"]
    assert not population.maximise


def test_few_networks_are_undecided():
    for n in (0, 1, 5, 12):
        frame = importance_frame(population_of(bisenet_like(n, seed=n)))
        assert set(frame["verdict"]) <= {"undecided"}
    # Nothing found among thirty is no proof of nothing.
    assert set(importance_frame(population_of(bisenet_like(30)))["verdict"]) == {"undecided"}


def test_a_parameter_that_fixes_the_cost_cannot_be_told_from_it():
    rng = np.random.default_rng(0)
    trials = [network(i, {"width": w}, 40 + w + rng.normal(), 1e6 * w) for i, w in enumerate([1, 2, 4] * 20)]
    row = row_of(importance_frame(population_of(study(trials))), "width")
    assert row["verdict"] == "undecided"
    assert math.isnan(row["share"])
    assert effects_frame(population_of(study(trials)))["effect"].isna().all()


@pytest.mark.slow
def test_noise_is_called_important_about_as_rarely_as_promised_though_it_is_skewed():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(200):
        y, choice = 40 - rng.exponential(3.0, 40), rng.integers(3, size=40)
        macs = rng.lognormal(13, 1, 40)
        trials = [network(i, {"a": int(choice[i])}, float(y[i]), macs[i]) for i in range(40)]
        found.append(row_of(importance_frame(population_of(study(trials))), "a")["p"] < 0.05)
    assert stats.binom(200, 0.05).sf(sum(found)) > 1e-3
    assert sum(found) >= 2


def test_share_and_interval_by_hand():
    """A one-way analysis of variance of three groups of ten at one cost, against scipy's and the definition."""
    rng = np.random.default_rng(3)
    groups = [rng.normal(mean, 1.0, 10) for mean in (40.0, 41.0, 42.0)]
    trials = [network(10 * g + i, {"a": g}, float(v)) for g, values in enumerate(groups) for i, v in enumerate(values)]
    row = row_of(importance_frame(population_of(study(trials))), "a")
    f, p = stats.f_oneway(*groups)
    y = np.concatenate(groups)
    total, within = float(((y - y.mean()) ** 2).sum()), sum(float(((g - g.mean()) ** 2).sum()) for g in groups)
    assert row["p"] == pytest.approx(p)
    assert row["share"] == pytest.approx((total - within - 2 * within / 27) / total)
    for bound, level in (("low", 0.975), ("high", 0.025)):
        noncentrality = 30 * row[bound] / (1 - row[bound])
        assert stats.ncf.cdf(f, 2, 27, noncentrality) == pytest.approx(level, abs=1e-4)
    effects = effects_frame(population_of(study(trials)))
    assert effects["effect"].tolist() == pytest.approx([float(g.mean() - y.mean()) for g in groups])
    means = [float(g.mean()) for g in groups]
    assert row["gain"] == pytest.approx(max(means) - min(means))
    wide = stats.t.ppf(1 - 0.05 / 6, 27) * math.sqrt(within / 27 * 2 / 10)  # Bonferroni for three pairs
    assert row["gain_high"] - row["gain"] == pytest.approx(wide)


def test_p_is_corrected_for_the_number_of_parameters():
    rng = np.random.default_rng(5)
    names = [f"p{k}" for k in range(10)]
    trials = [network(i, {n: int(rng.integers(2)) for n in names}, float(rng.normal(40, 1))) for i in range(80)]
    frame = importance_frame(population_of(study(trials))).set_index("parameter")
    alone = {
        n: stats.f_oneway(*[[t.values["miou"] for t in trials if t.params[n] == v] for v in (0, 1)])[1] for n in names
    }
    ranked = sorted(names, key=lambda n: alone[n])
    assert frame.loc[ranked[0], "p"] == pytest.approx(min(1.0, 10 * alone[ranked[0]]))
    assert frame.loc[ranked[1], "p"] == pytest.approx(max(frame.loc[ranked[0], "p"], min(1.0, 9 * alone[ranked[1]])))


def families(n=400, seed=2):
    """Two families. `width` means something else in each; `fusion` is active in one family, and there only with bga."""
    rng = np.random.default_rng(seed)
    trials = []
    for i in range(n):
        family, width = ("left", "right")[i % 2], float(rng.choice([0.5, 1.0]))
        params = {"family": family, "width": width}
        miou = 40.0 + (2.0 * (width == 1.0) if family == "left" else 0.0)
        if family == "left":
            params["left.gather"] = str(rng.choice(["3x3", "large"]))
            if params["left.gather"] == "3x3":
                params["left.fusion"] = str(rng.choice(["bga", "sum"]))
                miou += 3.0 * (params["left.fusion"] == "bga")
        trials.append(network(i, params, miou + 0.3 * rng.normal(), 1e6 * rng.lognormal(0, 0.3)))
    return study(trials)


def test_parameters_belong_to_families_and_count_only_where_active():
    record = families()
    population = population_of(record)
    assert list(population.choices) == ["family", "left.fusion", "left.gather", "left.width", "right.width"]
    active = [t.number for t in record.trials if "left.fusion" in t.params]
    assert 0 < len(active) < 150
    frame = importance_frame(population)
    fusion = row_of(frame, "left.fusion")
    assert (fusion["n"], fusion["family"], fusion["verdict"], fusion["best"]) == (len(active), "left", "matters", "bga")
    assert fusion["gain"] == pytest.approx(3.0, abs=0.4)
    assert row_of(frame, "left.width")["verdict"] == "matters"
    assert row_of(frame, "right.width")["verdict"] != "matters"
    assert pd.isna(row_of(frame, "family")["family"])
    assert edf_frame(population, "left.fusion")["row"].isin(active).all()
    assert population.choices.loc[[n for n in range(400) if n not in active], "left.fusion"].isna().all()


def test_one_family_needs_no_prefix_and_constants_are_no_parameters():
    trials = [
        network(i, {"family": "toy", "toy.depth": i % 3, "same": 1, "flag": i % 2 == 0}, 40.0 + i) for i in range(9)
    ]
    choices = population_of(study(trials)).choices
    assert list(choices) == ["depth", "flag"]
    assert choices["depth"].cat.categories.tolist() == ["0", "1", "2"]
    assert choices["flag"].cat.categories.tolist() == ["no", "yes"]


def test_many_values_are_ranges_or_other_and_texts_that_never_return_are_left_out():
    kinds = [f"k{min(i % 16, 11)}" for i in range(64)]
    trials = [
        network(i, {"n": i, "half": i / 2 if i > 4 else 0.1, "kind": kinds[i], "note": f"t{i}"}, 40.0)
        for i in range(64)
    ]
    choices = population_of(study(trials)).choices
    assert list(choices) == ["half", "kind", "n"]
    assert len(choices["n"].cat.categories) == 5
    assert choices["n"].cat.categories[0].startswith("0 to ")
    assert choices["n"].iloc[[0, 63]].tolist() == [choices["n"].cat.categories[0], choices["n"].cat.categories[-1]]
    assert choices["n"].notna().all()
    assert choices["kind"].cat.categories[-1] == OTHER
    assert len(choices["kind"].cat.categories) == 8
    assert (choices["kind"] == "k11").sum() == kinds.count("k11")
    assert row_of(importance_frame(population_of(study(trials))), "kind")["best"] != OTHER


def test_copies_published_and_unfinished_networks_are_no_part_of_it():
    good = [network(i, {"a": i % 2}, 40.0 + i) for i in range(4)]
    others = [
        network(4, {"a": 1}, 99.0, reused_from=0),
        network(5, {"a": 1}, 99.0, extra={"published": "RegSeg"}),
        network(6, {"a": 1}, 99.0, state="PRUNED", values={}),
        TrialRow(number=7, state="RUNNING", params={"a": 0}),
        network(8, {"a": 1}, math.nan),
    ]
    assert population_of(study([*good, *others])).figures["number"].tolist() == [0, 1, 2, 3]


def test_edf_at_equal_cost_does_not_favour_the_value_that_was_drawn_larger():
    """Two values of equal worth, one of them drawn mostly large: as drawn they differ, at equal cost they do not."""
    rng = np.random.default_rng(0)
    trials = []
    for i in range(600):
        big = rng.random() < (0.8 if i % 2 else 0.2)
        macs = 1e6 * (4 if big else 1) * rng.lognormal(0, 0.1)
        trials.append(network(i, {"a": i % 2}, 40 + 10 * math.log10(macs / 1e6) + 0.2 * rng.normal(), macs))
    frame = edf_frame(population_of(study(trials)), "a")
    plain = frame.groupby("value", observed=True)["target"].median()
    assert abs(plain["1"] - plain["0"]) > 4
    median = frame[frame["share"] >= 0.5].groupby("value", observed=True)["target"].first()
    assert abs(median["1"] - median["0"]) < 1
    for _, part in frame.groupby("value", observed=True):
        assert part["weight"].sum() == pytest.approx(1)
        assert part["share"].is_monotonic_increasing
        assert part.groupby("bin")["weight"].sum().nunique() > 0
        assert np.allclose(part.groupby("bin")["weight"].sum(), 1 / part["bin"].nunique())


def test_weights_by_hand():
    found = weights(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1]))
    assert found.tolist() == [0.25, 0.25, 0.5, 0.5, 0.5]


def test_values_without_a_common_cost_are_shown_as_drawn():
    trials = [network(i, {"a": i % 2}, 40.0 + i, 1e6 * (1 + 9 * (i % 2)) * (1 + i / 100)) for i in range(24)]
    frame = edf_frame(population_of(study(trials)), "a")
    assert set(frame["bin"]) == {-1}
    assert len(frame) == 24


def test_names_that_do_not_exist_are_user_errors():
    with pytest.raises(UserError, match="objective"):
        population_of(families(20), target="mIoU")
    with pytest.raises(UserError, match=r"left\.width"):
        edf_frame(population_of(families(20)), "left.widht")


def test_values_that_agree_better_than_chance_are_no_proof_in_a_few_networks():
    trials = [network(i, {"a": i % 2}, 40.0 + (i // 2) % 5) for i in range(40)]  # equal means to the last digit
    row = row_of(importance_frame(population_of(study(trials))), "a")
    assert row["share"] == 0
    assert row["verdict"] == "undecided"


def test_costs_that_one_value_alone_reaches_say_nothing_of_it():
    """Value 1 also has large and good networks; over the costs that both reach, both are alike."""
    sizes = [1, 2, 3] * 20
    trials = [network(i, {"a": i % 2}, 40.0 + s + i / 1e3, 1e6 * s) for i, s in enumerate(sizes)]
    trials += [network(60 + i, {"a": 1}, 90.0, 1e8) for i in range(30)]
    frame = edf_frame(population_of(study(trials)), "a")
    assert frame["target"].max() < 50
    assert frame["row"].max() < 60
