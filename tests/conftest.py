"""Set up what the tests share: caches and locks of their own, no patience with a busy machine, and one thread.

Two processes of two threads each on two cores take longer than two of one.
"""

import gc
import os
import signal
import sys
import tempfile

import pytest

folder = os.path.join(tempfile.gettempdir(), f"nasseg-test-{os.getuid()}")
os.environ.setdefault("NASSEG_CACHE", f"{folder}-cache")
# Each of pytest's workers has its own: else a training of one test waits while another test times a network.
os.environ["NASSEG_LOCKS"] = f"{folder}-locks-{os.environ.get('PYTEST_XDIST_WORKER', '')}"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NASSEG_PATIENCE", "0")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it, and tests send it


def pytest_collection_finish():
    """Let the garbage collector pass over what imports made, and seldom over all the rest: a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 100)


@pytest.fixture(autouse=True, scope="session")
def migrations_read_once():
    """Let Optuna read the migrations of its databases once, not three times for each: most of what making one takes."""
    storage, known = sys.modules.get("optuna.storages._rdb.storage"), []
    if storage is None:
        yield
        return
    read = storage._VersionManager._create_alembic_script

    def script(manager):
        known[:] = known or [read(manager)]
        return known[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage._VersionManager, "_create_alembic_script", script)
        yield


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs that compute nothing: see tests/fake_nvml.py."""
    from tests.fake_nvml import FakeGpu, forget, install  # which import PyTorch

    yield install(monkeypatch, FakeGpu())
    forget()
