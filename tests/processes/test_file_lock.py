"""Locks among processes: whoever waits for one says who holds it."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nasseg.processes import file_lock, sqlite_lock
from nasseg.processes.file_lock import take_lock, told_while_waiting

HOLDER = "import fcntl, sys; fcntl.flock(1, int(sys.argv[1])); sys.stderr.write('held'); sys.stderr.flush(); input()"


@pytest.fixture
def file(tmp_path):
    opened = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def hold(tmp_path):
    """Hold the lock in a process of its own until that is told to end."""
    begun = []

    def begin(kind, word="--password=hunter2"):
        command = [sys.executable, "-c", HOLDER, str(int(kind)), word]
        with (tmp_path / "lock").open("r+") as locked:
            pipe = subprocess.PIPE
            holder = subprocess.Popen(command, stdin=pipe, stdout=locked, stderr=pipe, text=True)
        begun.append(holder)
        assert holder.stderr.read(4) == "held"
        return holder

    yield begin
    for holder in begun:
        holder.kill()
        holder.communicate()


@pytest.fixture
def told(monkeypatch):
    """The lines of a wait, whose times are over at once; the second ends what `told.holder` is."""
    monkeypatch.setattr(file_lock, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(file_lock, "AGAIN_SECONDS", 0.0)

    class Told(list):
        def append(self, line):
            super().append(line)
            if len(self) == 2:
                self.holder.kill()

    return Told()


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_whoever_waits_says_who_holds_the_lock(file, hold, told, kind):
    os.utime(file, (1e9, 1e9))
    told.holder = hold(kind)
    take_lock(file, fcntl.LOCK_EX, "device cpu", told.append)
    assert re.match(rf"waiting for device cpu: process {told.holder.pid} \(\S*python\S* -c import fcntl", told[0])
    assert re.search(r" has held it since \d\d:\d\d:\d\d( or before)?$", told[0])
    assert told[0].endswith("or before") == (kind == fcntl.LOCK_SH)
    assert "hunter2" not in told[0]
    assert told[1] == told[0]
    assert os.fstat(file).st_mtime > 1e9  # for whoever waits for us


def test_a_paused_holder_is_said_to_be_paused(file, hold, told):
    told.holder = hold(fcntl.LOCK_EX)
    told.holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, told.holder.pid, os.WSTOPPED)
    take_lock(file, fcntl.LOCK_EX, "device cpu", told.append)
    assert told[0].endswith(f"; it is paused: `kill -CONT {told.holder.pid}` resumes it")


def test_a_wait_is_told_after_five_seconds_and_each_minute(monkeypatch):
    pauses, lines = [], []

    class Watched:
        def wait(self, seconds):
            pauses.append(seconds)
            return len(pauses) > 2  # then it is over

        def set(self):
            pass

    monkeypatch.setattr(file_lock, "Event", Watched)
    with told_while_waiting("device cpu", lambda: "process 7 holds it", lines.append):
        pass
    assert pauses == [5, 60, 60]
    assert lines == ["waiting for device cpu: process 7 holds it"] * 2
    assert sqlite_lock.TRY_SECONDS == 5


def test_a_holder_that_the_kernel_does_not_show_is_said_to_be_unseen(file, hold, told, monkeypatch):
    """As from within a container."""
    monkeypatch.setattr(file_lock, "_holders", lambda _stat, _kind: [])
    told.holder = hold(fcntl.LOCK_EX)
    take_lock(file, fcntl.LOCK_EX, "device cpu", told.append)
    assert told[0] == "waiting for device cpu: a process that is not visible from here holds it"


def test_a_free_lock_is_taken_without_a_word(file, told):
    take_lock(file, fcntl.LOCK_SH, "device cpu", told.append)
    assert not told


def test_a_line_that_nobody_reads_any_more_does_not_end_the_wait(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    gone = open(write, "w")  # noqa: SIM115  (what it holds cannot be written when it is closed, either)
    monkeypatch.setattr(sys, "stderr", gone)
    file_lock.to_stderr("waiting for device cpu")
    with pytest.raises(BrokenPipeError):
        gone.close()


def test_of_a_worker_the_command_of_its_search_is_said(file, hold, told):
    told.holder = hold(fcntl.LOCK_EX, "multiprocessing.forkserver")
    take_lock(file, fcntl.LOCK_EX, "device cpu", told.append)
    command = Path("/proc/self/cmdline").read_text().split("\0")[0]
    assert f"process {told.holder.pid} (worker of {command} " in told[0]
