#!/bin/sh
# U-Boot for QEMU's `virt`, out of Debian's u-boot-qemu: the firmware that a guest starts from in tests/linux.rs.
#
# Where it cannot be had, its folder gets a file `absent` with the reason, by which its trials count as skipped. It
# is looked for again after some hours.
set -eu
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"

FOLDER=$TARGET/guests/u-boot

[ -s "$FOLDER/u-boot.bin" ] && exit
[ -z "$(find "$FOLDER/absent" -mmin -240 2>/dev/null)" ] || exit 0
mkdir -p "$FOLDER"

absent() {
    echo "$1" >"$FOLDER/absent"
    say "no U-Boot: $1; tests that need it are skipped"
    exit 0
}

have apt-get && have dpkg-deb || absent "this machine has no apt"
open_suite "$RELEASE" || absent "$why"
say "fetching U-Boot, u-boot-qemu ($(megabytes_of u-boot-qemu) MB)"
fetch u-boot-qemu || absent "this machine's Debian mirror did not give u-boot-qemu of $RELEASE"
take u-boot-qemu './usr/lib/u-boot/qemu_arm64/u-boot.bin' "$FOLDER/u-boot.bin"
rm -f "$FOLDER/absent"
