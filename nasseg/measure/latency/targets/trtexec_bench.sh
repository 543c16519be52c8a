#!/usr/bin/env bash
# Times an ONNX file with TensorRT's trtexec, for nasseg's backend `command`: "ssh board ./trtexec_bench.sh" and the file
# copied there first. Not run by nasseg's own tests: they have no TensorRT.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An engine that does not build is the network's fault: exit code 3.
trtexec --onnx="$1" --fp16 --warmUp=500 --duration=5 --percentile=50,90,99 >"$log" 2>&1 || { tail -n 3 "$log" >&2; exit 3; }
# [I] GPU Compute Time: min = 1.9 ms, max = 2.4 ms, mean = 2.0 ms, median = 2.0 ms, percentile(50%) = 2.0 ms, ...
line=$(grep 'GPU Compute Time' "$log" | tail -n 1)
value() { sed -n "s/.*percentile($1%) = \([0-9.]*\) ms.*/\1/p" <<<"$line"; }
count=$(sed -n 's/.*Timing trace has \([0-9]*\) queries.*/\1/p' "$log" | tail -n 1)
printf '{"p50": %s, "p90": %s, "p99": %s, "n": %s, "device": "%s", "runtime": "TensorRT fp16"}\n' \
    "$(value 50)" "$(value 90)" "$(value 99)" "${count:-1}" "$(uname -n)"
