"""Storages: a new trial is written in few statements and is the one that Optuna writes; a foreign study is refused."""

from datetime import datetime

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import event

from nasseg.errors import UserError
from nasseg.study.store.read_study import read_study
from nasseg.study.store.storage import open_storage

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
