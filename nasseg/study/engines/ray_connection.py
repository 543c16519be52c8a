"""The connection to a Ray cluster, and Ray's own errors in words."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from nasseg.errors import UserError

CONNECT_SECONDS = 10
OBJECT_STORE_BYTES = 200 << 20


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Report errors of Ray itself as user errors.

    Raises:
        UserError: Ray failed.
    """
    try:
        yield
    except RayError as error:
        raise UserError(f"Ray failed: {last_line(error)}; run the same command again") from None


def connect(address: str | None, workers: int | None) -> None:
    """Connect to the cluster at an address, or start one here for that many workers.

    Raises:
        UserError: there is none, or it does not start.
    """
    alone = {
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "num_cpus": max(workers or 1, os.cpu_count() or 1),
    }
    options: dict[str, Any] = {"address": address} if address else {"address": "local", **alone}
    host, _, port = (address or "").rpartition(":")
    try:
        if host and port.isdigit() and "://" not in host:  # if nothing listens there, Ray would try for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # a start that timed out, for one, has no type of its own
        raise UserError(
            f"no Ray cluster at {address or 'this machine'}: {last_line(error)}; check --address and the "
            "cluster's token, or start one with `ray start --head`"
        ) from None


def last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]
