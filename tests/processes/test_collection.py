"""Garbage collection is off only for a while."""

import gc

import pytest

from nasseg.processes.collection import no_collection


def test_collection_is_off_within_and_then_as_it_was():
    assert gc.isenabled()
    with no_collection():
        assert not gc.isenabled()
        with pytest.raises(KeyError), no_collection():
            raise KeyError
        assert not gc.isenabled()
    assert gc.isenabled()
