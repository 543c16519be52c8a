"""How latency is timed on a GPU: by events, as a graph, with clocks, repeatably."""

import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from nasseg.families import make_arch
from nasseg.measure.latency.attempts import attempt, measure_latency
from nasseg.measure.latency.backends import example, numerics, prepare, runner
from nasseg.measure.latency.in_turns import compare_latency, latency_by_part
from nasseg.measure.nvml import find_gpu


def wall_ms(run, rounds=50):
    """Milliseconds of a call by the wall clock, the device waited for before and after each."""
    found = []
    with torch.inference_mode():
        for _ in range(rounds):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            run()
            torch.cuda.synchronize()
            found.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(found)


@pytest.mark.parametrize("backend", ["eager", "cuda-graph"])
def test_events_agree_with_the_wall_clock(protocol, backend):
    asked = replace(protocol, backend=backend, input_size=(1024, 2048))
    with numerics(asked):
        run = runner(make_arch("bisenetv2"), asked)
        events = 1e3 * float(np.median(attempt(lambda: (run, None), asked).seconds))
        wall = wall_ms(run)
    assert events <= 1.02 * wall
    assert wall <= 1.1 * events + 0.1  # a launch and a wait more


def test_an_event_waits_for_the_work_and_not_for_the_launch(protocol):
    """The launch of a large matrix product takes microseconds, its work milliseconds."""
    with numerics(protocol):
        a = torch.randn(8192, 8192, device=protocol.device)
        found = attempt(lambda: (lambda: a @ a, None), replace(protocol, warmup=2, min_replicates=5, min_seconds=0))
        assert 1e3 * float(np.median(found.seconds)) == pytest.approx(wall_ms(lambda: a @ a, 5), rel=0.1)
        assert float(np.median(found.seconds)) > 1e-3


def test_a_graph_saves_launches_and_repeats_itself(protocol):
    """At batch 1 a deep, narrow network is bound by launches."""
    arch = make_arch("regseg", width=0.25)
    eager, graph = (measure_latency(arch, replace(protocol, backend=b)) for b in ("eager", "cuda-graph"))
    assert graph.p50_ms < 0.9 * eager.p50_ms
    assert graph.p50_ms <= graph.p90_ms <= graph.p99_ms
    assert graph.n >= 50
    again = measure_latency(arch, replace(protocol, backend="cuda-graph"))
    assert again.p50_ms == pytest.approx(graph.p50_ms, rel=0.05)


def test_a_graph_keeps_what_it_reads(protocol):
    """Memory that a network's weights and image had must not become another's while its graph is replayed."""
    asked = replace(protocol, backend="cuda-graph")
    with numerics(asked), torch.inference_mode():
        arch = make_arch("regseg", width=0.25)
        run = runner(arch, asked)
        before = run().clone()
        shapes = [weight.shape for weight in prepare(arch, asked).parameters()] + [example(asked).shape]
        taken = [torch.full(shape, float("nan"), device=protocol.device) for _ in range(4) for shape in shapes]
        torch.testing.assert_close(run(), before, rtol=0, atol=0)
        assert len(taken) == 4 * len(shapes)


def test_a_larger_network_and_a_larger_image_take_longer(protocol):
    asked = replace(protocol, backend="cuda-graph")
    small, wide = (measure_latency(make_arch("regseg", width=width), asked).p50_ms for width in (0.25, 2.0))
    large = measure_latency(make_arch("regseg", width=0.25), replace(asked, input_size=(1024, 2048))).p50_ms
    assert small < wide
    assert small < large


def test_clocks_are_read_before_and_after(protocol):
    gpu = find_gpu(protocol.device)
    found = measure_latency(make_arch("regseg", width=0.25), protocol).clocks_mhz
    if gpu is None or gpu.clock_mhz is None:
        assert found is None
        pytest.skip("NVML does not tell this device's clock")
    assert 100 < gpu.clock_mhz <= gpu.max_clock_mhz < 5_000
    assert all(100 < one < 5_000 for one in found)


def test_a_larger_network_takes_more_energy_and_no_more_than_the_board_may_draw(protocol):
    gpu, asked = find_gpu(protocol.device), replace(protocol, backend="cuda-graph")
    if gpu is None or gpu.energy_mj is None:
        pytest.skip("NVML has no energy counter for this device")
    small, wide = (
        measure_latency(make_arch("regseg", width=width), asked, energy=True).energy for width in (0.25, 2.0)
    )
    assert small.mj < wide.mj
    for found in (small, wide):
        assert 10 < found.mj * found.images / found.seconds / 1e3 < 1.1 * gpu.power_limit_watts


def test_networks_in_turns_have_steady_ratios(protocol):
    archs = {f"width {width}": make_arch("regseg", width=width) for width in (0.5, 1.0)}
    rows = compare_latency(archs, replace(protocol, backend="cuda-graph"), base="width 0.5", repeat=5)
    assert rows[0].ratio == 1.0
    assert rows[1].ratio > 1.0
    assert (max(rows[1].ratios) - min(rows[1].ratios)) / rows[1].ratio < 0.05


def test_parts_add_up_to_about_the_whole(protocol):
    arch = make_arch("bisenetv2")
    parts = latency_by_part(arch, replace(protocol, input_size=(1024, 2048)))
    whole = measure_latency(arch, replace(protocol, input_size=(1024, 2048))).p50_ms
    assert sum(parts.values()) == pytest.approx(whole, rel=0.25)
