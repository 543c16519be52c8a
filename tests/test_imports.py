"""What importing nasseg loads, and what it leaves as it was: seen by a process that has imported nothing else."""

import subprocess
import sys

import pytest

from tests.study.store.test_read_sql import searched

CODE = """
import sys

def without(*names):
    found = {*names} & {*sys.modules}
    assert not found, found

import nasseg
without("torch", "optuna", "ray", "pandas", "plotly", "pydantic", "yaml")
from nasseg.cli import show_front, search, spaces
without("numpy")  # `one_thread_for_samplers` would be too late
spaces.list_variants()
show_front.front("fake", storage=sys.argv[1])
search.status("fake", storage=sys.argv[1])
without("torch", "optuna", "ray", "pandas", "scipy", "sqlalchemy")

import nasseg.analyse.front, nasseg.analyse.trials, nasseg.report
without("torch", "optuna", "ray")

import optuna
level = optuna.logging.get_verbosity()
import nasseg.study.store.read_study, nasseg.study.driver.budget
without("torch")

import torch
from torch import nn
classes = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.PReLU, nn.Linear, nn.Module]
before = [dict(vars(each)) for each in classes]
nasseg.run_study, nasseg.measure_cost(nasseg.make_arch("regseg"), (64, 128), 3)
assert [dict(vars(each)) for each in classes] == before
assert optuna.logging.get_verbosity() == level
"""


@pytest.mark.slow
def test_each_step_loads_what_it_needs_and_changes_nothing_of_others(tmp_path):
    """Check reports and `variants` without torch, and `front` and `status` without Optuna and pandas.

    The classes of torch and the log of Optuna stay as they were. Times are for tests/benchmarks.
    """
    searched(f"sqlite:///{tmp_path}/s.db")
    command = [sys.executable, "-c", CODE, f"sqlite:///{tmp_path}/s.db"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
