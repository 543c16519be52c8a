"""The space of a table: every proposal is one of its points, however thinly they cover the space."""

import random
from dataclasses import replace

import pytest

from nasseg.study.replay.policies import Policy, setting_of
from nasseg.study.replay.replay import search
from tests.study.replay.made_up_table import SMALL, made_up


def test_proposals_off_the_table_are_moved_to_its_nearest_point(tmp_path):
    points = made_up(tmp_path, text=SMALL, keep=lambda row: row["width"] != 0.75).points
    off = {"family": "regseg", "width": 0.75, "stage3_depth": 3}
    distances = dict(zip(map(str, points.networks), points.distances(off), strict=True))
    assert distances[str({**off, "width": 0.5})] == pytest.approx(1 / 3)
    other = {**off, "width": 0.5, "stage3_depth": 1, "se_ratio": 0.25}
    assert distances[str(other)] == pytest.approx(1 / 3 + 2 / 3 + 1)
    assert points.nearest(off) in ({**off, "width": 0.5}, {**off, "width": 1.0})
    for point in points.networks:
        others = [other for other in points.networks if other != point]
        assert all(points.neighbour(point, random.Random(seed)) in others for seed in range(9))
    assert all(points.sample(random.Random(seed)) in points.networks for seed in range(9))
    assert points.count() == len(points.networks) == 3 * 6


@pytest.mark.parametrize("sampler", ["random", "tpe", "ehvi"])
def test_a_search_of_a_thin_table_trains_each_of_its_networks_once(tmp_path, sampler):
    large = made_up(tmp_path)
    thin = replace(large, networks=large.networks[::30])
    found = search(thin, Policy(sampler), replace(setting_of(thin), budget=1000.0), 0)
    assert len(found.compute) == found.spent == len(thin.networks)
    assert found.share[-1] == pytest.approx(1.0)
