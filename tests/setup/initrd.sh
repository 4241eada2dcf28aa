#!/bin/sh
# Packs a guest's initrd: busybox, the files of tests/linux/root and the kernel's modules for the power key; the same
# bytes on every machine.
#
#   initrd.sh            target/guests/initrd.gz, for the kernel in target/guests/debian-6.1
#   initrd.sh kernels    target/guests/KERNEL/initrd.gz for each further kernel that is there, where something changed
#
# No device nodes, so no root is needed: the kernel's devtmpfs has them.
set -eu
. "$(dirname "$0")/common.sh"

GUESTS=$TARGET/guests
TREE=$GUESTS/initrd.tree

# pack KERNEL FILE
pack() {
    rm -rf "$TREE"
    mkdir -p "$TREE/bin" "$TREE/sbin" "$TREE/usr/bin" "$TREE/usr/sbin" "$TREE/dev" "$TREE/proc" "$TREE/sys" \
        "$TREE/tmp" "$TREE/run" "$TREE/root" "$TREE/lib"
    cp "$GUESTS/cache/busybox" "$TREE/bin/busybox"
    cp -R "$ROOT/tests/linux/root/." "$TREE/"
    [ ! -d "$GUESTS/$1/modules" ] || cp -R "$GUESTS/$1/modules" "$TREE/lib/modules"
    find "$TREE" -type d -exec chmod 755 {} +
    find "$TREE" -type f -exec chmod 644 {} +
    chmod 755 "$TREE/bin/busybox" "$TREE/etc/rc" "$TREE/etc/acpi/PWRF/00000080" "$TREE/init"
    find "$TREE" -exec touch -h -d @0 {} +
    (cd "$TREE" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$2.cpio"
    gzip -n -9 <"$2.cpio" >"$2.tmp"
    mv "$2.tmp" "$2"
    rm -rf "$2.cpio" "$TREE"
}

case ${1-} in
'') pack debian-6.1 "$GUESTS/initrd.gz" ;;
kernels)
    for image in "$GUESTS"/debian-*/Image; do
        folder=${image%/Image}
        file=$folder/initrd.gz
        [ "$folder" != "$GUESTS/debian-6.1" ] && [ -d "$folder/modules" ] || continue
        [ ! -s "$file" ] || [ -n "$(find "$0" "$ROOT/tests/linux/root" "$folder/modules" -newer "$file")" ] || continue
        pack "$(basename "$folder")" "$file"
    done
    ;;
*) die "initrd.sh takes nothing, or 'kernels'" ;;
esac
