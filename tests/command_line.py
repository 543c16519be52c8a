"""The command line run in this process, without the seconds that a process of its own takes to begin."""

import contextlib
import io
import os
from dataclasses import dataclass
from unittest import mock

import pytest

from nasseg import cli


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def nasseg(*arguments, cwd, code=0, **environment):
    """Run a command that must end with that exit code; return what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, {"COLUMNS": "200", **environment}),
        mock.patch("sys.argv", ["nasseg", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    done = Done(ended.value.code or 0, out.getvalue(), err.getvalue())
    assert done.returncode == code, done.stdout + done.stderr
    return done


def refused(*arguments, cwd=".", **environment):
    """Run a command that must be refused with exit code 2 and one line; return that line."""
    done = nasseg(*arguments, cwd=cwd, code=2, **environment)
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr
