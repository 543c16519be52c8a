"""Times an ONNX file on the machine it runs on, for nasseg's backend `command`. Needs only numpy and onnxruntime.

Copy it to the target, and give nasseg a command that copies the file there and runs this, `./bench.sh {onnx}` with

    scp "$1" board:/tmp/model.onnx && ssh board python3 onnxruntime_bench.py /tmp/model.onnx
"""

import json
import platform
import sys
import time

import numpy as np
import onnxruntime

WARMUP, REPLICATES, SECONDS = 10, 50, 2.0
CANNOT_RUN = 3  # tells nasseg that the network is at fault, not the target
OF_THE_NETWORK = ("InvalidGraph", "NotImplemented")  # ONNX Runtime's errors about a file's content


def main(path: str) -> None:
    try:
        session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    except Exception as error:
        print(error, file=sys.stderr)
        sys.exit(CANNOT_RUN if type(error).__name__ in OF_THE_NETWORK else 1)
    image = session.get_inputs()[0]
    feed = {image.name: np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)}
    for _ in range(WARMUP):
        session.run(None, feed)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < REPLICATES or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(1e3 * (time.perf_counter() - start))
    p25, p50, p75, p90, p99 = np.percentile(times, [25, 50, 75, 90, 99])
    runtime = f"onnxruntime {onnxruntime.__version__} {session.get_providers()[0]}"
    found = {"p50": p50, "p90": p90, "p99": p99, "iqr": p75 - p25, "n": len(times)}
    print(json.dumps({**found, "device": platform.node(), "runtime": runtime}))


if __name__ == "__main__":
    main(sys.argv[1])
