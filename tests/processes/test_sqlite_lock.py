"""Whoever waits for the lock of an SQLite file says who holds it."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text

from nasseg.processes import sqlite_lock
from nasseg.processes.sqlite_lock import PatientConnection

HOLDER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
base.execute(sys.argv[2])
base.execute("select * from kept").fetchone()
print("held", flush=True)
input()
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A database; whoever waits for it tells after 50 ms, and gives up after half a second."""
    monkeypatch.setattr(sqlite_lock, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(sqlite_lock, "TIMEOUT_SECONDS", 0.5)
    with closing(sqlite3.connect(tmp_path / "s.db")) as base:
        base.execute("create table kept (value)")
        base.execute("insert into kept values (1)")
        base.commit()
    return tmp_path / "s.db"


@pytest.fixture
def hold(path):
    """Begin a transaction in a process of its own, which ends with the test."""
    begun = []

    def begin(statement):
        command = [sys.executable, "-c", HOLDER, str(path), statement]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield begin
    for holder in begun:
        holder.kill()
        holder.communicate()


def test_a_writer_that_waits_says_once_who_writes_and_gets_the_lock_when_that_ends(path, hold, capfd, monkeypatch):
    monkeypatch.setattr(sqlite_lock, "TIMEOUT_SECONDS", 60.0)
    holder = hold("begin immediate")
    threading.Timer(0.4, holder.kill).start()
    engine = create_engine(f"sqlite:///{path}", connect_args={"factory": PatientConnection})
    with engine.begin() as connection:
        connection.execute(text("insert into kept values (2)"))
    assert sqlite3.connect(path).execute("select count(*) from kept").fetchone() == (2,)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.match(rf"waiting for the database {path}: process {holder.pid} \(\S*python.* holds it$", said[0])


def test_a_commit_waits_for_a_reader(path, hold, capfd):
    holder = hold("begin")
    with closing(PatientConnection(path)) as base:
        base.execute("insert into kept values (2)")
        with pytest.raises(sqlite3.OperationalError, match=rf"database is locked: process {holder.pid} \("):
            base.commit()
        holder.kill()
        holder.wait()
        base.commit()
    assert f"process {holder.pid} (" in capfd.readouterr().err


def test_a_reader_says_that_the_holder_is_paused(path, hold, capfd):
    holder = hold("begin exclusive")
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    with closing(PatientConnection(path)) as base, pytest.raises(sqlite3.OperationalError, match="kill -CONT"):
        base.execute("select * from kept")
    assert f"it is paused: `kill -CONT {holder.pid}`" in capfd.readouterr().err


def test_other_errors_are_raised_at_once(path):
    with closing(PatientConnection(path)) as base, pytest.raises(sqlite3.OperationalError, match="no such table"):
        base.execute("select * from absent")
