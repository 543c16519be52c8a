"""The locks of devices: whose their folder is, which GPU a name means, and that a GPU is done when it is given back."""

import fcntl
import os
import tempfile
from types import SimpleNamespace

import pytest
import torch

from nasseg.errors import UserError
from nasseg.measure.latency.device_lock import DeviceLock
from tests.command_line import refused
from tests.fake_nvml import UUIDS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_nobody_else_can_enter_the_folder(folder):
    DeviceLock("cpu").close()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_links_are_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"locks: it is a symbolic link; set NASSEG_LOCKS"):
        DeviceLock("cpu")
    folder.unlink()
    folder.mkdir()
    (folder / "cpu.gate").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=r"cpu\.gate is a symbolic link"):
        DeviceLock("cpu")
    assert not (tmp_path / "victim").exists()


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(UserError, match=r"belongs to another user \(uid \d+\)"):
        DeviceLock("cpu")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    line = refused("measure", "regseg", "--input", "64x64", cwd=tmp_path, NASSEG_LOCKS=str(tmp_path / "file/locks"))
    assert line.startswith("error: cannot keep locks of devices in ")
    assert line.count("\n") == 1


def gate(device):
    lock = DeviceLock(device)
    try:
        return os.fstat(lock._gate).st_ino
    finally:
        lock.close()


def test_a_gpu_has_one_lock_by_whatever_number_it_is_seen(folder, two_gpus, monkeypatch):
    first, second = gate("cuda:0"), gate("cuda:1")
    assert gate("cuda") == first != second
    # As under CUDA_VISIBLE_DEVICES=1, or in a container.
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _name: SimpleNamespace(uuid=UUIDS[1]))
    assert gate("cuda") == second


def test_the_locks_of_gpus_are_for_all_users(tmp_path, two_gpus, monkeypatch):
    monkeypatch.delenv("NASSEG_LOCKS")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.umask(0o077)
    try:
        first = gate("cuda")
    finally:
        os.umask(before)
    shared = tmp_path / "nasseg-locks"
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert {path.stat().st_mode & 0o777 for path in shared.iterdir()} == {0o666}
    monkeypatch.setattr(os, "getuid", lambda: shared.stat().st_uid + 1)
    assert gate("cuda") == first
    shared.chmod(0o777)
    with pytest.raises(UserError, match=r"another user \(uid \d+\), and is not for all of them \(chmod 1777\)"):
        DeviceLock("cuda")


def test_a_gpu_is_waited_for_before_its_lock_is_given_back(folder, two_gpus, monkeypatch):
    lock, other = DeviceLock("cuda"), DeviceLock("cuda")
    held = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: held.append((device, is_held(other))))
    with lock.computing():
        assert held == []
    with lock.measuring():
        pass
    assert held == [("cuda", True)] * 2
    assert not is_held(other)

    def fails(_device):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    with pytest.raises(torch.AcceleratorError), lock.computing():
        pass
    assert not is_held(other)


def is_held(lock):
    """Whether someone else holds the device, in whatever way."""
    try:
        fcntl.flock(lock._body, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock._body, fcntl.LOCK_UN)
    return False


def test_a_gpu_that_is_not_there_has_no_lock(folder, two_gpus):
    with pytest.raises(UserError, match="device cuda:7 is not available: torch sees 2 CUDA devices here; use cpu"):
        DeviceLock("cuda:7")
