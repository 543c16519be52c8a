"""The processes below another one."""

import subprocess


def children(pid: int) -> list[int]:
    """Return the processes that a process has begun and that run; for a search its server of workers is one."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def below(pid: int) -> list[int]:
    """Return all processes below one."""
    return [one for child in children(pid) for one in (child, *below(child))]
