"""Mark one set of a test's parameters as slow."""

import pytest


def slow(*values):
    """Let `make test-slow` run a test with these parameters; `make test` runs it with the others."""
    return pytest.param(*values, marks=pytest.mark.slow)
