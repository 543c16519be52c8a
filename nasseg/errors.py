"""Errors that a user can act on (the rule, the value it got, the next step), and the faults that end an evaluation."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum

from nasseg.redaction import redact

LONGEST = 1_500


class Fault(StrEnum):
    """The cause that ended an evaluation early: kept with a trial, and the basis of every decision about it.

    The sentence for readers stands beside it (`reason`).
    """

    NETWORK = "network"  # an error of the network's own
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    WORKER_DIED = "worker died"  # the job is tried again a few times
    DEVICE = "device"  # CUDA failed, and the worker with it; the job is tried once more, in another one
    CROWDED = "crowded"  # memory ran out on a GPU of which others hold a share; tried again, then the search stops
    TOO_LONG = "too long"  # longer than the study allows
    FIGURE = "figure"  # a user's own figure raised, or gave no number
    SURROUNDINGS = "surroundings"  # the data, the disk or the target: other networks would fail too
    INTERRUPTED = "interrupted"  # nothing was wrong with the network; it may be enqueued again


class UserError(ValueError):
    """Bad input. The command line prints the message and exits with code 2; no traceback.

    No password of a URL is in the message. One that quotes too much of what it got keeps its beginning (the rule) and
    its end (the next step).
    """

    def __init__(self, message: str) -> None:
        message = redact(message)
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST - 300]} ... {message[-290:]}")


class MisfitError(UserError):
    """An error about one network: what is asked of it, or given to it, does not fit it. No file is at fault."""


class BrokenDeviceError(UserError):
    """An error of CUDA after which a process can use the device no more, whatever it was that caused it."""


class CrowdedDeviceError(UserError):
    """Memory ran out on a GPU of which other processes hold a good share: no network is at fault."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """Return an error for a name that does not exist, offering the nearest one that does."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "none is known."
    if not near and names:
        hint = "known: " + ", ".join(names) + "."
    return UserError(f"unknown {kind} {str(name)!r}: {hint}")
