"""The user attributes of a trial: their names and their meaning.

People sort and filter by the plain ones in `optuna-dashboard`. Besides those named here, a trial shows the study's
figures under their own names (macs, latency_ms, miou, ...).
"""

from typing import TYPE_CHECKING, Any

from nasseg.errors import Fault
from nasseg.records import Measurement

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# The network
ARCH = "arch"  # family and every field, as JSON
ARCH_ID = "arch_id"
TRAINING = "training"  # the sampled parameters of the recipe, as JSON; absent if there are none
SEED = "seed"
PUBLISHED = "published"  # the variant's name, for a published network that runs beside a search
CODE = "code"  # version and commit of nasseg
EVAL_KEY = "eval_key"  # the identity of its training, and the folder of its weights

# Its measurement
MEASUREMENT = "measurement"  # every figure with its protocol and environment, as JSON
DISTURBED = "disturbed"  # whether its latency was timed beside other work
RUNG = "rung"
STOPPED = "stopped_at_rung"  # set if it was trained to a rung below the last
CONTINUES = "continues"  # the number of the trial whose weights a promotion continues
STRAIGHT = "straight"  # the rung from which it is trained to the end, whatever its rungs say
REUSED_FROM = "reused_from"  # the number of the trial whose figures were copied
ACCURACY_FROM = "accuracy_from"  # `study#trial` from which the accuracy was copied
WEIGHTS_SHA256 = "weights_sha256"
BEST_SHA256 = "best_sha256"  # of the best weights on the validation split
WEIGHTS_ERROR = "weights_error"  # why weights could not be kept
INIT = "init"  # which starting weights were loaded
DEVIATIONS = "deviations"  # where the training departs from the publication of its recipe, a sentence each

# Its end
REASON = "reason"  # a sentence
FAULT = "fault"  # of a failed trial: a value of nasseg.errors.Fault

# Sharing the study between processes
LEASE = "lease"
RETRY_OF = "retry_of"  # the number of the interrupted trial that it repeats

# In sibling studies
OF_TRIAL = "of_trial"  # the number of the search's trial
SESSION = "session"  # the number of a session that timed in turns
ROUNDS_MS = "rounds_ms"
DISTURBED_ROUNDS = "disturbed_rounds"
HELD_OUT = "held_out"  # the accuracy on the held-out split, as JSON
BEST = "best"  # the accuracy of the best weights, as JSON
EVALUATED = "evaluated"  # [step, mIoU] of each evaluation in training
TAKEN_FROM = "taken_from"  # `study#trial` from which the training was copied


def measurement_of(trial: "FrozenTrial") -> Measurement | None:
    """Return the measurement of a trial's network; None if there is none."""
    text = trial.user_attrs.get(MEASUREMENT)
    return Measurement.from_json(text) if text else None


def kept(measurement: Measurement) -> dict[str, Any]:
    """Return the attributes that hold a measurement."""
    latency = measurement.latency
    return {MEASUREMENT: measurement.to_json(), **({DISTURBED: latency.disturbed} if latency else {})}


def has_fault(trial: "FrozenTrial", fault: Fault) -> bool:
    """Return whether a trial failed with this fault."""
    return trial.user_attrs.get(FAULT) == fault


def is_interrupted(trial: "FrozenTrial") -> bool:
    """Return whether a trial ended without a fault of its network; it was enqueued again."""
    return has_fault(trial, Fault.INTERRUPTED)


def is_stopped(trial: "FrozenTrial") -> bool:
    """Return whether a trial was trained, but not to the last rung."""
    return STOPPED in trial.user_attrs


def counts(trial: "FrozenTrial") -> bool:
    """Return whether a trial counts for the budget: trained or failed in the search itself, or still to be trained.

    A promotion does not count: the trial that it continues does.
    """
    if trial.state.name == "PRUNED" and not is_stopped(trial):
        return False
    others = (REUSED_FROM, PUBLISHED, CONTINUES)
    return not is_interrupted(trial) and not any(name in trial.user_attrs for name in others)
