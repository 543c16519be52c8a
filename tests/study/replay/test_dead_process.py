"""A process of a replay that is killed: one line, whoever notices it."""

from queue import SimpleQueue

import pytest

from nasseg.errors import UserError
from nasseg.processes.children import Child
from nasseg.study.replay.replay import _in_child, _search_all


def test_a_process_that_died_is_an_error_of_one_line():
    child, free = Child(_search_all), SimpleQueue()
    child._process.kill()
    child.join()
    for _ in range(2):  # who waits for its answer, and who sends it more
        free.put(child)
        with pytest.raises(UserError, match="a process of the replay died"):
            _in_child(free, "task")
