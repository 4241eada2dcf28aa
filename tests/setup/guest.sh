#!/bin/sh
# The stock Debian 12 arm64 kernel with two of its modules, and a static arm64 busybox, out of Debian's packages.
set -eu
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"

FOLDER=$TARGET/guests/debian-6.1

# What is there may be older than what the initrd is made of, or somebody's own.
if guest_is_there; then
    [ -d "$FOLDER/modules" ] || take_modules 'linux-image-6.1.*-arm64' "$FOLDER"
    exit
fi
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
take_modules "$kernel" "$FOLDER"
take "$kernel" './boot/vmlinuz-*' "$FOLDER/Image"
say "the guest's kernel is Debian's $kernel"
