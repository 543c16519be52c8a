"""Time an ONNX file with ONNX Runtime, and print what nasseg reads: the place of a command that reaches your board."""

import json
import sys
import time

import numpy as np
import onnxruntime

REPLICATES = 50


def main(path: str) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    feed = {image.name: np.zeros(image.shape, np.float32)}
    times = []
    for _ in range(REPLICATES):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(1e3 * (time.perf_counter() - start))
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    where = {"device": "this machine", "runtime": f"onnxruntime {onnxruntime.__version__}"}
    print(json.dumps({"p50": p50, "p90": p90, "p99": p99, "n": REPLICATES, **where}))


if __name__ == "__main__":
    main(sys.argv[1])
