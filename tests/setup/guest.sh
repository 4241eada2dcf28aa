#!/bin/sh
# The stock Debian 12 arm64 kernel and a static arm64 busybox, out of Debian's packages.
set -eu
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"

guest_is_there && exit
have apt-get && have dpkg-deb || die_by_hand "this machine has no apt"

open_suite $RELEASE || die "$why; docs/building.md says how to provide the guest's kernel by hand"
kernel=$(kernel_of linux-image-arm64)
[ -n "$kernel" ] || die "Debian's sources here offer no linux-image-arm64 of $RELEASE"

say "fetching the guest's kernel, $kernel ($(megabytes_of "$kernel") MB), and busybox"
for package in "$kernel" busybox-static; do
    fetch "$package" || die "could not fetch Debian's $package for arm64; the lines above say why"
done
take busybox-static './bin/busybox' "$CACHE/busybox"
chmod 755 "$CACHE/busybox"
take "$kernel" './boot/vmlinuz-*' "$TARGET/guests/debian-6.1/Image"
say "the guest's kernel is Debian's $kernel"
