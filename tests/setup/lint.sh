#!/bin/sh
# rustfmt and clippy for the host: rustup's components, else Debian's packages of the same version as rustc-web.
#
# Leaves lint.env: the PATH prefix under which `cargo fmt` and `cargo clippy` work.
set -eu
. "$(dirname "$0")/common.sh"

works() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1
}

write_env() {
    printf '%s\n' "$1" >"$STATE/lint.env.tmp"
    mv "$STATE/lint.env.tmp" "$STATE/lint.env"
}

if ! works && have rustup; then
    say "adding rustfmt and clippy to the Rust toolchain (rustup)"
    timeout 120 rustup component add rustfmt clippy || say "rustup could not add them"
fi
if works; then
    write_env "LINT_ROUTE=path"
else
    need_apt
    apt_update
    apt_install "to check format and lints" rustc-web cargo-web rust-web-clippy rustfmt-web
    write_env "LINT_ROUTE=debian"
fi
# shellcheck disable=SC1091
if (. "$STATE/rust.env" && [ "$METAL_ROUTE" = debian ]) && ! is_installed rust-web-clippy; then
    need_apt
    apt_update
    apt_install "to lint the image with the compiler that builds it" rust-web-clippy
fi
