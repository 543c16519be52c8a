"""The bulk reader tells what Optuna tells, only faster."""

import json
import sqlite3
from contextlib import closing
from dataclasses import fields, replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from nasseg.errors import UserError
from nasseg.study.store.read_journal import journal_studies
from nasseg.study.store.read_sql import bulk_rows, bulk_trials
from nasseg.study.store.read_study import read_study, record_of, row_of
from nasseg.study.store.record import Record
from nasseg.study.store.storage import open_storage
from tests.slow import slow
from tests.study.fakes import FakeEngine, make_driver, make_study

NAMES = ["miou", "macs"]


class Detailed(FakeEngine):
    """Figures as workers measure them: what is a float is never an int."""

    def measure(self, job):
        found = super().measure(job)
        if job.kind == "latency":
            clocks = (1200.0, 1100.5) if job.candidate % 2 else None
            target = {"board": 'a "b" \\ c'} if job.candidate % 2 else {}
            return replace(found, latency=replace(found.latency, iqr_ms=0.25, clocks_mhz=clocks, target=target))
        if job.kind == "train":
            curve = ((10, 2.5), (20, 1.25))
            return replace(found, accuracy=replace(found.accuracy, pixel_accuracy=50.5, curve=curve))
        return found


def searched(url, name="fake", trials=4):
    """A study with trials of every kind: finished, over a limit, reused, failed, running."""
    study = make_study(max_macs=str(1_000 + 0xC00000), name=name)
    spoilt = []

    def spoil(job):
        if job.kind == "train" and not spoilt:
            spoilt.append(job)
            return 'it said "no"\nand left'
        return None

    engine = Detailed(spoil=spoil, arch_id=lambda settings: f"{settings['family']}-{settings['width']}")
    driver = make_driver(url, study, engine, trials=trials)
    driver.run()
    driver.record.set_attributes(
        {
            **dict.fromkeys(["question", "command", "created", "study_file", "space_file"], ""),
            "published": [],
            "environment": {},
            "limits": {},
            "objectives": [[f.name, f.unit, f.direction] for f in study.objectives],
        }
    )
    return driver.record


def two_studies(url):
    """Two studies in one storage, the trials of the second among those of the first."""
    first, second = searched(url), searched(url, "other", trials=2)
    for record in (first, second):
        copied = record.trials()[0]
        for state in (TrialState.RUNNING, TrialState.WAITING):
            more = create_trial(
                state=state,
                params=copied.params,
                distributions=copied.distributions,
                user_attrs={**copied.user_attrs, "note": None, "list": [1, "zwei", {"three": 3.0}], "text": "ä\tö"},
            )
            record.storage.create_new_trial(record.study_id, template_trial=more)
        infinite = create_trial(state=TrialState.COMPLETE, values=[float("inf"), float("-inf")])
        record.storage.create_new_trial(record.study_id, template_trial=infinite)
    return first, second


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return two_studies(f"sqlite:///{tmp_path_factory.mktemp('bulk')}/s.db")


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """A journal's path, and two studies in it, beside which a third was deleted."""
    path = tmp_path_factory.mktemp("bulk") / "s.log"
    gone = searched(str(path), "gone", trials=1)
    found = two_studies(str(path))
    gone.storage.delete_study(gone.study_id)
    return path, found


def through_optuna(record):
    """Return the rows as Optuna's own reader finds them."""
    storage = getattr(record.storage, "_backend", None)
    database = isinstance(storage, RDBStorage)
    trials = RDBStorage._get_trials(storage, record.study_id, None, set(), -1) if database else record.trials()
    return [row_of(trial, NAMES) for trial in trials]


@pytest.mark.parametrize("which", [0, 1])
def test_both_readers_agree(records, which):
    agree(bulk_rows(records[which], NAMES), through_optuna(records[which]), which)


@pytest.mark.parametrize("which", [0, 1])
def test_trials_read_at_once_are_those_that_optuna_reads(records, which):
    storage, study = records[which].storage._backend, records[which].study_id
    assert bulk_trials(storage, study) == RDBStorage._get_trials(storage, study, None, set(), -1)


@pytest.mark.parametrize("which", [0, 1])
def test_both_readers_of_a_journal_agree(journal, which):
    path, records = journal
    found = journal_studies(path)[records[which].name]
    assert found.attributes == records[which].attributes()
    agree(found.rows(NAMES), through_optuna(records[which]), which)
    assert read_study(records[which].name, str(path)) == record_of(records[which])


