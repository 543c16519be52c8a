"""Samplers by name."""

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.search_space.group_decomposed import _SearchSpaceGroup

from nasseg.study.propose.samplers import make_sampler

SPACES = ("abc", "ab", "ade", "abc", "af", "ade", "ab")  # names of parameters, trial by trial


def test_tpe_finds_the_groups_that_optuna_finds_and_adds_equal_trials_once(monkeypatch):
    added = []
    add = _SearchSpaceGroup.add_distributions
    monkeypatch.setattr(_SearchSpaceGroup, "add_distributions", lambda own, d: added.append(d) or add(own, d))
    study, found = optuna.create_study(directions=["minimize"] * 2), []
    for space in SPACES:
        distributions = {name: CategoricalDistribution((1, 2)) for name in space}
        params = dict.fromkeys(space, 1)
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=[0, 0]))
    for sampler in (make_sampler("tpe", {}, 0), optuna.samplers.TPESampler(multivariate=True, group=True)):
        added.clear()
        for _ in range(3):
            sampler.infer_relative_search_space(study, study.trials[0])
        found.append([sorted(group) for group in sampler._search_space_group.search_spaces])
        found.append(len(added))
    assert found == [found[2], len({*SPACES}), found[2], 3 * len(SPACES)]
