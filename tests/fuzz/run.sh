#!/bin/sh
# Fuzzes every target for so many seconds each, two at a time: run.sh SECONDS [TARGET...]
#
# Coverage is instrumented by flags that any Rust compiler has, so this needs no nightly one. New inputs are kept
# in target/fuzz/corpus; what breaks a target is left in target/fuzz with the command that shows it again.
# With MEZZ_FUZZ_KEEP=1 the corpus in the tree is made anew of the smallest inputs that reach as much.
set -eu
. "$(dirname "$0")/../setup/common.sh"
seconds=$1
shift
cd "$ROOT"

if ! have c++; then
    need_apt
    apt_update
    apt_install "to build libFuzzer" g++
fi
out=$TARGET/fuzz
mkdir -p "$out"
host=$(rustc -vV | awk '/^host:/ { print $2 }')
say "building the fuzz targets with coverage (some minutes the first time)"
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo build --release --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir "$out/build"
engine=$out/build/$host/release/fuzz

# The targets' names are the folders of the corpus.
[ $# -gt 0 ] || set -- $(ls tests/fuzz/corpus)

fuzz() {
    target=$1
    mkdir -p "$out/corpus/$target"
    if MEZZ_FUZZ=$target "$engine" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3072 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$out/$target-" "$out/corpus/$target" "tests/fuzz/corpus/$target" \
        >"$out/$target.log" 2>&1; then
        awk -v target="$target" '/stat::number_of_executed_units/ { runs = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
            END { printf "%s: fine after %d runs, %d edges covered\n", target, runs, cov }' "$out/$target.log"
    else
        tail -n 30 "$out/$target.log" >&2
        echo "failed: $target; again: MEZZ_FUZZ=$target $engine $(ls -t "$out/$target"-* 2>/dev/null | head -n 1)"
        return 1
    fi
}

keep() {
    target=$1
    fresh=$out/kept/$target
    rm -rf "$fresh" && mkdir -p "$fresh"
    MEZZ_FUZZ=$target "$engine" -merge=1 -max_len=4096 "$fresh" "tests/fuzz/corpus/$target" "$out/corpus/$target" >/dev/null 2>&1
    # Few and small: the smallest hundred.
    ls -Sr "$fresh" | head -n 100 | while read -r name; do cp "$fresh/$name" "tests/fuzz/corpus/$target/"; done
    say "$target: $(ls "tests/fuzz/corpus/$target" | wc -l) inputs in the tree"
}

failed=0
while [ $# -gt 0 ]; do
    fuzz "$1" & first=$!
    shift
    second=
    if [ $# -gt 0 ]; then
        fuzz "$1" & second=$!
        shift
    fi
    wait "$first" || failed=1
    [ -z "$second" ] || wait "$second" || failed=1
done
if [ "${MEZZ_FUZZ_KEEP:-}" ]; then
    for target in $(ls tests/fuzz/corpus); do keep "$target"; done
fi
[ "$failed" = 0 ] || die "fuzzing found something: see above"
say "fuzzing found nothing"
