"""Code of a user's own: what a record names runs only where it is what was searched, and the user has run it here."""

import json
import sqlite3

import pytest

from nasseg import own_code
from nasseg.errors import UserError
from nasseg.network.address import resolve
from nasseg.own_code import CodeError, check_command, load_code, of_record, only
from nasseg.study.driver.other_study import front_points
from nasseg.study.store.read_study import open_record
from nasseg.study.store.weight_store import WeightStore
from tests.command_line import nasseg, refused
from tests.slow import slow
from tests.study.fakes import make_driver

FAMILY = """
from nasseg.families.regseg import RegSegArch

class Mine(RegSegArch):
    pass
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder in which nasseg runs, with a family of one's own, on a machine where nothing was run before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    own_code._note.cache_clear()
    trusted = own_code._trusted.set(False)
    (tmp_path / "mine.py").write_text(FAMILY)
    yield tmp_path
    own_code._trusted.reset(trusted)
    own_code._note.cache_clear()


@pytest.fixture
def evil(tmp_path_factory):
    """A file that leaves a mark when it runs."""
    path = tmp_path_factory.mktemp("elsewhere") / "evil.py"
    path.write_text(f"open({str(path.with_name('ran'))!r}, 'w').close()\n{FAMILY}")
    yield f"{path}:Mine"
    assert not path.with_name("ran").exists()


def searched(home, family="regseg", **attributes):
    """A search of one network, whose family and attributes are then forged in its database."""
    path = home / "s.db"
    driver = make_driver(f"sqlite:///{path}", trials=1)
    driver.run()
    driver.record.set_attributes({"objectives": [["miou", "%", "maximize"], ["macs", "", "minimize"]]})
    with sqlite3.connect(path) as connection:
        where = "key = 'arch'"
        arch = json.dumps(json.dumps({"family": family}))
        connection.execute(f"update trial_user_attributes set value_json = ? where {where}", (arch,))
        for name, value in attributes.items():
            change = "update study_user_attributes set value_json = ? where key = ?"
            connection.execute(change, (json.dumps(value), name))
    return f"sqlite:///{path}"


def test_a_family_forged_in_the_database_does_not_run(home, evil):
    url = searched(home, evil)
    with pytest.raises(CodeError, match="the study's identity does not name it"):
        resolve("fake#0", storage=url)
    with pytest.raises(CodeError, match="the study's identity does not name it"):
        resolve("fake#0", {"width": 0.5}, url)


def test_an_identity_that_is_forged_too_needs_the_users_word(home, evil):
    load = own_code._text("", home.parent / evil.rpartition(":")[0])
    known = own_code.hashlib.sha256(load).hexdigest()[:16]
    url = searched(home, evil, identity={"own code": {evil: known}})
    with pytest.raises(CodeError, match=rf"you have not run it on this machine yet \(hash {known}\).*--trust-code"):
        resolve("fake#0", storage=url)


@pytest.mark.parametrize("command", ["measure", *map(slow, ("export", "latency", "train"))])
def test_a_command_runs_what_was_searched_and_only_at_the_users_word(home, command):
    source = "mine.py:Mine"
    known = own_code.hashlib.sha256((home / "mine.py").read_bytes()).hexdigest()[:16]
    url = searched(home, source, identity={"own code": {source: known}})
    asked = [command, "fake#0", "--storage", url]
    asked += {"train": ["--data", "scenes", "--recipe", "default"], "export": ["-o", "mine.onnx"]}.get(command, [])
    assert f"you have not run it on this machine yet (hash {known})" in refused(*asked, cwd=home)
    if command == "measure":
        assert '"macs":' in nasseg(*asked, "--input", "64x64", "--json", "--trust-code", cwd=home).stdout
    (home / "mine.py").write_text(f"{FAMILY}# edited\n")
    assert f"was changed: its hash was {known} in the study" in refused(*asked, "--trust-code", cwd=home)
    assert not [path for path in home.iterdir() if path.suffix in (".onnx", ".pt", ".pt2")]


def test_an_encoder_and_a_point_of_another_study_run_no_code_either(home, evil):
    with of_record({}), pytest.raises(CodeError):
        resolve("composed", {"encoder": evil, "decoder": "ffm"})
    with of_record({}), pytest.raises(CodeError):
        resolve("composed", {"encoder": "regseg", "decoder": evil})
    url = searched(home, evil)
    space = make_driver("sqlite:///:memory:").study.space
    space.parameters["family"] = type(space.parameters["family"])("family", (evil,))
    with pytest.raises(CodeError):
        front_points(open_record("fake", url), space)


def test_the_users_word_is_asked_for_once_a_file_and_a_change_asks_again(home):
    source = "mine.py:Mine"
    known = own_code.hashlib.sha256((home / "mine.py").read_bytes()).hexdigest()[:16]
    with of_record({source: known}), pytest.raises(CodeError, match="--trust-code"):
        load_code(source)
    own_code.trust_records()
    with of_record({source: known}):
        assert load_code(source)[0].__name__ == "Mine"
    own_code._trusted.set(False)
    with of_record({source: known}):  # said once
        load_code(source)
    (home / "mine.py").write_text(FAMILY + "\n# changed\n")
    with (
        of_record({source: known}),
        pytest.raises(CodeError, match=rf"was changed: its hash was {known} in the study"),
    ):
        load_code(source)
    with of_record(None), pytest.raises(CodeError, match="--trust-code"):
        load_code(source)


def test_what_the_user_ran_here_needs_no_word(home):
    source = "mine.py:Mine"
    _, known = load_code(source)
    with of_record({source: known}):
        assert load_code(source)[1] == known
    with only({}), pytest.raises(CodeError, match="identity does not name it"):
        load_code(source)


def test_the_text_that_was_hashed_is_the_text_that_runs(home, monkeypatch):
    """The file changes between the two."""
    read = own_code._text

    def then_change(place, path):
        text = read(place, path)
        path.write_text("raise SystemExit")
        return text

    monkeypatch.setattr(own_code, "_text", then_change)
    assert load_code("mine.py:Mine")[0].__name__ == "Mine"


def test_a_command_that_a_record_names_needs_the_users_word(home):
    with of_record({}), pytest.raises(CodeError, match=r"the command './bench \{onnx\}' is not run: a record names it"):
        check_command("./bench {onnx}")
    check_command("./bench {onnx}")  # of the user's own study file
    with of_record({}):
        check_command("./bench {onnx}")


@pytest.mark.parametrize("key", ["../../home", "/etc", "..", "", "a//b", ".ssh"])
def test_a_key_leads_nowhere_but_into_the_runs_folder(tmp_path, key):
    precious = tmp_path / "last.pt"
    precious.touch()
    store = WeightStore(tmp_path / "runs" / "s")
    for call in (lambda: store.folder(key), lambda: store.remove(key, "last.pt")):
        with pytest.raises(UserError, match="the record was changed by hand"):
            call()
    assert precious.exists()
