"""Storages: a new trial is written in few statements and is the one that Optuna writes; a foreign study is refused."""

import math
import os
import threading
from datetime import datetime

import optuna
import pytest
from optuna.storages import RDBStorage, get_storage
from optuna.trial import TrialState, create_trial
from sqlalchemy import event

from nasseg.errors import UserError
from nasseg.processes import file_lock
from nasseg.study.store.database import _JournalLock
from nasseg.study.store.read_study import read_study
from nasseg.study.store.storage import LARGE, large, open_storage, storage_faults
from nasseg.study.store.trial_attributes import LEASE

FIELDS = ["number", "state", "values", "params", "distributions", "user_attrs", "system_attrs", "datetime_complete"]


def trial(state=TrialState.COMPLETE, values=(1.5, float("inf")), depth=3, choices=("a", "b")):
    return create_trial(
        state=state,
        values=values and list(values),
        params={"width": 0.5, "depth": depth, "kind": "b"},
        distributions={
            "width": optuna.distributions.FloatDistribution(0.25, 1.0, step=0.25),
            "depth": optuna.distributions.IntDistribution(1, 4),
            "kind": optuna.distributions.CategoricalDistribution(choices),
        },
        user_attrs={f"attribute {i}": {"i": i} for i in range(20)},
        constraints={"macs max": -0.5},
    )


def stored(storage, trials):
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE] * 2, "s")
    for one in trials:
        storage.create_new_trial(study, template_trial=one)
    return storage.get_all_trials(study)


def test_what_is_stored_is_what_optuna_stores(tmp_path):
    trials = [trial(), trial(TrialState.PRUNED, None, depth=1), trial(TrialState.RUNNING, None), trial()]
    trials[0].datetime_complete = datetime(2026, 3, 2, 14, 30)
    ours = stored(open_storage(f"sqlite:///{tmp_path}/ours.db", create=True), trials)
    theirs = stored(RDBStorage(f"sqlite:///{tmp_path}/theirs.db"), trials)
    for one, other in zip(ours, theirs, strict=True):
        assert [getattr(one, name) for name in FIELDS] == [getattr(other, name) for name in FIELDS]
        assert list(one.params) == list(other.params)


def test_a_new_trial_takes_few_statements(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    statements = []
    event.listen(storage.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    stored(storage, [trial()])
    before = len(statements)
    storage.create_new_trial(1, template_trial=trial())
    assert len(statements) - before <= 12


def running(storage, attributes):
    """Return the id of a running trial with a lease of `me`."""
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE] * 2, "s")
    new = create_trial(state=TrialState.RUNNING, user_attrs={LEASE: "me:1", **attributes})
    return storage.create_new_trial(study, template_trial=new)


