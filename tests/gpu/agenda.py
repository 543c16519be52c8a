"""Measurements for the time when a GPU is at hand, the most valuable first, in 24 minutes.

    python -m tests.gpu.agenda --results DIR/results.jsonl --data PATH/TO/camvid
    python -m tests.gpu.agenda --results DIR/results.jsonl --steps ground,lock
    python -m tests.gpu.agenda --results DIR/results.jsonl --device cpu --tiny     # the same code, small, without a GPU
    python -m tests.gpu.agenda --lacking                                           # wheels to carry there

The code travels as a tree: nothing is installed, and this file needs Python alone. Each step runs in a process of its
own that is killed when its time is over, and appends to one file, a line for each thing measured. What that file holds
already is not measured again: the same command goes on where it was stopped. A failure costs the thing that failed, and
is tried again the next time. Exit code 1: something failed.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STEPS = {  # seconds of each, 24 minutes in all; clocks, locks and searches need the networks to run first
    "ground": 240,
    "clock_ramp": 180,
    "lock": 150,
    "search": 390,
    "printed": 300,
    "throughput": 180,
}
MORE = {"networks": 540, "camvid": 1_500}  # with more minutes, by name
# What nasseg needs and a machine with torch may lack: module -> its wheel, and those that this one needs.
WHEELS = {
    "pydantic": "pydantic pydantic-core annotated-types typing-inspection",
    "optuna": "optuna alembic colorlog sqlalchemy greenlet mako",
    "plotly": "plotly narwhals",
    "fvcore": "fvcore iopath yacs portalocker",
    "pycocotools": "pycocotools",
    "fsspec": "fsspec",
    "pandas": "pandas",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "rich": "rich markdown-it-py mdurl pygments",
    "scipy": "scipy",
    "typer": "typer click shellingham annotated-doc",
    "pynvml": "nvidia-ml-py",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="the file that results are appended to")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of {', '.join([*STEPS, *MORE])}, in that order")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="few small networks and images")
    parser.add_argument("--data", type=Path, help="the folder of CamVid; procedural scenes without it")
    parser.add_argument("--lacking", action="store_true", help="only say which wheels this Python lacks")
    parser.add_argument("--alone", metavar="STEP", help=argparse.SUPPRESS)  # run it in this process
    given = parser.parse_args(arguments)
    if given.lacking:
        print(" ".join(lacking()) or "nothing is lacking")
        return 0
    if given.results is None:
        parser.error("--results FILE is needed: results are appended to it")
    names = [name.strip() for name in given.steps.split(",") if name.strip()]
    if unknown := [name for name in names if name not in STEPS | MORE]:
        parser.error(f"no such step: {', '.join(unknown)}; there are {', '.join(STEPS | MORE)}")
    given.results.parent.mkdir(parents=True, exist_ok=True)
    if given.alone:
        from tests.gpu.common import run_step

        return run_step(given.alone, given, (STEPS | MORE)[given.alone])
    if wheels := lacking():
        print(f"not here, and what needs them will fail: {' '.join(wheels)}", flush=True)
    passed = sys.argv[1:] if arguments is None else arguments
    return max([apart(name, passed, given.results, (STEPS | MORE)[name]) for name in names], default=0)


def lacking() -> list[str]:
    """Return the wheels of what cannot be imported here."""
    return [wheel for module, wheels in WHEELS.items() if not _there(module) for wheel in wheels.split()]


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def apart(name: str, passed: list[str], results: Path, seconds: float) -> int:
    """Run a step in a process of its own, and kill that with all below it when its time is over."""
    print(f"{name}: at most {seconds:g} s", flush=True)
    command = [sys.executable, "-m", "tests.gpu.agenda", *passed, "--alone", name]
    with subprocess.Popen(command, process_group=0) as process:
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            note(results, {"step": name, "key": "end", "failed": f"killed after {seconds:g} s"})
            code = 1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what a step that died left behind
    return int(code != 0)


def note(results: Path, row: dict) -> None:
    """Append a line, and see it on the disk: the machine may go at any moment."""
    with results.open("a") as file:
        file.write(json.dumps(row, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main())
