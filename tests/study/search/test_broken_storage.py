"""A page of the database is destroyed in mid-search: one clear error; with the page back the search goes on."""

import sqlite3

import pytest

from nasseg.errors import UserError
from nasseg.study.engines import local_engine
from nasseg.study.search.run_study import run_study
from nasseg.study.store.read_study import read_study
from tests.study.fakes import InlineEngine
from tests.study.search.test_faults import states, tiny


def page_of(path, table):
    """Return where a table's first page lies in a file, and its length."""
    with sqlite3.connect(path) as connection:
        length = connection.execute("pragma page_size").fetchone()[0]
        root = connection.execute("select rootpage from sqlite_master where name = ?", [table]).fetchone()[0]
    return (root - 1) * length, length


def overwrite(path, place, content):
    with path.open("r+b") as file:
        file.seek(place)
        before = file.read(len(content))
        file.seek(place)
        file.write(content)
    return before


@pytest.mark.slow
def test_a_destroyed_page_stops_the_search_and_loses_nothing(inline, tmp_path, monkeypatch):
    path, kept = tmp_path / "s.db", {}

    class Destroying(InlineEngine):
        def wait(self, timeout):
            if self.jobs[0].kind == "train" and len(self.trained()) == 1:
                place, length = page_of(path, "trial_user_attributes")
                kept[place] = overwrite(path, place, b"\xff" * length)
            return super().wait(timeout)

    monkeypatch.setattr(local_engine, "LocalEngine", Destroying)
    url = f"sqlite:///{path}"
    with pytest.raises(UserError, match=r"storage sqlite.* failed: .*malformed.*run the same command again"):
        run_study(tiny(tmp_path), storage=url)
    with pytest.raises(UserError, match=r"s\.db failed: .*malformed"):
        read_study("tiny", url)
    for place, content in kept.items():
        overwrite(path, place, content)
    monkeypatch.setattr(local_engine, "LocalEngine", InlineEngine)
    monkeypatch.setattr("nasseg.study.store.lease._start_ticks", lambda pid: None)  # as after the end of that process
    monkeypatch.setattr("nasseg.study.driver.housekeeping.HOUSEKEEPING_SECONDS", 0.0)
    record = run_study(tiny(tmp_path), storage=url).record
    complete = [trial for trial in record.trials if trial.state == "COMPLETE"]
    assert len({trial.measurement.arch_id for trial in complete}) == len(complete) == 3
    assert not states(record)["RUNNING"]
