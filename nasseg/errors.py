"""Errors that a user can act on: one message with the rule, the value it got and the next step."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 1_500


class UserError(ValueError):
    """Bad input. The command line prints the message and exits with code 2; no traceback.

    A message that quotes too much of what it got keeps its beginning (the rule) and its end (the next step).
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST - 300]} ... {message[-290:]}")


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """An error for a name that does not exist, offering the nearest one that does."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "none is known."
    if not near and names:
        hint = "known: " + ", ".join(names) + "."
    return UserError(f"unknown {kind} {str(name)!r}: {hint}")
