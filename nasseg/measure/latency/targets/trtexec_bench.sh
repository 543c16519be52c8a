#!/usr/bin/env bash
# Times an ONNX file with TensorRT's trtexec, for nasseg's backend `command`: "ssh board ./trtexec_bench.sh" and the file
# copied there first. Not run by nasseg's own tests: they have no TensorRT.
set -euo pipefail
target() { echo "$1" >&2; exit 1; }  # the target's fault: no network is blamed
[[ -r ${1:-} ]] || target "no file ${1:-} here: copy it to the target first"
command -v trtexec >/dev/null || target "trtexec is not on the PATH of the target: add TensorRT's folder of programs"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! trtexec --onnx="$1" --fp16 --warmUp=500 --duration=5 --percentile=50,90,99 >"$log" 2>&1; then
    tail -n 3 "$log" >&2
    # Exit code 3 blames the network: only where TensorRT says that it cannot read or build it.
    grep -qiE 'cuda (initialization|error|failure)|no cuda-capable|insufficient driver|out of memory|cannot open' "$log" && exit 1
    grep -qiE 'failed to parse|parsing model failed|no importer|unsupported|could not find any implementation' "$log" && exit 3
    exit 1
fi
# [I] GPU Compute Time: min = 1.9 ms, max = 2.4 ms, mean = 2.0 ms, median = 2.0 ms, percentile(50%) = 2.0 ms, ...
line=$(grep 'GPU Compute Time' "$log" | tail -n 1)
value() { sed -n "s/.*percentile($1%) = \([0-9.]*\) ms.*/\1/p" <<<"$line"; }
count=$(sed -n 's/.*Timing trace has \([0-9]*\) queries.*/\1/p' "$log" | tail -n 1)
printf '{"p50": %s, "p90": %s, "p99": %s, "n": %s, "device": "%s", "runtime": "TensorRT fp16"}\n' \
    "$(value 50)" "$(value 90)" "$(value 99)" "${count:-1}" "$(uname -n)"
