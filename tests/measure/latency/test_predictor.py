"""The latency predictor, on made-up devices whose law is known."""

import math
import random

import numpy as np
import pytest
from torch import Tensor, nn

from nasseg.errors import UserError
from nasseg.families import PAPERS, make_arch
from nasseg.families.graph.recorder import record
from nasseg.measure.latency.predictor import MIN_FITTED, Predictor, features, fit
from tests.benchmarks.bench_predictor import FAMILIES, Rows, divide, samples

SIZE = (32, 64)


def graph_of(*layers: nn.Module, size=SIZE):
    return record(nn.Sequential(*layers).to("meta").eval(), size)


def network(rng: random.Random):
    """Convolutions of each sort at random widths, with what follows them."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False)]
    channels = 16
    for _ in range(rng.randint(2, 12)):
        width = rng.choice([16, 32, 48, 64, 128])
        kernel, groups = rng.choice([(1, 1), (3, 1), (5, 1), (3, 16), (3, channels)])
        width = width if groups in (1, 16) else channels
        layers += [nn.Conv2d(channels, width, kernel, 1, kernel // 2, groups=groups, bias=False)]
        layers += rng.sample([nn.BatchNorm2d(width), nn.ReLU(), nn.SiLU(), nn.MaxPool2d(3, 1, 1)], rng.randint(0, 3))
        channels = width
    return graph_of(*layers)


RATES = {"dense gmacs": 20.0, "dense 1x1 gmacs": 30.0, "depthwise mb": 0.4, "grouped gmacs": 50.0, "calls": 0.002}
RATES |= {"batch_norm mb": 0.2, "exponential mb": 0.1, "pooling mb": 0.5, "weights mb": 0.3}


def law(graph) -> float:
    return sum(RATES.get(name, 0.0) * amount for name, amount in features(graph).items())


@pytest.fixture(scope="module")
def graphs():
    rng = random.Random(0)
    return [network(rng) for _ in range(120)]


@pytest.fixture(scope="module")
def noisy(graphs):
    return np.array([law(graph) for graph in graphs]) * np.exp(np.random.default_rng(0).normal(0, 0.05, len(graphs)))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # 19 channels cost as much as 32
        (nn.Conv2d(3, 19, 1, bias=False), {"dense 1x1 gmacs": 3 * 32 * 32 * 64 / 1e9, "weights mb": 4 * 57 / 1e6}),
        (nn.Conv2d(3, 16, 3, 2, 1, bias=False), {"dense gmacs": 27 * 16 * 16 * 32 / 1e9, "weights mb": 4 * 432 / 1e6}),
        (nn.Conv2d(3, 3, (3, 1), 1, (1, 0), groups=3), {"depthwise gmacs": 9 * 32 * 64 / 1e9, "weights mb": 48 / 1e6}),
        (nn.Conv2d(3, 3, 1, groups=3, bias=False), {"depthwise mb": 8 * 3 * 32 * 64 / 1e6, "multiplying calls": 1}),
        (nn.ReLU(), {"elementwise mb": 8 * 3 * 32 * 64 / 1e6, "calls": 1}),
        (nn.Softplus(), {"calls": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_features_are_amounts_of_work(layer, expected):
    found = features(graph_of(layer))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_work_adds_up_and_views_are_free():
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.chunk(2, dim=1)[1]

    found = features(
        graph_of(nn.Conv2d(3, 16, 1, bias=False), Halves(), nn.Conv2d(8, 8, 3, 1, 1, groups=2, bias=False))
    )
    assert found["grouped gmacs"] == pytest.approx(36 * 8 * 32 * 64 / 1e9)
    assert found["multiplying calls"] == 2
    assert found["weights mb"] == pytest.approx(4e-6 * (48 + 8 * 36))
    assert not [name for name in found if name.startswith("chunk")]


def test_what_the_output_does_not_need_is_free():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            return self.used(x)

    assert "dense gmacs" not in features(graph_of(Unused()))


@pytest.mark.parametrize("family", PAPERS)
def test_every_operator_of_the_families_has_a_class(family):
    found = features(make_arch(family).graph(19, (256, 512)))
    classes = {"batch_norm", "cat", "interpolate", "pooling", "exponential", "elementwise"}
    classes |= {"dense", "dense 1x1", "depthwise", "grouped", "conv_transpose", "weights"}
    assert {name.removesuffix(" mb") for name in found if name.endswith(" mb")} <= classes


def test_small_odd_operators_cost_their_call():
    few, many = (features(graph_of(nn.Softplus(), size=size)) for size in ((16, 16), (256, 256)))
    assert "softplus mb" not in few
    assert few["calls"] == many["calls"] == 1
    assert many["softplus mb"] > 1


@pytest.mark.slow
def test_a_sum_over_operators_is_found_exactly_and_orders_networks_left_out(graphs):
    predictor = fit(graphs[:80], [law(graph) for graph in graphs[:80]])
    errors = [abs(predictor.predict(graph).ms / law(graph) - 1) for graph in graphs[80:]]
    assert np.mean(errors) < 0.02
    assert predictor.mape < 0.02
    assert predictor.kendall_tau > 0.98


@pytest.mark.slow
def test_the_error_reported_is_that_of_networks_left_out(graphs):
    """Latencies without rhyme or reason: what a fit remembers of them is no prediction."""
    chance = np.exp(np.random.default_rng(1).normal(0, 1, MIN_FITTED))
    few = graphs[:MIN_FITTED]
    predictor = fit(few, chance)
    remembered = np.mean([abs(predictor.predict(graph).ms / ms - 1) for graph, ms in zip(few, chance, strict=True)])
    assert predictor.mape > 1.2 * remembered


@pytest.mark.slow
def test_nine_of_ten_lie_inside_the_interval(graphs, noisy):
    predictor = fit(graphs[:80], noisy[:80])
    found = [predictor.predict(graph) for graph in graphs[80:]]
    inside = [p.low_ms <= ms <= p.high_ms for p, ms in zip(found, noisy[80:], strict=True)]
    assert np.mean(inside) > 0.75
    assert all(p.low_ms < p.ms < p.high_ms and p.high_ms < 1.4 * p.low_ms for p in found)


def test_predictions_are_never_negative_and_grow_with_the_network(graphs, noisy):
    predictor = fit(graphs, noisy)
    assert all(rate >= 0 for rate in predictor.rates.values())
    layers = [nn.Conv2d(3, 64, 3, 2, 1, bias=False)]
    ms = [predictor.predict(graph_of(*layers, *[nn.Conv2d(64, 64, 3, 1, 1)] * depth)).ms for depth in (0, 1, 10, 100)]
    assert ms == sorted(ms)
    assert ms[0] > 0
    assert ms[3] > 50 * (ms[1] - ms[0])


def test_an_operator_that_was_never_measured_opens_the_interval(graphs, noisy):
    predictor = fit(graphs, noisy)
    known, odd = graph_of(nn.Conv2d(3, 16, 3)), graph_of(nn.Conv2d(3, 16, 3), nn.Upsample(scale_factor=2))
    assert predictor.predict(known).unknown == ()
    assert math.isfinite(predictor.predict(known).high_ms)
    found = predictor.predict(odd)
    assert found.unknown == ("interpolate mb",)
    assert found.high_ms == math.inf
    assert found.low_ms >= predictor.predict(known).low_ms


def test_json_there_and_back(graphs, noisy):
    predictor = fit(graphs, noisy)
    again = Predictor.from_json(predictor.to_json())
    assert again == predictor
    assert again.predict(graphs[0]) == predictor.predict(graphs[0])


def test_the_order_of_the_measurements_matters_little(graphs, noisy):
    there, back = fit(graphs, noisy), fit(graphs[::-1], noisy[::-1])
    assert there.predict(graphs[0]).ms == pytest.approx(back.predict(graphs[0]).ms, rel=1e-6)


@pytest.mark.parametrize(
    ("count", "change", "message"),
    [
        (MIN_FITTED - 1, {}, f"needs {MIN_FITTED} measured networks, got {MIN_FITTED - 1}; measure more first"),
        (MIN_FITTED, {0: 0.0}, "latencies must be above 0 ms, got 0.0"),
        (MIN_FITTED, {3: math.nan}, "latencies must be above 0 ms, got nan"),
        (MIN_FITTED, {3: math.inf}, "latencies must be above 0 ms, got inf"),
    ],
)
def test_what_cannot_be_fitted_is_refused(graphs, noisy, count, change, message):
    latencies = noisy[:count].copy()
    for index, value in change.items():
        latencies[index] = value
    with pytest.raises(UserError, match=message):
        fit(graphs[:count], latencies)


def test_networks_and_latencies_must_go_together(graphs, noisy):
    with pytest.raises(UserError, match="got 120 networks and 119 latencies"):
        fit(graphs, noisy[1:])


def test_sizes_are_not_mixed(graphs, noisy):
    other = graph_of(nn.Conv2d(3, 16, 3), size=(64, 64))
    with pytest.raises(UserError, match=r"one input size, got \[\(32, 64\), \(64, 64\)\]"):
        fit([*graphs[:-1], other], noisy)
    with pytest.raises(UserError, match="fitted on latencies at 32 x 64, got a network at 64 x 64; fit another"):
        fit(graphs, noisy).predict(other)


def test_the_benchmark_goes_on_where_it_was_killed(tmp_path):
    path = tmp_path / "rows.csv"
    first, second = samples(2, seed=0)
    rows = Rows(path, "wall")
    rows.add(first, 10.0, False)
    rows.add(second, 30.0, True)
    with path.open("a") as file:
        file.write('stdc,"{""family"": ""st')
    again = Rows(path, "wall")
    assert again.quiet(first) == [10.0]
    assert again.quiet(second) == []  # measured again
    assert again.ms(second) == 30.0
    again.add(second, 20.0, False)
    assert Rows(path, "wall").ms(second) == 20.0
    with pytest.raises(SystemExit, match=r"holds wall times of .*; save to another file"):
        Rows(path, "thread")


def test_the_benchmark_holds_out_as_many_of_each_family():
    place = {family: [number for number in range(200) if number % 6 == index] for index, family in enumerate(FAMILIES)}
    held, rest = divide(place, 50, np.random.default_rng(0))
    assert sorted(held + rest) == list(range(200))
    assert {len(set(held) & set(members)) for members in place.values()} == {8, 9}
    assert divide(place, 50, np.random.default_rng(1))[0] != held
