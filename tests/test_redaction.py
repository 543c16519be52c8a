"""What goes out: no password of a URL is in any of it, and foreign text is text."""

import contextlib
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from nasseg import redaction
from nasseg.cli import shared
from nasseg.errors import Fault, UserError
from nasseg.redaction import cell, command_line, keep_secret, redact, redact_all, shown
from nasseg.report import write_report
from nasseg.study.search.run_study import run_study
from nasseg.study.store.read_study import record_of
from nasseg.study.store.record import now
from nasseg.study.store.storage import disconnect, open_storage, storage_faults
from nasseg.study.store.weight_store import WeightStore
from tests.command_line import nasseg
from tests.study.fakes import FakeEngine, make_driver, make_study, search_here
from tests.study.search.test_faults import tiny

SECRETS = st.text("aZ7é@/: ?#&=+%'\"\\$(;,*", min_size=6, max_size=20).filter(lambda text: len(set(text)) > 3)
USERS = st.sampled_from(["u", "me@firm.example", "", "a b"])
URLS = ["postgresql://{user}:{secret}@h:1/d", "ftp://{user}:{secret}@h/p", "mysql+x://{user}:{secret}@h/d?a=b&c=@d"]
QUERIES = [
    "postgresql://h/d?PASSWORD={secret}",
    "s3://b/p?a=1&secret_key={secret}",
    "postgresql://h/d?sslpassword={secret}&x=1",
]


@pytest.fixture(autouse=True)
def nothing_is_known():
    redaction._secrets.clear()
    yield
    redaction._secrets.clear()


@cache
def driver():
    return make_driver("sqlite:///:memory:", trials=1)


def outlets(url, driver):
    """Return all that comes of a URL that does not work, outlet by outlet."""
    said = [command_line(["nasseg", "search", "x", "--storage", url, f"--runs={url}"])]
    for call in (lambda: open_storage(url, create=True), lambda: WeightStore(url).check()):
        with contextlib.suppress(Exception):
            try:
                call()
            except UserError as error:
                said.append(str(error))
    with pytest.raises(UserError) as caught, storage_faults(url):
        raise OSError(f"no route to {url}")
    said += [str(caught.value), shown(f"cannot open {url}"), json.dumps(redact_all({"url": [url]}))]
    driver.record.set_attributes({"command": url, "weights": {"place": url}})
    kept = driver.record.attributes()
    return [*said, json.dumps(kept), repr(kept)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS, user=USERS, form=st.sampled_from(URLS), quoted=st.booleans())
@example(secret="p/w@x y", user="me@firm.example", form=URLS[0], quoted=False)
@example(secret="postgresql", user="postgresql", form=URLS[1], quoted=False)
def test_no_password_gets_out(secret, user, form, quoted):
    url = form.format(user=user, secret=quote(secret, safe="") if quoted else secret)
    for said in outlets(url, driver()):
        said = re.sub(r"postgresql(?=[:\]+'])", "", said)  # the name of the dialect
        assert secret not in said
        assert quote(secret, safe="") not in said or quote(secret, safe="") == secret
        assert json.dumps(secret)[1:-1] not in said


@pytest.mark.parametrize("option", [["--storage", "{}"], ["--runs={}"]])
def test_the_command_that_resumes_a_search_holds_no_password(monkeypatch, option):
    words = [word.format("postgresql://u:ge/h@im@h/d") for word in option]
    monkeypatch.setattr("sys.argv", ["nasseg", "search", "s.yaml", *words])
    said = " ".join(option).format("postgresql://u:***@h/d")
    assert shared.this_command().replace("'", "") == f"nasseg search s.yaml {said}"


def test_arguments_that_no_command_takes_are_told_without_passwords_and_escape_sequences(tmp_path):
    said = nasseg("status", "s", "postgresql://u:ge/h@im@h/d", "a\x1b[2Jb", cwd=tmp_path, code=2).stderr
    assert "postgresql://u:***@h/d" in said
    assert "im@h" not in said
    assert "\x1b[2J" not in said


