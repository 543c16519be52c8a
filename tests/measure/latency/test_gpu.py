"""Timing on a GPU: warm before it counts, disturbances are seen, energy is counted, and no memory is kept."""

import gc
import os
import weakref
from contextlib import contextmanager
from itertools import cycle

import pytest
from torch import nn

from nasseg.errors import UserError
from nasseg.measure.latency import attempts, gpu
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.gpu import check_energy, held_by_others
from nasseg.measure.latency.in_turns import compare_latency
from nasseg.records import IN_TURNS, LatencyProtocol
from tests.fake_nvml import clock_of
from tests.slow import slow

PROTOCOL = LatencyProtocol(device="cuda:1", input_size=(64, 64), num_classes=5, min_seconds=0.5)
MS = 1.0
TURNS = cycle((1.0, 1.3))


@pytest.fixture
def timed(two_gpus, monkeypatch):
    """A fake GPU on which each run of a network takes MS at its highest clock, and a log of what happened when."""
    two_gpus.log, two_gpus.slower = [], lambda _seconds: 1.0

    def runner(arch, _protocol):
        model = nn.Linear(1, 1)
        two_gpus.log.append(("build", two_gpus.now, weakref.ref(model)))

        def run():
            two_gpus.log.append(("run", two_gpus.now, model is None))
            seconds = two_gpus.now - two_gpus.begin
            two_gpus.pass_time(MS / 1e3 * 1980 / two_gpus.clock(seconds) * two_gpus.slower(seconds))

        return run

    monkeypatch.setattr(attempts, "runner", runner)
    monkeypatch.setattr(attempts, "time", clock_of(two_gpus))
    monkeypatch.setattr(gpu, "time", clock_of(two_gpus))
    return two_gpus


def attempted(gpu, protocol=PROTOCOL):
    return attempts.attempt(attempts.builder(None, protocol), protocol)


def test_a_fast_network_warms_up_for_half_a_second_before_it_counts(timed):
    timed.clock = lambda seconds: 1980 if seconds > 0.4 else 990  # at rest the clock is low
    found = attempted(timed)
    assert found.gpu.clocks_mhz == (1980, 1980)
    assert found.disturbance <= 1
    assert found.ms.max() == pytest.approx(MS)


def test_a_quiet_gpu_is_not_disturbed(timed):
    found = measure_latency(None, PROTOCOL)
    assert not found.disturbed
    assert (found.clocks_mhz, found.energy) == ((1980, 1980), None)
    assert found.environment.accelerator.uuid.startswith("7777")


def test_constant_times_at_half_the_clock_are_in_doubt(timed):
    timed.clock = lambda _seconds: 990
    found = attempted(timed)
    assert found.ms.max() == pytest.approx(2 * MS)
    assert found.disturbance > 1
    assert found.doubt == "its clock is 990 of 1980 MHz"


@pytest.mark.parametrize("reason", [0x2, 0x4])
def test_a_clock_that_a_setting_or_the_power_limit_lowers_is_the_devices(timed, reason):
    timed.clock, timed.reasons = lambda _seconds: 1200, reason
    assert attempted(timed).disturbance <= 1


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"clock": lambda seconds: 1980 if seconds < 0.9 else 1600}, "its clock went from 1980 to 1600 MHz"),
        ({"reasons": 0x40}, "it is slowed down by heat"),
        slow({"slower": lambda seconds: 1 + 0.2 * (seconds > 0.75)}, "its times drifted by 20%"),
        slow({"slower": lambda _seconds: next(TURNS)}, "its times differ by 23%"),
        ({"samples": ((os.getpid(), 10**16, 60), (77, 10**16, 38))}, "process 77 takes 38 % of the GPU"),
        ({"samples": ((os.getpid(), 1, 60), (77, 1, 38))}, ""),  # before the measurement
    ],
)
def test_each_disturbance_of_a_gpu_is_seen(timed, change, doubt):
    timed.processes = (os.getpid(), 77)
    for name, value in change.items():
        setattr(timed, name, value)
    found = attempted(timed)
    assert (found.disturbance > 1) == bool(doubt)
    assert doubt in found.doubt
    assert found.latency(PROTOCOL).disturbed == bool(doubt)


@pytest.mark.slow
def test_energy_is_counted_between_two_steps_of_the_boards_counter(timed):
    held = []

    @contextmanager
    def exclusive():
        held.append(timed.now)
        yield
        held.append(timed.now)

    found = measure_latency(None, PROTOCOL, exclusive, energy=True)
    assert found.energy_mj == pytest.approx(timed.watts * MS, rel=0.02)  # W x ms
    assert found.energy.seconds >= 1
    assert found.energy.images * MS / 1e3 == pytest.approx(found.energy.seconds, rel=0.02)
    assert held[-1] - held[-2] > 1.5  # half a second to warm up
    assert not found.disturbed


@pytest.mark.slow
def test_energy_beside_another_process_is_in_doubt(timed):
    timed.processes = (os.getpid(), 77)
    timed.samples = ((77, round(1e6 * (timed.begin + 2.6)), 38),)  # once the latency is known
    assert measure_latency(None, PROTOCOL, energy=True).disturbed


@pytest.mark.slow
def test_a_counter_that_stands_still_measures_nothing(timed, monkeypatch):
    monkeypatch.setattr(type(timed), "nvml_device_get_total_energy_consumption", lambda *_arguments: 0)
    assert measure_latency(None, PROTOCOL, energy=True).energy is None


def test_energy_is_refused_where_there_is_no_counter(two_gpus):
    check_energy(PROTOCOL)
    with pytest.raises(UserError, match=r"measured on a GPU of this machine, not on cpu"):
        check_energy(LatencyProtocol(device="cpu", input_size=(64, 64), num_classes=5))
    two_gpus.unsupported = frozenset({"nvmlDeviceGetTotalEnergyConsumption"})
    with pytest.raises(UserError, match=r"NVML has no energy counter for it .*; drop it from objectives and limits"):
        check_energy(PROTOCOL)


@pytest.mark.slow
def test_nothing_of_a_network_is_kept_between_turns(timed):
    archs = {str(number): None for number in range(3)}
    holding = []

    @contextmanager
    def exclusive():
        gc.collect()
        holding.append(sum(entry[2]() is not None for entry in timed.log if entry[0] == "build"))
        timed.calls.append("begin")
        yield
        timed.calls.append("end")

    protocol = LatencyProtocol(**{**vars(PROTOCOL), "rule": IN_TURNS, "min_seconds": 0.01})
    compare_latency(archs, protocol, base="0", repeat=2, exclusive=exclusive)
    assert holding == [0] * 6
    assert [call for call in timed.calls if call != "synchronize"] == ["begin", "empty_cache", "end"] * 6


def test_memory_of_others_is_what_is_neither_free_nor_ours(two_gpus):
    assert held_by_others("cuda") == pytest.approx(0.1)
    two_gpus.free = 70
    assert held_by_others("cuda") == 0.0
