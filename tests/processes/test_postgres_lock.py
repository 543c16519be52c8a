"""A row of PostgreSQL that another process keeps locked: whoever waits for it says who that is."""

import os
import re
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from nasseg.processes import file_lock, postgres_lock
from nasseg.study.store.storage import open_storage
from tests import ROOT
from tests.study.store.postgres import postgres, postgres_server  # noqa: F401

pytestmark = pytest.mark.slow  # the server takes seconds to begin

HOLDER = """
import sys
import time
from sqlalchemy import text
from nasseg.study.store.storage import open_storage
with open_storage(sys.argv[1], create=False).engine.connect() as connection:
    connection.execute(text("update trials set state = state"))
    print("held", flush=True)
    input()
"""


@pytest.fixture
def trial(postgres):  # noqa: F811
    """A storage and the id of a running trial in it."""
    storage = open_storage(postgres, create=True)
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    return storage, storage.create_new_trial(study, template_trial=create_trial(state=TrialState.RUNNING))


@pytest.fixture
def holder(postgres, trial):  # noqa: F811
    command = [sys.executable, "-c", HOLDER, postgres]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def told(monkeypatch):
    """The lines of waits, whose times are over at once; `told.then` is called after each."""
    monkeypatch.setattr(file_lock, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(file_lock, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(postgres_lock, "LOOK_SECONDS", 0.05)

    class Told(list):
        then = staticmethod(lambda: None)

        def append(self, line):
            super().append(line)
            self.then()

    lines = Told()
    monkeypatch.setattr(postgres_lock, "to_stderr", lines.append)
    return lines


def test_whoever_waits_for_a_paused_process_names_it_again_and_again(trial, holder, told):
    told.then = lambda: len(told) == 2 and holder.kill()  # its transaction ends with it
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    storage, number = trial
    assert storage.write(number, None, {"miou": 1.0})
    assert re.match(
        rf"waiting for the database nasseg_\w+ on 127.0.0.1: process {holder.pid} \(\S*python\S* -c .*\) "
        rf"has held it since \d\d:\d\d:\d\d; it is paused: `kill -CONT {holder.pid}` resumes it$",
        told[0],
    )
    assert told[1] == told[0]


def test_a_program_of_somebody_elses_is_told_as_the_server_knows_it(trial, postgres, told):  # noqa: F811
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres, application_name="theirs") as other:
        server = rf"\(the server's process {other.info.backend_pid}\)"
        other.execute("update trials set state = state")
        told.then = other.rollback
        assert trial[0].write(trial[1], None, {"miou": 1.0})
    assert re.search(rf": theirs at 127.0.0.1\S* has held it since \d\d:\d\d:\d\d {server}$", told[0])


def test_a_server_that_fails_without_a_word_is_told_all_the_same(monkeypatch):
    def fails(*_arguments, **_options):
        raise SQLAlchemyError from OSError()

    monkeypatch.setattr(postgres_lock, "create_engine", fails)
    watch = postgres_lock._Watch(create_engine("sqlite://"))
    assert watch._why(1) == "it does not answer: SQLAlchemyError"


def test_what_waits_for_nobody_says_nothing(trial, told):
    with trial[0].engine.connect() as connection:
        connection.exec_driver_sql("select pg_sleep(0.5)")
    assert not told


def test_a_statement_that_fails_says_why_and_is_no_longer_watched(trial, told):
    with trial[0].engine.connect() as connection:
        with pytest.raises(ProgrammingError, match="nowhere"):
            connection.exec_driver_sql("select nothing from nowhere")
        time.sleep(0.3)
        assert not told
