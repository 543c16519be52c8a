"""Owners of running trials: a lease in the storage, renewed by its owner and judged by observers' own clocks.

A lease is `owner:counter`. An observer calls it stale if the counter has not changed for LEASE_SECONDS of the
observer's monotonic clock (clocks of two machines are never compared), or at once if the owner was a process of this
machine that is gone.
"""

import os
import time
from pathlib import Path

from nasseg.records import digest

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0


def _start_ticks(pid: int) -> str | None:
    """Return when a process of this machine started, in ticks since boot; None if it is gone (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _machine() -> str:
    """Return an id of this machine's current boot and of this namespace of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return digest([boot, os.stat("/proc/self/ns/pid").st_ino], 12)
    except OSError:
        return ""


def new_owner() -> str:
    """Return a name for this process as an owner of leases."""
    return "/".join([_machine() or "unknown", str(os.getpid()), _start_ticks(os.getpid()) or "0", os.urandom(4).hex()])


class LeaseWatch:
    """An observer of other processes' leases."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, float]] = {}
        self._alive: set[int] = set()  # seen alive at some point
        self._machine = _machine()

    def is_stale(self, number: int, lease: str | None) -> bool:
        """Return whether the owner of trial `number` is gone, by what this observer has seen so far."""
        lease = lease or ""
        owner = lease.rpartition(":")[0].split("/")
        if len(owner) == 4 and owner[0] == self._machine and owner[1].isdigit():
            self._alive.add(number)
            return _start_ticks(int(owner[1])) != owner[2]
        last, since = self._seen.get(number, (None, 0.0))
        if last != lease:
            self._seen[number] = (lease, time.monotonic())
            if last is not None:
                self._alive.add(number)
            return False
        return time.monotonic() - since > LEASE_SECONDS

    def is_undecided(self, number: int, lease: str | None) -> bool:
        """Return whether it is still unknown if the owner is alive: the lease may turn out to be stale."""
        return not self.is_stale(number, lease) and number not in self._alive
