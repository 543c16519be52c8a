"""What NVML says of a GPU, and what it does not."""

import os

import pytest

from nasseg.errors import UserError
from nasseg.measure.environment import environment
from nasseg.measure.nvml import find_gpu, slowdowns, uuid_of
from tests.fake_nvml import UUIDS, FakeGpu, install


def test_a_gpu_is_found_by_its_uuid_and_answers(two_gpus):
    gpu = find_gpu("cuda:1")
    assert gpu.uuid == UUIDS[1]
    assert (gpu.driver, gpu.power_limit_watts, gpu.mig) == ("570.86.15", 700.0, False)
    assert (gpu.clock_mhz, gpu.max_clock_mhz, gpu.reasons) == (1980, 1980, 0)
    assert gpu.energy_mj == pytest.approx(300e3 * two_gpus.now, rel=1e-4)
    assert gpu.busiest_other(0) is None


@pytest.mark.parametrize("device", ["cuda:2", "cuda:x", "cuda:", "cuda:-1"])
def test_a_device_that_is_not_there_is_refused(two_gpus, device):
    with pytest.raises(UserError, match=r"use cpu|device must be cpu, cuda or cuda:N"):
        uuid_of(device)


def test_what_is_not_supported_is_not_known(two_gpus):
    two_gpus.unsupported = frozenset({"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetCurrentClocksEventReasons"})
    gpu = find_gpu("cuda")
    assert gpu.energy_mj is None
    assert gpu.reasons == 0


def test_an_instance_of_a_gpu_has_no_energy_of_its_own(two_gpus):
    two_gpus.mig = True
    gpu = find_gpu("cuda")
    assert gpu.mig
    assert gpu.energy_mj is None
    assert gpu.clock_mhz == 1980


@pytest.mark.parametrize("with_driver", [True, False])
def test_without_nvml_nothing_is_known(monkeypatch, two_gpus, with_driver):
    install(monkeypatch, FakeGpu(), with_nvml=False)  # no libnvidia-ml on this machine: the binding says so itself
    if with_driver:
        monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert find_gpu("cuda") is None
    found = environment("cuda:1")
    assert (found.gpu, found.accelerator.uuid, found.accelerator.driver) == ("NVIDIA H200 number 1", UUIDS[1], None)


def test_another_process_is_told_from_this_one(two_gpus):
    two_gpus.processes = (os.getpid(), 77)
    two_gpus.samples = ((os.getpid(), 10, 90), (77, 10, 30), (77, 20, 50), (77, 5, 100))
    assert find_gpu("cuda").busiest_other(9) == (77, 40.0)
    assert find_gpu("cuda").busiest_other(99) is None


def test_where_processes_have_other_numbers_the_busiest_is_this_one(two_gpus):
    two_gpus.processes, two_gpus.samples = (501, 502), ((501, 10, 20), (502, 10, 70))
    assert find_gpu("cuda").busiest_other(0) == (501, 20.0)
    two_gpus.samples = ((502, 10, 70),)
    assert find_gpu("cuda").busiest_other(0) is None


def test_the_environment_knows_the_gpu_that_computed(two_gpus):
    found = environment("cuda:1")
    assert (found.gpu, found.accelerator.uuid) == ("NVIDIA H200 number 1", UUIDS[1])
    assert (found.accelerator.driver, found.accelerator.power_limit_watts) == ("570.86.15", 700.0)
    assert found.device("cuda:1") == "NVIDIA H200 number 1, driver 570.86.15"
    assert found.device("cpu") == found.cpu
    assert environment().accelerator.uuid == UUIDS[0]


def test_slowdowns_are_said_in_words():
    assert slowdowns([0, 0x1 | 0x2 | 0x4]) == []
    assert slowdowns([0x40, 0x20 | 0x80]) == ["heat", "power brake"]
