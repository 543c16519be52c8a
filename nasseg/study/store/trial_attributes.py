"""The user attributes of a trial: their names, and what they say of it.

People sort and filter by the flat ones in `optuna-dashboard`. Beside those named here a trial shows the study's figures
under their own names (macs, latency_ms, miou, ...).
"""

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nasseg.errors import Fault
from nasseg.records import Measurement

# What the network is
ARCH = "arch"  # family and every field, as JSON
ARCH_ID = "arch_id"
SEED = "seed"
PUBLISHED = "published"  # the variant's name, of a published network that runs beside a search
CODE = "code"  # version and commit of nasseg
EVAL_KEY = "eval_key"  # what it was trained as, and the folder of its weights

# What is known of it
MEASUREMENT = "measurement"  # every figure with its protocol and environment, as JSON
DISTURBED = "disturbed"  # whether its latency was taken beside other work
RUNG = "rung"
STOPPED = "stopped_at_rung"  # set where it was trained to a rung below the last
CONTINUES = "continues"  # of a promotion: the number of the trial whose weights it goes on from
REUSED_FROM = "reused_from"  # the number of the trial whose figures were copied
ACCURACY_FROM = "accuracy_from"  # `study#trial` whose accuracy was taken over
WEIGHTS_SHA256 = "weights_sha256"
BEST_SHA256 = "best_sha256"  # of the weights that were best on the validation split
WEIGHTS_ERROR = "weights_error"  # why weights could not be kept
INIT = "init"  # what was loaded of the starting weights
DEVIATIONS = "deviations"  # of the recipe from its source

# How it ended
REASON = "reason"  # a sentence
FAULT = "fault"  # of a failed trial: a value of nasseg.errors.Fault

# How processes share the study
LEASE = "lease"
RETRY_OF = "retry_of"  # the number of the interrupted trial that it repeats

# In sibling studies
OF_TRIAL = "of_trial"  # the number of the search's trial
SESSION = "session"  # of timings in turns
ROUNDS_MS = "rounds_ms"
DISTURBED_ROUNDS = "disturbed_rounds"
HELD_OUT = "held_out"  # the accuracy on the held-out split, as JSON
BEST = "best"  # the accuracy of the best weights, as JSON
TAKEN_FROM = "taken_from"  # `study#trial` whose training was taken over


def measurement_of(trial: FrozenTrial) -> Measurement | None:
    """Return what was measured of a trial's network; None where nothing was."""
    text = trial.user_attrs.get(MEASUREMENT)
    return Measurement.from_json(text) if text else None


def kept(measurement: Measurement) -> dict[str, Any]:
    """Return the attributes that hold a measurement."""
    latency = measurement.latency
    return {MEASUREMENT: measurement.to_json(), **({DISTURBED: latency.disturbed} if latency else {})}


def has_fault(trial: FrozenTrial, fault: Fault) -> bool:
    """Return whether a trial failed for that."""
    return trial.user_attrs.get(FAULT) == fault


def is_interrupted(trial: FrozenTrial) -> bool:
    """Return whether a trial ended for no fault of its network; it was enqueued anew."""
    return has_fault(trial, Fault.INTERRUPTED)


def is_stopped(trial: FrozenTrial) -> bool:
    """Return whether a trial was trained, but not to the last rung."""
    return STOPPED in trial.user_attrs


def counts(trial: FrozenTrial) -> bool:
    """Return whether a trial is of the budget: trained or failed in the search itself, or on its way to that.

    A promotion does not count: the trial that it goes on from does.
    """
    if trial.state == TrialState.PRUNED and not is_stopped(trial):
        return False
    others = (REUSED_FROM, PUBLISHED, CONTINUES)
    return not is_interrupted(trial) and not any(name in trial.user_attrs for name in others)
