"""The folder of the devices' locks: this user's own, or one line that says why not."""

import os

import pytest

from nasseg.errors import UserError
from nasseg.measure.latency.device_lock import DeviceLock
from tests.command_line import refused


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
