"""What is measured when a GPU is at hand, the most valuable first.

    python -m tests.gpu.agenda --out DIR --data PATH/TO/camvid
    python -m tests.gpu.agenda --out DIR --steps does_it_run,latency --seconds 240
    python -m tests.gpu.agenda --out DIR --device cpu --tiny          # the same code, small, without a GPU

Each step writes DIR/<step>.csv, a row as soon as it is known, and at its end DIR/<step>.json with the command, the
protocol, the environment, a summary and what was left out because --seconds were over. A step that fails says so and
the next one begins. Exit code 1: a step failed, or, in does_it_run, a network did.
"""

import argparse
import inspect
import json
import sys
import traceback
from pathlib import Path

import torch

from tests.gpu import camvid, does_it_run, latency, throughput
from tests.gpu.common import Deadline, Options, Results

STEPS = {"does_it_run": does_it_run, "latency": latency, "throughput": throughput, "camvid": camvid}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of {', '.join(STEPS)}, in that order")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="few small networks and images")
    parser.add_argument("--seconds", type=float, default=480, help="of each step; nothing new is begun after them")
    parser.add_argument("--data", type=Path, help="the folder of CamVid; procedural scenes without it")
    parser.add_argument("--train-steps", type=int, default=800, help="of each run on CamVid")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    names = [name.strip() for name in given.steps.split(",") if name.strip()]
    if unknown := [name for name in names if name not in STEPS]:
        parser.error(f"no such step: {', '.join(unknown)}; there are {', '.join(STEPS)}")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --device cpu --tiny tries the same code without one")
    options = Options(given.device, given.tiny, given.seconds, given.data, given.train_steps, given.seeds)
    command = " ".join(["python -m tests.gpu.agenda", *(sys.argv[1:] if arguments is None else arguments)])
    return max([run_step(name, options, given.out, command) for name in names], default=0)


def run_step(name: str, options: Options, out: Path, command: str) -> int:
    """One step, its rows and its summary; 1 where it failed."""
    step, results, deadline = STEPS[name], Results(out, name), Deadline(options.seconds)
    print(f"{name}: {str(step.__doc__).splitlines()[0]}", flush=True)
    failed = ""
    try:
        for row in step.run(options, deadline):
            results.add(row)
    except Exception:  # the rows so far and the next steps count
        failed = traceback.format_exc()
        print(failed, file=sys.stderr, flush=True)
    more = (options,) if len(inspect.signature(step.summary).parameters) > 1 else ()
    summary = step.summary(results.rows, *more) | ({"failed": failed} if failed else {})
    results.finish(command, step.protocol(options), summary, deadline.left_out)
    print(json.dumps(summary, indent=1, default=str)[:4_000], flush=True)
    if deadline.left_out:
        print(f"left out for lack of time: {len(deadline.left_out)}", flush=True)
    return int(bool(failed) or not results.rows or any(row.get("ok") is False for row in results.rows))


if __name__ == "__main__":
    sys.exit(main())
