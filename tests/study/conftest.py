"""Give tests of studies a timing that takes little time; tests/measure/latency tests what latencies are worth."""

import pytest

from nasseg.measure.latency import attempts
from tests.study.fakes import search_here


@pytest.fixture(autouse=True, scope="module")
def few_rounds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "ROUNDS", 4)
        patch.setattr(attempts, "BUILDS", 1)
        yield


@pytest.fixture
def inline(monkeypatch, tmp_path):
    """Searches in this process, below a folder of their own."""
    search_here(monkeypatch, tmp_path)
