#!/bin/sh
# Builds all micro guests into target/guests/micro/NAME.img of the repository. Needs ld.lld (or LLD set to
# another lld that speaks ELF), and either a toolchain that has the target or BUILD_STD=1 with rust-src.
set -eu
cd "$(dirname "$0")"
target=aarch64-unknown-none-softfloat
export CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER="${LLD:-ld.lld}"
if [ -n "${BUILD_STD:-}" ]; then set -- -Zbuild-std=core "$@"; fi
${CARGO:-cargo} build --release --target $target "$@"
out=../../target/guests/micro
mkdir -p $out
for source in src/bin/*.rs; do
    name=$(basename "$source" .rs)
    cmp -s ../../target/micro/$target/release/"$name" $out/"$name".img || cp ../../target/micro/$target/release/"$name" $out/"$name".img
done
