#!/bin/sh
# Runs all tests and sums up: its last line is 'N passed, N failed' and, where so, ', N skipped'.
#
# loom's come last: they are the library once more, built with locks that loom watches, in a directory of their own.
# A test program that does not build, or dies, has no result line of its own: cargo's status tells.
set -eu
. "$(dirname "$0")/common.sh"
cd "$ROOT"

log=$TARGET/setup/test.log
status=$TARGET/setup/test.status
# Without debug information, which nobody needs there, and with loom itself optimized: it does most of the work.
loom() {
    CARGO_TARGET_DIR=$TARGET/loom RUSTFLAGS="--cfg loom" CARGO_PROFILE_TEST_DEBUG=0 \
        cargo test --lib --config 'profile.test.package.loom.opt-level=2' \
        --config 'profile.test.package.generator.opt-level=2' slot::models
}

# A pipe's status is its last command's, so cargo's goes by way of a file.
{
    code=0
    cargo test --no-fail-fast "$@" 2>&1 || code=$?
    loom 2>&1 || code=$?
    echo "$code" >"$status"
} | tee "$log"

awk -v status="$(cat "$status")" '
    # libtest writes "test NAME ... ignored, REASON", libtest-mimic "test NAME ... ignored (REASON)"; either may leave
    # the reason out.
    /^test .* \.\.\. ignored/ {
        line = $0
        sub(/^test /, "", line)
        name = line; sub(/ +\.\.\. ignored.*/, "", name)
        reason = line; sub(/.*\.\.\. ignored,? ?/, "", reason)
        if (reason ~ /^\(.*\)$/) reason = substr(reason, 2, length(reason) - 2)
        skipped_names[++names] = name (reason == "" ? " (marked ignored)" : ": " reason)
    }
    /^test .* \.\.\. FAILED/ {
        line = $0; sub(/^test /, "", line); sub(/ +\.\.\. FAILED.*/, "", line)
        failed_names[++failures] = line
    }
    /^test result: / {
        for (i = 1; i < NF; i++) {
            if ($(i + 1) == "passed;") passed += $i
            if ($(i + 1) == "failed;") failed += $i
            if ($(i + 1) == "ignored;") skipped += $i
        }
    }
    END {
        print ""
        for (i = 1; i <= failures; i++) print "failed: " failed_names[i]
        for (i = 1; i <= names; i++) print "skipped: " skipped_names[i]
        if (status != 0 && !failed) {
            print "failed: a test program did not build or did not end by itself; see above"
            failed = 1
        }
        if (!passed && !failed) {
            print "failed: no test ran"
            failed = 1
        }
        line = (passed + 0) " passed, " (failed + 0) " failed"
        print line (skipped ? ", " skipped " skipped" : "")
        exit failed > 0 || status != 0
    }' "$log"
