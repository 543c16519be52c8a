"""What a trial's attributes say of it."""

from optuna.trial import FrozenTrial, TrialState

INTERRUPTED = "interrupted"  # how the reason of a trial begins that ended for no fault of its network
STOPPED = "stopped_at_rung"  # attribute of a trial that was trained to a rung below the last
CONTINUES = "continues"  # attribute of a promotion: the number of the trial whose weights it goes on from


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial ended for no fault of its network; it was enqueued anew."""
    return str(trial.user_attrs.get("reason", "")).startswith(INTERRUPTED)


def is_stopped(trial: FrozenTrial) -> bool:
    """Whether a trial was trained, but not to the last rung."""
    return STOPPED in trial.user_attrs


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is of the budget: trained or failed in the search itself, or on its way to that.

    A promotion does not count: the trial that it goes on from does.
    """
    if trial.state == TrialState.PRUNED and not is_stopped(trial):
        return False
    others = ("reused_from", "published", CONTINUES)
    return not is_interrupted(trial) and not any(name in trial.user_attrs for name in others)
