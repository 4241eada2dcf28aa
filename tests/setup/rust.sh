#!/bin/sh
# A compiler for the bare-metal target: rustup's where the target can be added, else Debian's with build-std.
#
# Leaves rust.env, which tests/setup/metal reads. MEZZ_RUST=rustup or =debian insists on one of them.
set -eu
. "$(dirname "$0")/common.sh"

try_rustup() {
    have rustup || return 1
    rustup_has_target && return
    say "adding $METAL_TARGET to the Rust toolchain (rustup)"
    timeout 120 rustup target add "$METAL_TARGET" || {
        say "rustup could not add it"
        return 1
    }
    rustup_has_target
}

use_rustup() {
    write_env "METAL_ROUTE=rustup"
    say "the image is compiled by rustup's $(rustc --version | cut -d' ' -f1-2)"
}

install_debian() {
    debian_rust_is_ready && return
    need_apt
    apt_update
    candidate=$(version_of apt-cache show --no-all-versions rustc-web)
    at_least "${candidate:-0}" $MIN_RUST ||
        die "Debian's rustc-web is ${candidate:-not on offer} here and $MIN_RUST is needed: enable the -security suite" \
            "in apt's sources, or let 'rustup target add $METAL_TARGET' reach its server"
    apt_install "a compiler with the sources of core and alloc for $METAL_TARGET; about 190 MB to fetch" \
        rustc-web cargo-web rust-web-src rust-web-clippy lld
    debian_rust_is_ready || die "/usr/bin/rustc, its sources in /usr/src or ld.lld are still missing after installing them"
}

use_debian() {
    write_env "METAL_ROUTE=debian"
    say "the image is compiled by Debian's $(/usr/bin/rustc --version | cut -d' ' -f1-2), core and alloc included"
}

write_env() {
    printf '%s\n' "$1" >"$STATE/rust.env.tmp"
    mv "$STATE/rust.env.tmp" "$STATE/rust.env"
}

case ${MEZZ_RUST-either} in
rustup)
    try_rustup || die "MEZZ_RUST=rustup, but rustup has no $METAL_TARGET"
    use_rustup
    ;;
debian)
    install_debian
    use_debian
    ;;
either)
    if try_rustup; then
        use_rustup
    else
        install_debian
        use_debian
    fi
    ;;
*) die "MEZZ_RUST is '$MEZZ_RUST'; it may be rustup or debian" ;;
esac