def test_a_trial_ends_in_one_transaction_with_what_was_measured(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    begun = running(storage, {"macs": 1, "rung": 0})
    commits = []
    event.listen(storage.engine, "commit", commits.append)
    assert storage.write(begun, "me", {"macs": 2, "rung": 0, "miou": 3.5}, TrialState.COMPLETE, [3.5, math.inf])
    assert len(commits) == 1
    ended = RDBStorage(f"sqlite:///{tmp_path}/s.db").get_trial(begun)
    assert (ended.state, ended.values) == (TrialState.COMPLETE, [3.5, math.inf])
    assert ended.user_attrs == {LEASE: "me:1", "macs": 2, "rung": 0, "miou": 3.5}
    assert ended.datetime_complete is not None
    assert storage.get_trial(begun).user_attrs == ended.user_attrs


def test_nothing_is_written_into_a_trial_of_somebody_elses_or_one_that_ended(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    begun = running(storage, {})
    assert not storage.write(begun, "you", {"miou": 1.0}, TrialState.COMPLETE, [1.0, 2.0])
    assert storage.get_trial(begun).state == TrialState.RUNNING
    assert storage.write(begun, None, {}, TrialState.FAIL)
    assert not storage.write(begun, "me", {"miou": 1.0})
    assert storage.get_trial(begun).user_attrs == {LEASE: "me:1"}


def test_others_see_a_renewed_lease_and_an_end(tmp_path):
    mine, theirs = (open_storage(f"sqlite:///{tmp_path}/s.db", create=True) for _ in range(2))
    begun = running(mine, {})
    seen = get_storage(theirs)
    assert [one.user_attrs[LEASE] for one in seen.get_all_trials(1)] == ["me:1"]
    mine.write(begun, "me", {LEASE: "me:2"})
    assert [one.user_attrs[LEASE] for one in seen.get_all_trials(1)] == ["me:2"]
    mine.write(begun, "me", {"miou": 1.0}, TrialState.PRUNED)
    assert [(one.state, one.user_attrs["miou"]) for one in seen.get_all_trials(1)] == [(TrialState.PRUNED, 1.0)]


def test_what_has_not_changed_is_not_read_again(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    running(storage, {"measurement": "long"})
    seen = get_storage(storage)
    statements = []
    event.listen(storage.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert seen.get_all_trials(1)[0].user_attrs["measurement"] == "long"
    assert len(statements) == 2  # the states, and the lease


def test_choices_that_changed_are_refused_and_nothing_is_stored(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    stored(storage, [trial()])
    with pytest.raises(ValueError, match="CategoricalDistribution"):
        storage.create_new_trial(1, template_trial=trial(choices=("b", "c")))
    assert len(storage.get_all_trials(1)) == 1


@pytest.mark.parametrize("url", ["sqlite:///s.db", "s.log"])
def test_a_study_of_somebody_elses_is_not_read(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    optuna.create_study(study_name="theirs", storage=open_storage(url, create=True))
    with pytest.raises(UserError, match="study 'theirs' in this storage is not nasseg's"):
        read_study("theirs", url)


def test_whoever_waits_for_a_journals_lock_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(file_lock, "FIRST_SECONDS", 0.05)
    path = tmp_path / "s.log"
    storage, lock = open_storage(str(path), create=True), tmp_path / "s.log.lock"
    lock.symlink_to(path)  # as of a process that was killed
    threading.Timer(0.3, lock.unlink).start()
    storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    said = [line for line in capfd.readouterr().err.splitlines() if "A new study" not in line]
    assert len(said) == 1
    assert said[0].startswith(f"waiting for the journal {path}: its lock {lock} has existed since ")
    assert said[0].endswith("; it is removed when the journal has not changed for 30 s")
    assert not lock.is_symlink()


def test_a_journal_that_may_only_be_read_is_opened_without_its_lock(tmp_path, monkeypatch):
    """It may lie in a folder of somebody else's. One whose last line was cut off is mended, which takes the lock."""
    path = tmp_path / "s.log"
    open_storage(str(path), create=True).create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    whole, taken = path.read_bytes(), []
    monkeypatch.setattr(_JournalLock, "acquire", lambda _lock: taken.append(1))
    monkeypatch.setattr(_JournalLock, "release", lambda _lock: None)
    assert [one.study_name for one in open_storage(str(path), create=False).get_all_studies()] == ["s"]
    assert not taken
    path.write_bytes(whole + b'{"op_co')
    open_storage(str(path), create=False)
    assert taken
    assert path.read_bytes() == whole


def names(storage):
    return [one.study_name for one in storage.get_all_studies()]


def test_nothing_is_written_behind_a_line_that_a_killed_process_left_torn(tmp_path):
    path = tmp_path / "s.log"
    storage = open_storage(str(path), create=True)
    for name in ("one", "other"):
        with path.open("ab") as file:
            file.write(b'{"op_code":8,"worker_id":"x","trial')
        assert names(storage) == ["one"] * (name == "other")
        storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
    assert names(storage) == names(open_storage(str(path), create=False)) == ["one", "other"]


def test_whoever_was_paused_with_a_journals_lock_until_others_removed_it_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "s.log"
    storage, wait = open_storage(str(path), create=True), os.fsync

    def paused(fd):
        wait(fd)
        (tmp_path / "s.log.lock").unlink()

    monkeypatch.setattr(os, "fsync", paused)
    storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    assert names(storage) == ["s"]


@pytest.mark.parametrize("damage", [lambda line: line.replace(b'"other"', b'"oth\xff\xff"'), lambda _line: b"17\n"])
def test_a_damaged_line_of_a_journal_is_named(tmp_path, damage):
    path = tmp_path / "s.log"
    storage, seen = (open_storage(str(path), create=True) for _ in range(2))
    for name in ("one", "other"):
        storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage(second))
    with (
        pytest.raises(UserError, match=r"the storage failed: line 2 of the journal is damaged; "),
        storage_faults(),
    ):
        names(seen)
    with pytest.raises(UserError, match=r"cannot open storage .*s\.log: line 2 of the journal is damaged"):
        open_storage(str(path), create=False)


def test_names_that_are_no_unicode_are_read_from_a_journal(tmp_path):
    path = tmp_path / "s.log"
    storage = open_storage(str(path), create=True)
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    storage.set_study_user_attr(study, "command", "nasseg search \udce9")
    assert open_storage(str(path), create=False).get_study_user_attrs(study) == {"command": "nasseg search \udce9"}


def test_a_large_storage_is_one_that_takes_seconds_to_read(tmp_path):
    for name, size in (("small.log", 10), ("large.log", LARGE + 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    found = [large(str(tmp_path / name)) for name in ("small.log", "large.log", "none.log")]
    assert [*found, large("postgresql://h/d")] == [0, LARGE + 1, 0, 0]
