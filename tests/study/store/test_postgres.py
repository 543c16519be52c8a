"""Studies on a real PostgreSQL server: the driver, the password, and several processes at once."""

import os
import subprocess
import sys

import pytest
from optuna.trial import TrialState

from nasseg.errors import UserError
from nasseg.redaction import redact
from nasseg.study.store.read_study import open_record, read_study
from nasseg.study.store.storage import open_storage
from tests import HUNG_SECONDS, ROOT
from tests.study.fakes import make_driver
from tests.study.store.postgres import PASSWORD, postgres, postgres_server  # noqa: F401

STUDY = """
question: Does it survive?
expected: a minute
space: net.yaml
data: {name: scenes, size: [32, 64], train: 16, val: 4}
objectives: [miou, macs]
recipe: {steps: 20, batch_size: 2}
latency: {min_seconds: 0.0, min_replicates: 2, warmup: 1}
sampler: random
trials: 6
"""
DRIVER = """
import sys
from tests.study.fakes import FakeEngine, make_driver
print(make_driver(sys.argv[1], trials=60, seed=int(sys.argv[2]), engine=FakeEngine(workers=4)).run())
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:geheim@h:5432/d", "postgresql://u:***@h:5432/d"),
        (
            "--storage 'postgresql+psycopg://u@h/d?password=geheim&sslmode=on'",
            "--storage 'postgresql+psycopg://u@h/d?password=***&sslmode=on'",
        ),
        ("postgresql://u@h/d?sslpassword=geheim", "postgresql://u@h/d?sslpassword=***"),
    ],
)
def test_no_password_is_shown(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "url", ["postgresql://u:geheim@h/d", "postgres://u:geheim@h/d", "postgresql+psycopg://u:geheim@h/d"]
)
def test_a_missing_driver_is_named(url, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"psycopg.*pip install 'nasseg\[postgresql\]'") as caught:
        open_storage(url, create=True)
    assert "geheim" not in str(caught.value)


@pytest.mark.slow
def test_a_wrong_password_is_said_and_not_shown(postgres):  # noqa: F811
    with pytest.raises(UserError, match="password authentication failed") as caught:
        open_storage(postgres.replace(PASSWORD, "falsch"), create=True)
    assert "falsch" not in str(caught.value)


def run(*commands, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    outputs = [process.communicate(timeout=HUNG_SECONDS)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), outputs
    return outputs


def whole(trials, complete):
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    done = [t for t in trials if t.state == TrialState.COMPLETE and "reused_from" not in t.user_attrs]
    assert len(done) == complete
    assert len({t.user_attrs["eval_key"] for t in done}) == complete
    failed = {t.user_attrs["reason"] for t in trials if t.state == TrialState.FAIL}
    assert failed <= {"interrupted: another process began the last trial"}


@pytest.mark.slow
def test_three_drivers_lose_and_double_nothing(postgres, tmp_path):  # noqa: F811
    """A hundred trials a minute more than any search of ours would do."""
    make_driver(postgres)  # the study is there
    run(*(["-c", DRIVER, postgres, str(seed)] for seed in range(3)), folder=tmp_path)
    whole(open_record("fake", postgres).trials(), 60)


@pytest.mark.slow
def test_two_searches_and_a_ray_engine_share_a_study(postgres, tmp_path):  # noqa: F811
    pytest.importorskip("ray", reason="no Ray: pip install nasseg[ray]")
    from tests.study.engines.test_ray_engine import NET, SPACE

    for name, text in (("s.yaml", STUDY), ("net.yaml", SPACE), ("net.py", NET)):
        (tmp_path / name).write_text(text)
    search = ["-m", "nasseg", "search", "s.yaml", "--storage", postgres]
    outputs = run(search, search, ["-m", "tests.study.engines.ray_search", "s.yaml", postgres, ""], folder=tmp_path)
    assert not any(PASSWORD in output for output in outputs)
    assert outputs[2].count("\n") == 1, "Ray has nothing to say of its own"
    whole(open_record("s", postgres).trials(), 6)
    record = read_study("s", postgres)
    assert PASSWORD not in record.command
    assert "***" in record.command
