"""The command line run in this process, without the seconds that a process of its own takes to begin."""

import contextlib
import io
import os
from unittest import mock

import pytest

from nasseg import cli


def refused(*arguments, cwd=None, **environment):
    """Run a command that must be refused with exit code 2 and one line; return that line."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or "."),
        mock.patch.dict(os.environ, environment),
        mock.patch("sys.argv", ["nasseg", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    printed = out.getvalue() + err.getvalue()
    assert ended.value.code == 2, printed
    assert "Traceback" not in printed
    return err.getvalue()
