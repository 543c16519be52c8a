"""A real search: CamVid (or scenes), three workers, latency on the device; a worker is killed, then the search, and it
is resumed to its end. Leaves the study's storage, its front and its report beside the results.
"""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests import ROOT
from tests.gpu.common import Items, Options, Row

NAME = "agenda-search"
STUDY = """
question: Which narrow forms of BiSeNetV2 and RegSeg are on the front of accuracy and latency of this device?
expected: a front of 4 to 10 networks
space: quickstart
data: {data}
objectives: [miou, latency_ms]
recipe: {recipe}
latency: {latency}
trials: {trials}
workers: 3
"""


def items(options: Options) -> Items:
    yield "a worker killed", partial(begun, options)
    yield "resumed", partial(resumed, options)
    yield "front", partial(front, options)


def study(options: Options) -> str:
    data = (
        {"name": str(options.data)} if options.data else {"name": "scenes", "size": [64, 128], "train": 64, "val": 16}
    )
    steps = 8 if options.tiny else 250
    recipe = {"steps": steps, "batch_size": 2 if options.tiny else 8, "warmup_steps": 2, "ema_decay": 0.98}
    recipe |= {"precision": "bf16", "scale_range": [0.75, 1.5]} if options.cuda else {}
    latency = {"device": options.device, **options.ways()[0], "min_seconds": 0.1}
    values = {"data": data, "recipe": recipe, "latency": latency, "trials": 8 if options.tiny else 24}
    return STUDY.format(**{key: json.dumps(value) for key, value in values.items()})  # JSON is YAML


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "nasseg", *map(str, words)]


def place(options: Options) -> tuple[Path, dict[str, str]]:
    folder = options.folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    patience = {"NASSEG_PATIENCE": "0"} if options.tiny else {}
    return folder, {**os.environ, **patience, "PYTHONPATH": os.pathsep.join(paths)}


def begun(options: Options) -> Row:
    """Kill a worker once a trial has ended, and the search once another has."""
    folder, environment = place(options)
    (folder / f"{NAME}.yaml").write_text(study(options))
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command("search", f"{NAME}.yaml"), cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        first = ended(folder, environment, process, 1)
        (victim, *_others) = workers(process.pid)
        os.kill(victim, signal.SIGKILL)
        second = ended(folder, environment, process, first + 1)
    finally:
        process.kill()
        process.wait()
    return {"ended before the worker was killed": first, "before the search was": second}


def ended(folder: Path, environment: dict[str, str], process: subprocess.Popen[bytes], wanted: int) -> int:
    """Wait until so many trials have ended."""
    while True:
        code = process.poll()
        found = trained(folder, environment)
        if found >= wanted:
            return found
        if code is not None:
            raise RuntimeError(f"the search ended with {code}: {(folder / 'output.txt').read_text()[-300:]}")
        time.sleep(0.5)


def trained(folder: Path, environment: dict[str, str]) -> int:
    asked = subprocess.run(
        command("status", NAME, "--json"), cwd=folder, env=environment, capture_output=True, text=True
    )
    return int(json.loads(asked.stdout)["trials"]["finished"]) if asked.returncode == 0 and asked.stdout.strip() else 0


def workers(pid: int) -> list[int]:
    """Return the processes that compute: those that a search's server of workers began."""
    return [worker for child in _children(pid) for worker in _children(child)]


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid:
            found.append(int(status.parent.name))
    return found


def resumed(options: Options) -> Row:
    folder, environment = place(options)
    begin = time.monotonic()
    done = subprocess.run(
        command("search", f"{NAME}.yaml"), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    (folder / "resumed.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-300:]}")
    return {"wall seconds": round(time.monotonic() - begin, 1), "last lines": done.stdout.splitlines()[-5:]}


def front(options: Options) -> Row:
    folder, environment = place(options)
    done = subprocess.run(
        command("front", NAME, "--json"), cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    report = folder / f"runs/{NAME}/report.html"
    return {"front": json.loads(done.stdout), "report": str(report), "ok": report.exists()}


def summary(rows: dict[str, Row], _options: Options) -> Row:
    return {key: row for key, row in rows.items() if key != "front"}
