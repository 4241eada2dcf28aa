#!/bin/sh
# The small tools of the host that every build here uses.
set -eu
. "$(dirname "$0")/common.sh"

packages=
have cc || packages="$packages gcc libc6-dev"
have objcopy || packages="$packages binutils"
have cpio || packages="$packages cpio"
have dtc || packages="$packages device-tree-compiler"
[ -x /bin/kill ] || [ -x /usr/bin/kill ] || packages="$packages procps"
[ -e /etc/ssl/certs/ca-certificates.crt ] || ! have dpkg-query || packages="$packages ca-certificates"

have cargo || die "no cargo on PATH; a Rust toolchain for this machine ($MIN_RUST or newer, by rustup) comes first"
rust=$(version_of rustc --version)
at_least "${rust:-0}" $MIN_RUST ||
    die "rustc is ${rust:-missing} and $MIN_RUST is needed; 'rustup update stable' brings it"

if [ -n "$packages" ]; then
    need_apt
    apt_update
    # shellcheck disable=SC2086
    apt_install "to link host programs, cut out the image, pack the guest's initrd, read trees and end processes in tests" $packages
fi
