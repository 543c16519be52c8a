"""Trainings that processes share: each claimed once, and taken up by another when its process is gone."""

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from nasseg.errors import Fault
from nasseg.study.store import claims, lease
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.claims import Claims
from nasseg.study.store.record import Record

CANDIDATE = Candidate(Proposal({}, {}, {}), {"family": "regseg"}, None, 0)


def same(trial):
    return trial.user_attrs["eval_key"] == "key"


@pytest.fixture
def record(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.05)
    return Record.create(InMemoryStorage(), "s", {"miou": "maximize"}, {})


def claimed_elsewhere(record):
    """By a process of another machine, whose lease is never renewed unless the test does."""
    trial = record.claim(CANDIDATE, "key", {}, {})
    record.storage.set_trial_user_attr(trial._trial_id, "lease", "machine/12/34/owner:1")
    return trial


def test_what_another_machine_left_behind_is_taken_up_in_the_same_call(record):
    trial, said = claimed_elsewhere(record), []
    taken = list(Claims(record).left_behind(said.append))
    assert [one.user_attrs["retry_of"] for one in taken] == [trial.number]
    assert len(said) == 1
    assert "another process is gone" in said[0]


def test_who_renews_a_lease_is_not_waited_for(record, monkeypatch):
    trial, looks = claimed_elsewhere(record), []

    def renewed(_seconds):
        looks.append(None)
        record.storage.set_trial_user_attr(trial._trial_id, "lease", "machine/12/34/owner:2")

    monkeypatch.setattr(claims.time, "sleep", renewed)
    assert list(Claims(record).left_behind(lambda _line: None)) == []
    assert len(looks) == 1
    assert record.reread(trial).state == TrialState.RUNNING


def test_a_process_of_this_machine_is_known_at_once(record, monkeypatch):
    record.claim(CANDIDATE, "key", {}, {})
    monkeypatch.setattr(claims.time, "sleep", lambda _seconds: pytest.fail("nothing to wait for"))
    assert list(Claims(record).left_behind(lambda _line: None)) == []


def test_of_two_that_begin_at_once_the_first_goes_on(record, monkeypatch):
    """The other one looked before the first had claimed."""
    first = Claims(record).claim(CANDIDATE, "key", {}, same)
    assert first is not None
    found = record.trials
    looks = iter([[]])
    monkeypatch.setattr(record, "trials", lambda *states: next(looks, None) if not states else found(*states))
    assert Claims(record).claim(CANDIDATE, "key", {}, same) is None
    monkeypatch.undo()
    states = [trial.state for trial in record.trials()]
    assert states == [TrialState.RUNNING, TrialState.FAIL]


@pytest.mark.parametrize(("fault", "again"), [(Fault.DIVERGED, False), (Fault.OUT_OF_MEMORY, True)])
def test_what_diverged_is_not_begun_again(record, fault, again):
    first = Claims(record).claim(CANDIDATE, "key", {}, same)
    record.fail(first, "at step 3", fault)
    assert (Claims(record).claim(CANDIDATE, "key", {}, same) is not None) == again


def test_what_was_measured_since_the_claim_is_kept_for_the_next_attempt(record):
    trial = Claims(record).claim(CANDIDATE, "key", {}, same)
    record.update(trial, {"latency_ms": 3.0})
    record.requeue(trial, "it was stopped")
    assert record.trials(TrialState.WAITING)[0].user_attrs["latency_ms"] == 3.0