def agree(rows, expected, which):
    kinds = {(row.state, row.reused_from is not None, row.measurement is not None) for row in expected}
    if which == 0:
        assert {state for state, _, _ in kinds} == {"COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"}
        assert ("COMPLETE", True, True) in kinds
    assert len(rows) == len(expected)
    for row, known in zip(rows, expected, strict=True):
        for field in fields(known):
            assert getattr(row, field.name) == getattr(known, field.name), field.name
        assert row.accuracy == known.accuracy
        assert list(row.params) == list(known.params)
        if known.measurement:
            assert row.measurement.to_json() == known.measurement.to_json()
    assert list(rows) == expected
    assert expected == list(rows)
    assert replace(rows[0], number=99) != rows[0]
    assert replace(rows[0], number=99).accuracy == expected[0].accuracy


def test_measurements_of_another_version_are_read_with_care(records):
    """A field that is not there yet has its default; parts that are shared are equal, not mixed up."""
    record = records[0]
    running = next(trial for trial in record.trials(TrialState.RUNNING))
    text = running.user_attrs["measurement"].replace('"peak_activation_bytes":null,', "")
    assert text != running.user_attrs["measurement"]
    record.storage.set_trial_user_attr(running._trial_id, "measurement", text)
    rows = bulk_rows(record, NAMES)
    assert [row.measurement for row in rows] == [row.measurement for row in through_optuna(record)]


@pytest.mark.parametrize(
    ("key", "text", "name"),
    [
        ("arch", "{cut", "architecture"),
        slow("measurement", "{cut", "measurement"),
        slow("measurement", "[]", "measurement"),
        ("measurement", '{"cost": 7}', "measurement"),
    ],
)
def test_a_damaged_text_of_a_trial_is_named(tmp_path, key, text, name):
    url = f"sqlite:///{tmp_path}/s.db"
    searched(url, trials=6)
    with closing(sqlite3.connect(tmp_path / "s.db")) as base:
        base.execute("update trial_user_attributes set value_json = ? where key = ?", (json.dumps(text), key))
        base.commit()
    trial = next(trial for trial in read_study("fake", url).trials if trial.state == "COMPLETE")
    with pytest.raises(UserError, match=rf"the {name} of trial {trial.number} is damaged \(.*changed by hand"):
        getattr(trial, key)


def test_what_is_not_known_of_a_journal_is_left_to_optuna(journal, tmp_path):
    path, (_, second) = journal
    text = path.read_text()
    assert "nowhere" not in journal_studies(path)
    assert "gone" not in journal_studies(path)
    own = tmp_path / "s.log"
    for more in (
        '{"op_code":5,"trial_id":0}\n',
        '{"op_code":99}\n',
        '{"op_co',
        "[]\n",
        '{"op_code":8,"trial_id":9999}\n',
    ):
        own.write_text(text + more)
        assert journal_studies(own) == {}, more
    own.write_text(text + '{"op_co')  # torn: Optuna's reader drops the line
    assert [row.number for row in read_study(second.name, str(own)).trials] == [t.number for t in second.trials()]


def test_what_is_no_known_database_is_left_to_optuna(tmp_path, records, monkeypatch):
    assert bulk_rows(searched(str(tmp_path / "s.log"), trials=1), NAMES) is None
    monkeypatch.setattr("nasseg.study.store.read_sql.SCHEMA", 11)
    assert bulk_rows(records[0], NAMES) is None


def test_a_parameter_may_have_other_values_in_another_study(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    a, b = (optuna.create_study(study_name=name, storage=storage, directions=["maximize"] * 2) for name in "ab")
    for study, name, values in ((b, "depth", [1, 2]), (a, "width", [16, 32]), (b, "width", [24, 48, 96])):
        params, distributions = {name: values[-1]}, {name: CategoricalDistribution(values)}
        study.add_trial(create_trial(state=TrialState.PRUNED, params=params, distributions=distributions))
    assert [row.params for row in bulk_rows(Record.load(storage, "a"), NAMES)] == [{"width": 32}]
    assert [row.params for row in bulk_rows(Record.load(storage, "b"), NAMES)] == [{"depth": 2}, {"width": 96}]


def test_a_study_without_trials_has_no_rows(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    optuna.create_study(study_name="empty", storage=storage, directions=["maximize", "minimize"])
    assert bulk_rows(Record.load(storage, "empty"), NAMES) == ()