def test_a_reason_is_kept_without_passwords():
    driver, url = make_driver("sqlite:///:memory:", trials=3), "ftp://u:ge/h@im@h/p"
    keep_secret(url)
    driver.fill()
    while driver.at_work.items and not driver.record.trials():
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
    first = driver.record.trials()[0]
    driver.record.requeue(first, f"cannot read {url}")
    driver.record.fail(driver.record.take_waiting(), f"cannot write {url}")
    assert [trial.user_attrs["reason"] for trial in driver.record.trials() if "reason" in trial.user_attrs] == [
        "interrupted: cannot read ftp://u:***@h/p",
        "cannot write ftp://u:***@h/p",
    ]


@settings(max_examples=40, deadline=None)
@given(
    secret=st.text("aZ7é@/: +%'\"$(;,*", min_size=6, max_size=20).filter(lambda text: len(set(text)) > 3),
    form=st.sampled_from(QUERIES),
)
def test_no_password_of_a_query_gets_out(secret, form):
    for written in (secret, quote(secret, safe="")):
        url = form.format(secret=written)
        assert secret not in command_line(["nasseg", url])
        assert secret not in str(UserError(f"cannot open {url}"))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("connect to 'postgresql://u:geheim@h/d' failed", "connect to 'postgresql://u:***@h/d' failed"),
        ("host=h PASSWORD=geheim user=u", "host=h PASSWORD=*** user=u"),
        ("{'password': 'ge heim', 'user': 'u'}", "{'password': ***, 'user': 'u'}"),
        ("sqlite:///runs/a:b/study.db and x@y", "sqlite:///runs/a:b/study.db and x@y"),
        ("--storage sqlite:///a.db", "--storage sqlite:///a.db"),
    ],
)
def test_what_looks_like_a_password_is_hidden_and_nothing_else(text, hidden):
    assert redact(text) == hidden


def test_a_common_password_leaves_other_words_alone():
    keep_secret("postgresql://postgres:postgres@h/d")
    assert redact("pip install 'nasseg[postgresql]'; user postgres") == "pip install 'nasseg[postgresql]'; user ***"


def test_a_long_word_is_looked_through_at_once():
    """A pattern that begins anew at each letter would take a minute."""
    assert redact("a" * 1_000_000) == "a" * 1_000_000


# Parts of a secret that each way of writing leaves as they are, so that none can hide what of it got out.
MIDDLES = st.text("KQXZ", min_size=6, max_size=8).filter(lambda text: len(set(text)) > 2)
EDGES = st.text("aZ7é@/: ?#&=+%'\"\\$(;,*", max_size=7)


@st.composite
def secret_urls(draw):
    """A URL, and the part of its password to look for."""
    middle, form, user = draw(MIDDLES), draw(st.sampled_from([*URLS, *QUERIES])), draw(USERS)
    secret, quoted = draw(EDGES) + middle + draw(EDGES), draw(st.booleans())
    if form in QUERIES and not quoted:
        secret = secret.replace("&", "")  # which ends a password there
    return form.format(user=user, secret=quote(secret, safe="") if quoted else secret), middle


@cache
def empty_database():
    """An SQLite storage with no study in it, which takes longer to make than to fill."""
    with tempfile.TemporaryDirectory() as folder:
        disconnect(open_storage(f"sqlite:///{folder}/s.db", create=True))
        return Path(folder, "s.db").read_bytes()


@cache
def study():
    return make_study()


