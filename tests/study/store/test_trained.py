"""What was trained, by address: a forged record names no file outside of the folders of its study."""

import sqlite3
from contextlib import closing

import pytest

from nasseg.errors import UserError
from nasseg.study.store.read_study import read_study
from nasseg.study.store.storage import default_url
from nasseg.study.store.trained import find_trained
from nasseg.study.store.weight_store import recorded_place
from tests.study.fakes import make_driver


@pytest.fixture
def forge(tmp_path, monkeypatch):
    """Return a function that makes a study of one trained network, and forges attributes of the two."""
    monkeypatch.chdir(tmp_path)

    def make(of_study, **of_trial):
        driver = make_driver(default_url("fake"), trials=1)
        driver.run()
        driver.record.set_attributes(of_study)
        with closing(sqlite3.connect(tmp_path / "runs/fake/study.db")) as base:
            for key, value in {"weights_sha256": '"0"', **of_trial}.items():
                base.execute("delete from trial_user_attributes where key = ?", (key,))
                new = "insert into trial_user_attributes (trial_id, key, value_json) values (1, ?, ?)"
                base.execute(new, (key, value))
            base.commit()

    return make


@pytest.mark.parametrize("key", ['"../../secret"', '"/etc"', '"a/../../.."', '""', "7"])
def test_a_forged_key_leads_nowhere(forge, key):
    forge({}, eval_key=key)
    with pytest.raises(UserError, match=r"is no name below runs/fake: .* the record was changed by hand"):
        find_trained("fake#0")


@pytest.mark.parametrize("place", ["/etc", "/etc/fake/..", "fake", "ftp://elsewhere/anything", 7])
def test_a_forged_place_of_weights_leads_nowhere(forge, place):
    forge({"weights": place})
    with pytest.raises(UserError, match=r"must be in a folder of that name, got .*: the record was changed by hand"):
        find_trained("fake#0")


def test_a_place_that_a_search_was_given_is_where_its_weights_are(forge, tmp_path):
    place = tmp_path / "elsewhere/fake"
    forge({"weights": str(place)}, eval_key='"k"')
    assert find_trained("fake#0").path == place / "k/last.pt"
    assert recorded_place("s3://bucket/runs/fake", "fake@finish") == "s3://bucket/runs/fake"


@pytest.mark.parametrize(
    ("source", "why"),
    [('"../../other#0"', "is no name below runs"), ('"fake#0"', "trials name each other as their source: fake#0")],
)
def test_a_forged_source_of_weights_leads_nowhere(forge, source, why):
    forge({}, accuracy_from=source)
    found = find_trained("fake#0")
    assert found.path is None
    assert why in found.why_not


@pytest.mark.parametrize("name", ["../other", "/tmp/other", "", "a//b", "a/.hidden"])
def test_a_studys_name_is_one_below_the_runs_folder(name):
    with pytest.raises(UserError, match="is no name below runs"):
        read_study(name)
