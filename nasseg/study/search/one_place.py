"""Keep a study in one place: one machine if its storage is a file, one device for its latencies."""

import contextlib
import platform
import time
from pathlib import Path

from nasseg.errors import UserError
from nasseg.study.driver.budget import SECONDS
from nasseg.study.engines.ray_nodes import LATENCY_RESOURCE
from nasseg.study.store.lease import RENEW_SECONDS
from nasseg.study.store.record import Record
from nasseg.study.store.storage import is_local

_HELD = "latency_device "  # an attribute of studies, followed by the device's name


def refuse_other_host(record: Record, storage: str) -> None:
    """Note which machine searches a study in a file, and refuse if another machine is searching it now.

    A study that was moved or copied here is watched for longer than a search takes to update its searched seconds.

    Raises:
        UserError: another machine searches.
    """
    if not is_local(storage):
        return
    here, known = _host(), record.attributes()
    there = known.get("host")
    if there and here[0] != there[0] and here[1] != there[1]:
        until = time.monotonic() + 2 * RENEW_SECONDS
        while time.monotonic() < until:
            time.sleep(RENEW_SECONDS / 10)
            if record.attributes().get(SECONDS) != known.get(SECONDS):
                raise UserError(
                    f"study {record.name!r} is being searched on another machine, {there[0]}, and this storage is a "
                    "file of one machine: use --storage postgresql+psycopg://USER@HOST/DATABASE on both"
                )
    if there != here:
        record.set_attributes({"host": here})


def _host() -> list[str]:
    """Return names of this machine: its own, which containers do not share, and that of its boot."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return [platform.node(), boot]


def keep_latency_device(record: Record, device: str) -> None:
    """Hold a study to the device of its first latencies.

    Raises:
        UserError: this is another device.
    """
    if not device:  # a target's command reports its own device
        return
    mine = f"{_HELD}{device}"
    fresh = not record.attributes().get(mine)
    others = _other_devices(record, mine)
    if fresh and not others:
        record.set_attributes({mine: True})
        others = _other_devices(record, mine)  # if two searches start at once, at least one sees the other's
        if others:
            record.set_attributes({mine: None})
    if others:
        raise UserError(
            f"study {record.name!r} has its latencies from {others[0]}, and here they would come from {device}, "
            "so figures would not be comparable. Measure on the former (on a cluster, the node with the resource "
            f"{LATENCY_RESOURCE}), or give the study file another name"
        )


def _other_devices(record: Record, mine: str) -> list[str]:
    held = (name for name, is_held in record.attributes().items() if name.startswith(_HELD) and is_held)
    return [name.removeprefix(_HELD) for name in held if name != mine]
