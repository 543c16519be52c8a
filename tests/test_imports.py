"""What importing nasseg loads, and what it leaves as it was: seen by a process that has imported nothing else."""

import subprocess
import sys

CODE = """
import sys

def without(*names):
    found = {*names} & {*sys.modules}
    assert not found, found

import nasseg
without("torch", "optuna", "ray", "pandas", "plotly", "pydantic", "yaml")
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


def test_each_step_loads_what_it_needs_and_changes_nothing_of_others():
    """Check reports without torch, status without torch, and the classes of torch and the log of Optuna as they were.

    Times are for tests/benchmarks.
    """
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
