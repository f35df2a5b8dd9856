#!/usr/bin/env bash
# On the GPU machine, in the root of the tree: `bash benchmarks/gpu/run.sh CALL`, CALL 1, 2 or 3.
# Every call ends within 9.5 min. Results go to $OUT, by default /tmp/out.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
call=$1
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CNNGRID_DATA=/tmp/data
export PYTHONPATH=/tmp/site:$PWD
out=${OUT:-/tmp/out}
mkdir -p "$out" /tmp/data
if [ ! -d /tmp/site ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target /tmp/site \
        .gpu/wheels/*.whl || exit 3
fi
exec > >(tee "$out/log-$call.txt") 2>&1
began=$SECONDS
left_s() { echo $((565 - SECONDS + began)); }
stage() { # NAME SECONDS COMMAND...: never beyond the call's end
    local most_s=$2
    [ "$most_s" -lt "$(left_s)" ] || most_s=$(left_s)
    [ "$most_s" -gt 15 ] || { echo "== $1: no time left"; return; }
    echo "== $1 (at most $most_s s)"
    shift 2
    timeout -k 5 "$most_s" "$@"
    echo "== exit $?"
}
bench() { # NAME SECONDS SECONDS_TO_MEASURE
    stage "$1" "$2" python3 -m benchmarks.gpu.bench_gpu "$1" --out "$out" --seconds "$3"
}
query=name,driver_version,memory.total,clocks.sm,mig.mode.current,compute_mode
nvidia-smi --query-gpu=$query --format=csv
python3 - <<'END'
import numpy, pyarrow, torch, torchvision
for library in (torch, torchvision, numpy, pyarrow):
    print(library.__name__, library.__version__)
END
# Images that came with this call; those of earlier calls are there if the machine is the same.
python3 benchmarks/gpu/unpack.py .gpu/data /tmp/data || echo "noise instead of images"
case $call in
1) # is it right, and what takes the time
    stage tests 200 python3 -m pytest -q -rxXs -s -p no:cacheprovider tests/gpu
    stage marked 60 python3 -m pytest -q -p no:cacheprovider -m gpu tests/cnncore/measure
    bench ceilings 60 40
    bench solo 240 110
    ;;
2) # several at a time
    bench branches 120 100
    bench stacked 120 100
    bench packed 240 200
    stage sweep 60 python3 -m benchmarks.gpu.whole_sweep "$out"
    ;;
3) # accuracy with all images, and the first table once more
    bench accuracy 400 360
    bench solo 150 100
    ;;
*)
    echo "CALL is 1, 2 or 3, got '$call'"
    exit 2
    ;;
esac
nvidia-smi --query-gpu=clocks.sm,power.draw,temperature.gpu --format=csv,noheader
echo "call $call: $((SECONDS - began)) s"
