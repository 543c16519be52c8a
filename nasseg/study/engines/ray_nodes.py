"""The nodes of a cluster: which ones take a study's jobs. Each is checked before its first job."""

import contextlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nasseg.errors import UserError
from nasseg.files import cache_folder
from nasseg.measure.environment import environment
from nasseg.measure.latency.backends import check_protocol
from nasseg.measure.latency.gpu import check_energy
from nasseg.records import Environment, LatencyProtocol
from nasseg.study.context import Context
from nasseg.study.store.storage import is_local
from nasseg.study.store.weight_store import is_url

LATENCY_RESOURCE = "latency_device"
LATENCY_SHARE = 0.25  # a job's share: the device's lock decides turns, and the next jobs prepare meanwhile
MIN_FREE_BYTES = 1 << 30
TOKEN_SECONDS = 5.0  # a network file system may show a new file a little later
Resources = Mapping[str, float]


@dataclass(frozen=True)
class Node:
    """A living node. resources: in Ray's words (CPU, GPU, the cluster's own)."""

    id: str
    host: str
    address: str
    resources: Resources

    @property
    def name(self) -> str:
        return f"node {self.host} ({self.address}, {self.id[:6]})"

    def fits(self, resources: Resources) -> int:
        """Return how many times the node has these resources."""
        return int(min(self.resources.get(name, 0) / amount for name, amount in resources.items() if amount))


def refuse_local_storage(nodes: Sequence[Node], storage: str) -> None:
    """Refuse a storage in a file of one machine if there are several nodes.

    Raises:
        UserError: it is such a storage.
    """
    if len(nodes) > 1 and is_local(storage):
        raise UserError(
            f"the cluster has {len(nodes)} nodes ({_names(nodes)}), and this storage is a file of one machine: use "
            "--storage postgresql+psycopg://USER@HOST/DATABASE"
        )


def latency_place(nodes: Sequence[Node], protocol: LatencyProtocol, of_a_trial: Resources, head: str) -> Resources:
    """Return resources that place a job on the device that takes latencies. `head`: the resource of the head node.

    Raises:
        UserError: the cluster does not say which device it is.
    """
    if protocol.backend == "command":
        return {head: LATENCY_SHARE}  # locks on this node keep the target free
    named = [node for node in nodes if LATENCY_RESOURCE in node.resources]
    if len(named) > 1:
        raise UserError(
            f"{_names(named)} all offer {LATENCY_RESOURCE}, but all latencies of a study come from one device: "
            "start the others without it"
        )
    if named:
        return {LATENCY_RESOURCE: LATENCY_SHARE}
    if len(nodes) > 1:
        raise UserError(
            f"the cluster has {len(nodes)} nodes ({_names(nodes)}), and none is named for latencies: start one "
            f"with `ray start ... --resources '{{\"{LATENCY_RESOURCE}\": 1}}'`, or measure on a target "
            "(latency: {backend: command})"
        )
    return of_a_trial


@dataclass(frozen=True)
class Expected:
    """The driver's environment, which every node must match.

    folder: the driver's, the base of relative paths. token: name of a file in the weights' folder, which every node
    must see; empty if weights go to a URL. latency_device: the device that takes all latencies.
    """

    here: Environment
    fingerprint: str
    folder: str
    token: str
    latency_device: str = ""


def write_token(place: Path | str) -> str:
    """Write a file into the weights' folder, so that nodes see whether they share it; return its name.

    Raises:
        UserError: it cannot be written here.
    """
    if is_url(place):
        return ""
    token = f".shared-{os.urandom(8).hex()}"
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        (Path(place) / token).touch()
    except OSError as error:
        raise UserError(
            f"cannot write into {place}: {error.strerror}; fix this, or choose another folder with --runs"
        ) from None
    return token


def remove_token(place: Path | str, token: str) -> None:
    if token:
        with contextlib.suppress(OSError):
            (Path(place) / token).unlink()


def faults(context: Context, expected: Expected) -> list[str]:
    """Return the faults of this process's node, each as part of a sentence with the next step."""
    there, here, found = expected.here, environment(), []
    for name, theirs, ours in (
        ("nasseg", there.nasseg, here.nasseg),
        ("the code of commit", there.commit, here.commit),
        ("torch", there.torch.partition("+")[0], here.torch.partition("+")[0]),
    ):
        if ours and theirs and ours != theirs:
            found.append(f"it has {name} {ours} and the driver {theirs}: install the same")
    try:
        fingerprint = context.data.load().fingerprint
        if fingerprint != expected.fingerprint:
            found.append(f"its data {context.data.name} differ from the driver's ({fingerprint}): copy them again")
    except UserError as error:
        found.append(str(error))
    if context.device.startswith("cuda") and not torch.cuda.is_available():
        found.append(f"torch finds no GPU on it, and the study runs on {context.device}: fix this, or remove the node")
    else:
        try:
            check_protocol(context.latency)
            if context.energy:
                check_energy(context.latency)
        except UserError as error:
            found.append(str(error))
    folders = [cache_folder()]
    if expected.token:
        folders.append(Path(context.weights))
        found += _folder_faults(folders[-1], expected.token)
    for folder in folders:
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(place).free
        if free < MIN_FREE_BYTES:
            found.append(f"{free / 2**30:.1f} GiB are free at {place} and {MIN_FREE_BYTES / 2**30:g} are needed")
    return found


def _folder_faults(folder: Path, token: str) -> list[str]:
    until = time.monotonic() + TOKEN_SECONDS
    while not (folder / token).exists():
        if time.monotonic() > until:
            return [
                f"it does not share {folder} with the driver: choose a folder that all nodes share, or a URL, "
                "with --runs"
            ]
        time.sleep(0.2)
    return [] if os.access(folder, os.W_OK) else [f"it cannot write into {folder}: give its user the right to"]


def latency_device(protocol: LatencyProtocol, where: Environment) -> str:
    """Return the name of the device that takes latencies; empty for a command, which reports its own."""
    if protocol.backend == "command":
        return ""
    device = where.device(protocol.device)
    return device if device == where.cpu else f"{device} on {where.cpu}"


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)
