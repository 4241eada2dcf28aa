#!/bin/sh
# Runs the micro guest `smpstress` SOAK times in a row, on four CPUs, GICv3 and GICv2 in turns; judged by its outcome alone.
#
# QEMU has a thread for each CPU (MTTCG), so that CPUs really race. The first run that does not end well ends it all,
# and leaves its transcript. SOAK_VCPUS, SOAK_CPUS and SOAK_ROUNDS change what a run is.
set -eu
. "$(dirname "$0")/common.sh"
cd "$ROOT"

runs=${SOAK:-200} vcpus=${SOAK_VCPUS:-6} cpus=${SOAK_CPUS:-4} rounds=${SOAK_ROUNDS:-10}
dir=$TARGET/soak
mkdir -p "$dir"
rm -f "$dir"/*.log
say "smpstress: $runs runs of $rounds rounds, $vcpus vCPUs on $cpus CPUs"
n=0
while [ "$n" -lt "$runs" ]; do
    n=$((n + 1))
    gic=$((3 - (n - 1) % 2))
    log=$dir/run-$n-gicv$gic.log
    code=0
    "$TARGET/mezz" run --kernel "$TARGET/guests/micro/smpstress.img" --memory 64M --vcpus "$vcpus" --cpus "$cpus" \
        --gic "$gic" --cmdline "rounds=$rounds" --timeout $((120 * ${MEZZ_TEST_PATIENCE:-1})) \
        </dev/null >"$log" 2>&1 || code=$?
    if [ "$code" -ne 0 ] || ! grep -q '^smpstress: ok' "$log" || grep -q 'FAIL' "$log"; then
        tail -n 40 "$log"
        die "run $n of $runs (GICv$gic) ended with status $code; its transcript: $log"
    fi
    rm "$log"
    [ $((n % 20)) -ne 0 ] || say "$n of $runs"
done
say "$runs runs of smpstress, all of them ok"