def leave_record(storage, urls):
    """Search until a fault of the surroundings; each text that is kept names a URL. Return the record and the fault."""
    command = command_line(["nasseg", "search", "x", "--storage", *urls, f"--runs={urls[0]}"])
    for url in urls:
        WeightStore(url)
    reasons = [f"cannot read {url}: no route" for url in urls]
    faults = {"cost": [Fault.NETWORK], "train": [Fault.NETWORK, Fault.SURROUNDINGS]}

    def spoil(job):
        return (faults[job.kind].pop(0), reasons.pop()) if faults.get(job.kind) else None

    driver = make_driver(storage, study(), FakeEngine(workers=1, spoil=spoil))
    texts = {"command": command, "weights": urls[0], "question": urls[1], "study_file": study().text + f"# {urls[2]}"}
    figures = [[figure.name, figure.unit, figure.direction] for figure in study().objectives]
    rest = {"space_file": "", "objectives": figures, "limits": {}, "environment": {}, "created": now()}
    driver.record.set_attributes({**texts, **rest})
    with pytest.raises(UserError) as caught:
        driver.run()
    assert driver.stop(str(caught.value)) == 1
    return driver.record, str(caught.value)


@pytest.mark.slow
# Each example takes half a second: a failure is not made smaller.
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(urls=st.lists(secret_urls(), min_size=5, max_size=5))
def test_no_password_is_kept_in_a_storage_or_a_report(urls):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "s.db").write_bytes(empty_database())
        for storage in (f"sqlite:///{folder}/s.db", f"{folder}/s.log"):
            redaction._secrets.clear()
            record, fault = leave_record(storage, [url for url, _ in urls])
            found = record_of(record)
            disconnect(record.storage)
            assert [trial.state for trial in found.trials] == ["FAIL", "FAIL", "FAIL", "WAITING"]
            assert all("***" in trial.reason for trial in found.trials[:3])
        write_report(found, Path(folder, "report.html"), shared=True)
        kept = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".js"}
    assert kept.keys() >= {"s.db", "s.log", "report.html", "index.html"}
    for _, secret in urls:
        assert [name for name, written in kept.items() if secret.encode() in written] == []
        assert secret not in fault


@pytest.mark.slow
def test_a_search_keeps_no_password_in_its_storage_or_report(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    search_here(monkeypatch, tmp_path)
    runs = "memory://me@firm.example:ge/h@im geheim@host/place"
    command = command_line(["nasseg", "search", "tiny", "--runs", runs])
    ended = run_study(tiny(tmp_path), storage=f"sqlite:///{tmp_path}/s.db", runs=runs, command=command, trials=1)
    assert [trial.state for trial in ended.record.trials] == ["COMPLETE"]
    report = write_report(ended.record, tmp_path / "report.html").read_text()
    for said in ((tmp_path / "s.db").read_bytes().decode(errors="replace"), report, str(ended)):
        assert "geheim" not in said
        assert "h@im" not in said
    assert "--runs 'memory://me@firm.example:***@host/place'" in ended.record.command


FOREIGN = [
    "[unlabeled]",
    "car [/b]",
    "[red]sign[/red]",
    ":smile:",
    "a\x1b]0;owned\x07b",
    "\x1b[2Jx",
    "x\u202ey",
    "a\rb",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_is_printed_as_it_is_written(name, capsys):
    console = shared.Output(force_terminal=True, width=60, soft_wrap=True, color_system=None)
    table = shared.Table("class", name, title=name)
    table.add_row(name, "1")
    console.print(table)
    console.print(f"class {name}")
    with shared.Ticker() as ticker:
        ticker.update(name, 1)
    said = capsys.readouterr().out
    visible = name.encode("unicode_escape").decode() if any(ord(c) < 32 or ord(c) > 127 for c in name) else name
    assert said.count(visible) >= 4
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert not any(c in said for c in "\x07\u202e\r")


def test_a_cell_of_a_spreadsheet_is_no_formula():
    for text in ("=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1"):
        assert str(cell(text)).startswith("'")
    assert [cell(value) for value in ("road", -1, 0.5, None)] == ["road", -1, 0.5, None]


def test_the_command_line_prints_through_one_gate():
    """Tables and consoles of rich's own would read names as markup."""
    for path in Path(shared.__file__).parent.glob("*.py"):
        if path.name != "shared.py":
            assert not re.findall(r"rich\.table import .*Table|rich\.console|Console\(", path.read_text()), path.name
            told = re.findall(r"(?<![.\w])print\((\w+)", path.read_text())
            assert set(told) <= {"shown", "f"}, path.name
