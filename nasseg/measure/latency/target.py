"""Latency on another device, by a user's command: nasseg writes an ONNX file, and the command reports its times.

The command is a line with `{onnx}` for the file's path on this machine, run without a shell, such as `./bench.sh
{onnx}`, which copies the file to the target. Its last line of output is JSON, `{"p50": ms, "p90": ms, "p99": ms, "n":
replicates, "device": "...", "runtime": "..."}`. Exit code 3 means that the target cannot run this network: the network
fails. Any other failure is the target's, and no network fails for it.
"""

import json
import math
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from nasseg.errors import MisfitError, UserError
from nasseg.measure.environment import environment
from nasseg.measure.latency.backends import Buildable, prepare
from nasseg.measure.latency.onnx_file import write_onnx
from nasseg.own_code import check_command
from nasseg.records import Latency, LatencyProtocol

TIMEOUT_SECONDS = 600.0
CANNOT_RUN = 3


class TargetUnreachable(UserError):  # noqa: N818  (a state of the target)
    """The target did not answer properly: other networks would fail too."""


def measure_on_target(
    arch: Buildable,
    protocol: LatencyProtocol,
    exclusive: Callable[[], AbstractContextManager[None]] = nullcontext,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Latency:
    """Return the latency that the protocol's command reports for the network. `exclusive` is held while it runs.

    Raises:
        TargetUnreachable: it timed out, could not be started, failed, or its output is malformed.
        CodeError: a record names the command, and the user has not run it here.
        UserError: it reports that it cannot run this network.
    """
    check_command(protocol.command)
    with tempfile.TemporaryDirectory(prefix="nasseg-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(prepare(arch, protocol), path, protocol.input_size, batch=protocol.batch)
        words = [word.replace("{onnx}", str(path)) for word in shlex.split(protocol.command)]
        with exclusive():
            answer = _answer(words, timeout_seconds)
    return _latency(answer, protocol)


def _answer(words: list[str], timeout_seconds: float) -> str:
    name = words[0]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=timeout_seconds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise TargetUnreachable(f"the target did not answer {name} in {timeout_seconds:g} s; check it") from None
    except OSError as error:
        raise TargetUnreachable(f"the target's command {name} does not start: {error.strerror}") from None
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    last = said[-1][:300] if said else "without a word"
    if done.returncode == CANNOT_RUN:
        raise MisfitError(f"the target cannot run this network: {last}")
    if done.returncode:
        raise TargetUnreachable(f"the target's command {name} failed with exit code {done.returncode}: {last}")
    return done.stdout


def _latency(answer: str, protocol: LatencyProtocol) -> Latency:
    line = next((line for line in reversed(answer.splitlines()) if line.strip()), "")
    try:
        found = json.loads(line)
        p50, p90, p99, n = (float(found[key]) for key in ("p50", "p90", "p99", "n"))
        iqr = float(found["iqr"]) if "iqr" in found else None
    except (ValueError, KeyError, TypeError) as error:
        rule = 'its last line must be JSON with the numbers "p50", "p90", "p99" (ms) and "n"'
        raise TargetUnreachable(f"the target's answer cannot be used ({error!r}): {rule}, got {line[:200]!r}") from None
    if not (0 < p50 <= p90 <= p99 < math.inf and n >= 1):
        raise TargetUnreachable(
            f"the target's answer cannot be used: 0 < p50 <= p90 <= p99 must hold, got {line[:200]}"
        )
    told = {key: str(found[key]) for key in ("device", "runtime") if key in found}
    return Latency(
        protocol=protocol,
        environment=environment(),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        iqr_ms=iqr,
        n=int(n),
        target=told,
    )
