"""Errors that a user can act on (rule, value, next step), and the faults that end an evaluation."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum

from nasseg.redaction import redact

LONGEST = 1_500


class Fault(StrEnum):
    """The cause that ended an evaluation early. It is kept with the trial, and decisions about the trial rest on it.

    The sentence for readers stands beside it (`reason`).
    """

    NETWORK = "network"  # an error of the network's own
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    WORKER_DIED = "worker died"  # the job is tried again a few times
    DEVICE = "device"  # CUDA failed, and the worker with it; another worker tries the job once more
    CROWDED = "crowded"  # memory ran out on a GPU that other processes use, too; tried again, then the search stops
    TOO_LONG = "too long"  # longer than the study allows
    FIGURE = "figure"  # a user's own figure raised, or gave no number
    SURROUNDINGS = "surroundings"  # the data, the disk or the target: other networks would fail too
    INTERRUPTED = "interrupted"  # the network was not at fault; it may be enqueued again


class UserError(ValueError):
    """Bad input. The command line prints the message and exits with code 2; no traceback.

    The message holds no password of a URL. A very long message keeps its beginning (the rule) and its end (the next
    step).
    """

    def __init__(self, message: str) -> None:
        message = redact(message)
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST - 300]} ... {message[-290:]}")


class MisfitError(UserError):
    """An error about one network: a request or a value does not fit it. No file is at fault."""


class BrokenDeviceError(UserError):
    """A CUDA error, whatever its cause, after which the process can no longer use the device."""


class CrowdedDeviceError(UserError):
    """Memory ran out on a GPU that other processes use heavily: no network is at fault."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """Return an error for an unknown name, with the nearest known one."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "none is known."
    if not near and names:
        hint = "known: " + ", ".join(names) + "."
    return UserError(f"unknown {kind} {str(name)!r}: {hint}")
