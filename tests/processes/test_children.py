"""Children are as if they had been started anew; Ctrl-C and SIGTERM are heeded where the work can be left."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nasseg.errors import UserError
from nasseg.processes import children
from nasseg.processes.children import Child
from nasseg.processes.interrupts import interrupts
from tests import HUNG_SECONDS, ROOT


def tell(pipe):
    """Tell what a child sees of its surroundings, then end with an exit code of its own."""
    print("a child's words", flush=True)
    main = getattr(sys.modules["__main__"], "__file__", None)
    pipe.send((os.getppid(), "torch" in sys.modules, main, os.getcwd(), os.environ.get("NASSEG_TOLD")))
    raise SystemExit(pipe.recv())


def test_children_come_from_one_server_and_see_what_their_parent_sees_now(tmp_path, monkeypatch, capfd):
    first = Child(tell)
    first.pipe.send(0)
    server, has_torch, main, *_ = first.pipe.recv()
    assert has_torch
    assert main is None
    assert server != os.getpid()
    assert first.join() == 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_TOLD", "later")
    capfd.readouterr()
    second = Child(tell)
    second.pipe.send(7)
    assert second.pipe.recv() == (server, True, None, str(tmp_path), "later")
    assert second.join() == 7
    assert capfd.readouterr().out == "a child's words\n"


def test_a_killed_child_says_so():
    child = Child(tell)
    child.kill()
    assert child.join() == -9


EARLY = """
import os, signal, time
from multiprocessing.forkserver import _forkserver
from nasseg.processes.children import Child, start_server
from tests.processes.test_children import tell

start_server()
server = _forkserver._forkserver_pid
time.sleep(0.5)
os.kill(server, signal.SIGINT)
child = Child(tell)
child.pipe.send(0)
assert child.pipe.recv()[0] == server
"""


@pytest.mark.slow
def test_ctrl_c_does_not_reach_a_server_in_the_midst_of_its_imports():
    done = subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


UNUSED = """
from multiprocessing import forkserver

from nasseg.processes.children import start_server

del __spec__  # as in a debugger's
start_server()
print(forkserver._forkserver._forkserver_pid)
"""


def test_a_server_that_started_no_child_ends_with_its_program(tmp_path):
    """It is still at its imports, and would keep the output of a command that found an error open for seconds."""
    with (tmp_path / "output").open("w") as output:
        subprocess.run([sys.executable, "-c", UNUSED], cwd=ROOT, stdout=output, check=True)
    server = int((tmp_path / "output").read_text())
    assert not Path(f"/proc/{server}").exists()


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_starts_a_child_is_replaced():
    def first():
        child = Child(tell)
        child.pipe.send(0)
        server = child.pipe.recv()[0]
        child.join()
        return server

    server = first()
    os.kill(server, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        another = pool.submit(first)
        time.sleep(0.3)  # until it waits for the server's answer
        os.kill(server, signal.SIGKILL)
        assert another.result(120) != server


def test_a_server_that_is_killed_again_and_again_is_an_error_of_one_line(monkeypatch):
    def killed(*_arguments):
        raise EOFError

    monkeypatch.setattr(children.Child, "_start", killed)
    monkeypatch.setattr(children, "_PAUSES", (0, 0))
    with pytest.raises(UserError, match="killed three times in a row, most likely for lack of memory"):
        Child(tell)


def test_a_program_that_ends_does_not_wait_for_its_children():
    code = (
        "from nasseg.processes import children; from tests.processes.test_children import tell; "
        "children._CONTEXT.set_forkserver_preload([]); "  # PyTorch, for time: this child needs none
        "children.Child(tell).pipe.recv()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=HUNG_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heeded_at_the_next_look_and_a_second_one_at_once(number):
    before = signal.getsignal(number)
    with interrupts() as look:
        look()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            look()
    with interrupts():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts() as look:
            signal.raise_signal(signal.SIGINT)
            look()
    finally:
        signal.signal(signal.SIGINT, before)
