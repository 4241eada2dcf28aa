#!/bin/sh
# Format, lints as errors (host and bare metal), the image's size, the documentation: all are tried, then judged.
set -eu
. "$(dirname "$0")/common.sh"
limit=$1
cd "$ROOT"

# shellcheck disable=SC1091
. "$STATE/lint.env"
on_host() {
    if [ "$LINT_ROUTE" = debian ]; then
        PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc "$@"
    else
        "$@"
    fi
}

image_fits() {
    size=$(wc -c <"$TARGET/mezzanine.img")
    echo "target/mezzanine.img has $size of $limit bytes"
    [ "$size" -le "$limit" ]
}

failed=
step() {
    name=$1
    shift
    say "$name"
    "$@" || failed="$failed${failed:+, }$name"
}

metal="$ROOT/tests/setup/metal"
step "format" on_host cargo fmt --check
step "lints, host" on_host cargo clippy --all-targets -- -D warnings
step "lints, image" "$metal" clippy --release --lib --bin mezzanine -- -D warnings
if [ -e tests/guests/Cargo.toml ]; then
    step "format, micro guests" on_host cargo fmt --check --manifest-path tests/guests/Cargo.toml
fi
step "format, fuzz targets" on_host cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
step "documentation" on_host env RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --no-deps --lib --document-private-items
step "size of the image" image_fits

[ -z "$failed" ] || die "check failed: $failed"
say "check passed"
